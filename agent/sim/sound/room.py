"""What a hall does to sound: an echo with its delay and ring, and the voices of people who do not mean the robot. Pure, from seeds."""

from collections.abc import Sequence

import numpy as np

from agent.clock import seeded
from agent.sim.sound.detect import Samples, speech_level_db
from agent.values import RATE_HZ

RING_S = 0.3
"""Time in which the ring falls by 60 dB: a furnished lobby."""

RING_PART = 0.15
"""Strength of the ring's beginning against the direct sound."""

FFT_SAMPLES = 1024
"""Transforms are a multiple of this long: nearly as fast as powers of two, and shorter."""

BABBLE_VOICES, BABBLE_S = 6, 20
"""More voices are noise, fewer are a conversation; then it repeats."""


def response(level_db: float, seed: int, ring_s: float = RING_S) -> Samples:
    """What comes back of one click: the direct sound, then a ring that dies away; `level_db` in all."""
    chance = seeded(seed)
    count = int(RATE_HZ * ring_s)
    ring = np.array([chance.gauss(0, RING_PART) for _ in range(count)]) * 10 ** (-3 * np.arange(count) / count)
    ring[0] = 1
    return np.asarray(ring * 10 ** (level_db / 20) / np.sqrt(np.sum(ring**2)), np.float32)


class Ring:
    """Convolves with a response, piece by piece."""

    def __init__(self, response: Samples) -> None:
        self.before = len(response) - 1
        """Samples that lie before a piece and still ring in it."""
        self._response = response
        self._spectra: dict[int, np.ndarray] = {}

    def of(self, sound: Samples) -> Samples:
        """The echo of what follows the first `before` samples."""
        size = -(-len(sound) // FFT_SAMPLES) * FFT_SAMPLES
        if size not in self._spectra:
            self._spectra[size] = np.fft.rfft(self._response, size)
        echo = np.fft.irfft(np.fft.rfft(sound, size) * self._spectra[size], size)  # wraps around only into what is cut off
        return np.asarray(echo[self.before : len(sound)], np.float32)


def babble(voices: Sequence[Samples], level_db: float, seed: int, seconds: int = BABBLE_S) -> Samples:
    """BABBLE_VOICES people who talk at once, each saying the recordings in an order of his own; `level_db` in all."""
    chance = seeded(seed)
    crowd = np.zeros(seconds * RATE_HZ, np.float32)
    for _ in range(BABBLE_VOICES):
        at = chance.randrange(RATE_HZ)
        while at < len(crowd):
            said = voices[chance.randrange(len(voices))]
            piece = said[: len(crowd) - at] * 10 ** (-speech_level_db(said, RATE_HZ) / 20)
            crowd[at : at + len(piece)] += piece
            at += len(said) + chance.randrange(RATE_HZ // 10, RATE_HZ // 2)
    loudness = np.sqrt(np.mean(crowd**2))
    return np.asarray(crowd * 10 ** (level_db / 20) / loudness, np.float32)


def at_level(samples: Samples, level_db: float) -> Samples:
    """The same speech at that level, pauses left out of the measure; silence stays silence."""
    level = speech_level_db(samples, RATE_HZ)
    return samples if level <= -90 else np.asarray(samples * 10 ** ((level_db - level) / 20), np.float32)
