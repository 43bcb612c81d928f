"""The end-of-turn detector: its features against the definition, its word on finished and unfinished speech."""

from pathlib import Path

import numpy as np
import pytest

from agent.audio import wav
from agent.engines.eot_smart_turn import COLUMNS, FLOOR, HOP, SAMPLES, WINDOW, EotSmartTurn, LogMel, mel_filters
from agent.errors import EngineFailed
from agent.values import RATE_HZ
from tests.conftest import tone
from tests.engines.helpers import settings


def defined(sound: np.ndarray) -> np.ndarray:
    """Whisper's features as they are defined: column by column, in double precision, nothing left out."""
    whole = np.concatenate([np.zeros(max(0, SAMPLES - len(sound))), sound[-SAMPLES:].astype(np.float64)])
    whole = (whole - whole.mean()) / np.sqrt(whole.var() + 1e-7)
    padded = np.pad(whole, WINDOW // 2, mode="reflect")
    hann = np.hanning(WINDOW + 1)[:-1]
    power = [np.abs(np.fft.rfft(padded[at * HOP : at * HOP + WINDOW] * hann)) ** 2 for at in range(COLUMNS)]
    bands = np.log10(np.maximum(np.array(power) @ mel_filters(), FLOOR)).T
    features: np.ndarray = (np.maximum(bands, bands.max() - 8) + 4) / 4
    return features


@pytest.mark.parametrize("seconds", [0.01, 1.0, 2.503, 7.99, 8.0, 9.7])
@pytest.mark.parametrize("offset", [0.0, 0.2])
def test_features_are_whispers(seconds: float, offset: float) -> None:
    noise = np.random.default_rng(1).normal(size=int(seconds * RATE_HZ)) * 0.01
    sound = (tone(seconds)[: len(noise)] + noise + offset).astype(np.float32)
    features = LogMel().of(sound)
    assert features.shape == (80, 800)
    assert features.dtype == np.float32
    assert np.abs(features - defined(sound)).max() < 1e-3


def test_silence_alone_has_features() -> None:
    assert np.isfinite(LogMel().of(np.zeros(RATE_HZ, np.float32))).all()


@pytest.fixture(scope="module")
def detector(models: Path) -> EotSmartTurn:
    return EotSmartTurn(settings("eot_smart_turn", models))


def said(detector: EotSmartTurn, *pieces: bytes) -> list[float]:
    return [probability for probability, _ in detector.run(iter(pieces)) if probability is not None]


def test_a_question_is_complete_and_its_beginning_is_not(detector: EotSmartTurn, question: Path) -> None:
    whole = b"".join(wav.read(question))
    loud = np.flatnonzero(np.abs(np.frombuffer(whole, "<i2")) > 500)
    ended = whole[: (int(loud[-1]) + RATE_HZ // 10) * 2]
    complete, begun = said(detector, ended, whole[: RATE_HZ * 2 * 12 // 10])
    assert complete > 0.5 > begun


def test_what_is_not_16_bit_sound_is_refused(detector: EotSmartTurn) -> None:
    for broken in (b"", b"\0", b"\0\0\0"):
        with pytest.raises(EngineFailed, match="not 16-bit sound"):
            said(detector, broken)
    assert said(detector, b"\0\0")
