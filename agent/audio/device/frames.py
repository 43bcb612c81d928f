"""Cuts what a microphone gives into pieces of 10 ms, has each cleaned, and joins them to frames."""

from typing import Protocol

import numpy as np
import soxr

from agent.ports import HeardFrame
from agent.values import FRAME_SAMPLES, RATE_HZ

PIECE_SAMPLES = RATE_HZ // 100
"""10 ms: what echo cancellers take."""

FULL = 32_767
"""A sample this large was cut off, or is about to be."""

FULL_MIN = 3
"""So many in a block are clipping; one may be chance."""

QUALITY = "LQ"
"""Holds back 6 ms of sound where the best holds back 21; both pass all that speech has at 16 kHz."""


class Cleaner(Protocol):
    """Takes the robot's own voice and the noise out of what is heard."""

    def clean(self, pcm10ms: bytes) -> bytes:
        """PIECE_SAMPLES samples, s16le mono at RATE_HZ; returns as many."""
        ...

    @property
    def guest(self) -> bool:
        """Somebody else than the robot may be heard in what was cleaned last."""
        ...


class Framer:
    """For one open stream: what was held back of a stream that ended belongs to no other."""

    def __init__(self, rate_hz: float, channels: int, cleaner: Cleaner | None) -> None:
        self._channels = channels
        self._rate_hz = rate_hz
        self._resampler = None if rate_hz == RATE_HZ else soxr.ResampleStream(rate_hz, RATE_HZ, 1, dtype="int16", quality=QUALITY)
        self._cleaner = cleaner
        self._held = 0.0  # samples at our rate that are inside the resampler
        self._raw = bytearray()
        self._clean = bytearray()
        self._guest = False  # in any piece since the last frame

    def take(self, pcm: bytes, at: float) -> list[HeardFrame]:
        """The frames that are whole now. `pcm` is s16le, its channels interleaved; its last sample was captured at `at`."""
        self._raw += self._at_our_rate(pcm)
        frames = []
        while len(self._raw) >= PIECE_SAMPLES * 2:
            piece = bytes(self._raw[: PIECE_SAMPLES * 2])
            del self._raw[: PIECE_SAMPLES * 2]
            self._clean += self._cleaner.clean(piece) if self._cleaner else piece
            self._guest = self._guest or self._cleaner is None or self._cleaner.guest
            if len(self._clean) >= FRAME_SAMPLES * 2:
                frames.append(self._frame(at))
        return frames

    def _frame(self, at: float) -> HeardFrame:
        frame = bytes(self._clean[: FRAME_SAMPLES * 2])
        del self._clean[: FRAME_SAMPLES * 2]
        guest, self._guest = self._guest, False
        after = (len(self._clean) + len(self._raw)) / 2 + self._held
        return HeardFrame(frame, at - after / RATE_HZ, guest)

    def _at_our_rate(self, pcm: bytes) -> bytes:
        if self._channels == 1 and self._resampler is None:
            return pcm
        sound = np.frombuffer(pcm, "<i2")
        if self._channels > 1:
            sound = sound.reshape(-1, self._channels).mean(axis=1).astype("<i2")
        if self._resampler is not None:
            self._held += len(sound) * RATE_HZ / self._rate_hz
            sound = self._resampler.resample_chunk(sound)
            self._held -= len(sound)
        return sound.tobytes()


def flaws(pcm: bytes) -> tuple[bool, bool]:
    """(nothing but zeros, clipped)."""
    sound = np.frombuffer(pcm, "<i2")
    if not sound.any():
        return True, False
    return False, int(np.count_nonzero((sound >= FULL) | (sound <= -FULL))) >= FULL_MIN


def loud(pcm: bytes, above: float) -> bool:
    """Its root mean square is above that part of full scale."""
    sound = np.frombuffer(pcm, "<i2").astype(np.float32)
    return bool(np.sqrt(np.mean(sound**2)) > above * 32_768) if len(sound) else False
