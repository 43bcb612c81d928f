"""What is played, at other rates than that of the line it comes from."""

from collections.abc import Callable

import numpy as np
import soxr

from agent.audio.device.frames import QUALITY
from agent.audio.device.line import Samples, silent
from agent.values import RATE_HZ

LINE_HZ = 48_000
"""What most devices play natively; another rate is resampled on the way out."""

DOWN = LINE_HZ // RATE_HZ

SETTLED_SAMPLES = LINE_HZ // 10
"""After so much silence there is nothing else in a resampler, which holds 6 ms."""


class Down:
    """From the line's rate to that of what is heard, without work for what is silence."""

    def __init__(self) -> None:
        self._resampler = soxr.ResampleStream(LINE_HZ, RATE_HZ, 1, dtype="int16", quality=QUALITY)
        self._silent = 0  # samples of silence that went in last

    def take(self, pcm: bytes) -> bytes:
        samples = len(pcm) // 2
        nothing = pcm is silent(samples)
        if nothing and self._silent >= SETTLED_SAMPLES and samples % DOWN == 0:
            return silent(samples // DOWN)
        self._silent = self._silent + samples if nothing else 0
        sound: Samples = self._resampler.resample_chunk(np.frombuffer(pcm, "<i2"))
        return sound.tobytes()


class Rated:
    """Between the line and a device of another rate."""

    def __init__(self, rate_hz: float, take: Callable[[int, float], bytes]) -> None:
        self.rate_hz = rate_hz
        self._take = take
        self._resampler = soxr.ResampleStream(LINE_HZ, rate_hz, 1, dtype="int16", quality=QUALITY)
        self._held = bytearray()

    def take(self, samples: int, at: float) -> bytes:
        while len(self._held) < samples * 2:
            at_there = at + len(self._held) / 2 / self.rate_hz
            pcm = self._take(max(1, round(samples * LINE_HZ / self.rate_hz)), at_there)
            self._held += self._resampler.resample_chunk(np.frombuffer(pcm, "<i2")).tobytes()
        taken = bytes(self._held[: samples * 2])
        del self._held[: samples * 2]
        return taken
