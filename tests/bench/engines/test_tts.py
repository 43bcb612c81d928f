"""How alike two sounds are."""

import numpy as np
import pytest

from agent.bench.engines.tts import snr_db

SOUND = np.sin(np.arange(8_000) / 9) * 10_000


@pytest.mark.parametrize(
    ("other", "decibel"),
    [(SOUND, 120), (SOUND * 0.99, 40), (SOUND * 0.999, 60), (SOUND[:-1], 0), (-SOUND, -6)],
    ids=["the same", "a hundredth off", "a thousandth off", "shorter", "reversed"],
)
def test_sounds_are_compared_sample_by_sample(other: np.ndarray, decibel: float) -> None:
    assert snr_db(SOUND, other) == pytest.approx(decibel, abs=0.1)
