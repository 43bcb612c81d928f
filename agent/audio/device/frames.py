"""Cuts what a microphone gives into pieces of 10 ms, has them cleaned, and joins them to frames."""

from typing import Protocol

import numpy as np
import soxr

from agent.ports import HeardFrame
from agent.values import FRAME_SAMPLES, RATE_HZ

PIECE_SAMPLES = RATE_HZ // 100
"""10 ms: what echo cancellers take."""

PIECE_BYTES = PIECE_SAMPLES * 2

FULL = 32_767
"""A sample this large was cut off, or is about to be."""

FULL_MIN = 3
"""So many in a block are clipping; one may be chance."""

STILL = b"\x00\xff"
"""Upper bytes of samples below 256 of 32,768: no voice at a counter is as soft for a whole block, and a room without people is softer."""

QUALITY = "LQ"
"""Holds back 6 ms of sound where the best holds back 21; both pass all that speech has at 16 kHz."""


class Cleaner(Protocol):
    """Takes the robot's own voice and the noise out of what is heard."""

    def clean_all(self, pcm: bytes) -> tuple[bytes, list[bool]]:
        """Whole pieces of PIECE_SAMPLES samples, s16le mono at RATE_HZ. Returns as much, and of each piece whether somebody else than
        the robot may be heard in it."""
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
        size = len(self._raw) // PIECE_BYTES * PIECE_BYTES
        whole = bytes(self._raw[:size])
        del self._raw[:size]
        cleaned, guests = self._cleaner.clean_all(whole) if self._cleaner and whole else (whole, [True] * (size // PIECE_BYTES))
        frames = []
        for number, guest in enumerate(guests, 1):
            self._clean += cleaned[(number - 1) * PIECE_BYTES : number * PIECE_BYTES]
            self._guest = self._guest or guest
            if len(self._clean) >= FRAME_SAMPLES * 2:
                frames.append(self._frame(at, size - number * PIECE_BYTES))
        return frames

    @property
    def over_s(self) -> float:
        """What there is already of the next frame."""
        return (len(self._clean) + len(self._raw)) / 2 / RATE_HZ

    def _frame(self, at: float, more: int) -> HeardFrame:
        """The next; so many bytes that came with it are not yet counted in."""
        frame = bytes(self._clean[: FRAME_SAMPLES * 2])
        del self._clean[: FRAME_SAMPLES * 2]
        guest, self._guest = self._guest, False
        after = (len(self._clean) + len(self._raw) + more) / 2 + self._held
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


def peak(pcm: bytes) -> int:
    """The largest sample, whatever its sign; 0 for nothing but zeros."""
    sound = np.frombuffer(pcm, "<i2")
    return max(int(sound.max()), -int(sound.min())) if len(sound) else 0


def still(pcm: bytes) -> bool:
    """Nobody speaks in it; told without a look at every sample, for it is asked in the sound system's thread."""
    return not pcm[1::2].translate(None, STILL)


def clipped(pcm: bytes) -> bool:
    """So many of its samples were cut off that it was no chance."""
    sound = np.frombuffer(pcm, "<i2")
    return int(np.count_nonzero((sound >= FULL) | (sound <= -FULL))) >= FULL_MIN


def loud(pcm: bytes, above: float) -> bool:
    """Its root mean square is above that part of full scale."""
    sound = np.frombuffer(pcm, "<i2").astype(np.float32)
    return bool(np.sqrt(np.mean(sound**2)) > above * 32_768) if len(sound) else False
