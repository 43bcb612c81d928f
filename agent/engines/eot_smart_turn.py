"""Smart Turn, an end-of-turn detector: the probability that whoever spoke has finished, from how it sounds, in any language.

It sees the last 8 s as Whisper would: 80 mel bands in logarithms, a column per 10 ms. Shorter sound stands at the end of the 8 s,
and all columns of the silence before it are the same, so only one of them is computed.
"""

from collections.abc import Generator, Iterator

import numpy as np
import numpy.typing as npt
import onnxruntime

from agent.engines.worker import Step, session_options
from agent.errors import EngineFailed
from agent.ports import EngineSettings
from agent.values import RATE_HZ, StageUsage

SAMPLES = 8 * RATE_HZ
"""What the model sees."""

WINDOW, HOP = RATE_HZ // 40, RATE_HZ // 100
"""25 ms of sound in a column, one every 10 ms."""

COLUMNS = SAMPLES // HOP
BANDS = 80

FLOOR = 1e-10
RANGE_DECADES = 8
"""What is this far below the loudest is silence."""

LINEAR_HERTZ = 1_000.0
"""Slaney's mel scale is linear up to here, 3 mels per 200 Hz, and logarithmic above, 27 mels per factor of 6.4."""

NOTHING = StageUsage()
"""Listening is not metered."""

Floats = npt.NDArray[np.float32]


class EotSmartTurn:
    """Worker behind the port Eot."""

    def __init__(self, settings: EngineSettings) -> None:
        self._session = onnxruntime.InferenceSession(str(settings.files["smart-turn.onnx"]), session_options(settings.threads))
        self._features = LogMel()
        self._probability(np.zeros(RATE_HZ, np.float32))  # the first run allocates; no customer should wait for it

    def run(self, inputs: Iterator[bytes]) -> Generator[Step[float]]:
        for pcm in inputs:
            if len(pcm) < 2 or len(pcm) % 2:
                raise EngineFailed(f"{len(pcm)} bytes are not 16-bit sound")
            yield self._probability(np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768)), NOTHING

    def _probability(self, sound: Floats) -> float:
        return float(self._session.run(None, {"input_features": self._features.of(sound)[None]})[0][0, 0])


class LogMel:
    """Whisper's features of the last 8 s, after the sound is brought to mean 0 and variance 1."""

    def __init__(self) -> None:
        turn = np.arange(WINDOW) * (2 * np.pi / WINDOW)
        self._window = (0.5 - 0.5 * np.cos(turn)).astype(np.float32)
        self._filters = mel_filters().astype(np.float32)

    def of(self, sound: Floats) -> Floats:
        """(BANDS, COLUMNS) of sound in [-1, 1] at RATE_HZ."""
        sound = sound[-SAMPLES:]
        silent = SAMPLES - len(sound)
        mean = float(sound.sum(dtype=np.float64)) / SAMPLES
        power = float(np.square(sound, dtype=np.float64).sum()) / SAMPLES
        scale = 1 / np.sqrt(max(power - mean * mean, 0) + 1e-7)
        first = max(0, silent // HOP - 2)  # the first column that may reach into the sound; those before are like it
        whole = np.full(SAMPLES - first * HOP, -mean * scale, np.float32)
        whole[silent - first * HOP :] = (sound - mean) * scale
        columns = self._columns(np.pad(whole, WINDOW // 2, mode="reflect"))[: COLUMNS - first]
        features = np.empty((BANDS, COLUMNS), np.float32)
        features[:, first:] = columns.T
        features[:, :first] = columns[:1].T
        scaled: Floats = (np.maximum(features, features.max() - RANGE_DECADES) + 4) / 4
        return scaled

    def _columns(self, sound: Floats) -> Floats:
        """Logarithm of the mel bands, a row per column of the picture."""
        pieces = np.lib.stride_tricks.sliding_window_view(sound, WINDOW)[::HOP]
        spectrum = np.fft.rfft(pieces * self._window)
        power = spectrum.real**2 + spectrum.imag**2
        return np.log10(np.maximum(power @ self._filters, np.float32(FLOOR)))


def mel_filters() -> npt.NDArray[np.float64]:
    """(bins, BANDS): triangles evenly spaced on the mel scale up to half of RATE_HZ, each of the same area."""
    edges = hertz(np.linspace(0, mel(RATE_HZ / 2), BANDS + 2))
    bins = np.linspace(0, RATE_HZ / 2, WINDOW // 2 + 1)[:, None]
    low, peak, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins - low) / (peak - low), (high - bins) / (high - peak)
    return np.maximum(0, np.minimum(rising, falling)) * (2 / (high - low))


def mel(frequency: float) -> float:
    """Of a frequency in hertz, above LINEAR_HERTZ."""
    return 15 + 27 * float(np.log(frequency / LINEAR_HERTZ) / np.log(6.4))


def hertz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(mels < 15, mels * 200 / 3, LINEAR_HERTZ * 6.4 ** ((mels - 15) / 27))
