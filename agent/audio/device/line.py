"""What is played, sample by sample, and how much of it has been heard: pure but for the clock it asks, safe between two threads.

Theory of operation. All speech becomes one line of samples at one rate, and a piece is a stretch of it. Two positions move along the
line: `taken`, up to where the device has got its samples, and `heard`, up to where they have sounded, which is behind by what the
device buffers. A piece that is stopped, or sounds while the device is gone, gets a limit that its hearing never passes.

    play: the line grows at its end      fill: taken moves on, heard follows by the clock
    stop: a fade, then the rest is cut   lost, skip: taken moves on, heard does not
    pause: a fade, then nothing moves    duck: the gain, over one block

One resampler runs through a reply, so that pieces of a sentence join without a seam; what it holds back comes when the line runs dry.
"""

import functools
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import soxr

from agent.clock import Clock
from agent.values import Speech

FADE_MS = 10
"""Short enough to be at once, long enough not to click."""

Samples = np.ndarray[Any, np.dtype[np.int16]]

SILENCE = np.zeros(0, np.int16)


@functools.lru_cache(8)
def silent(samples: int) -> bytes:
    """So many samples of nothing; for each number the same object, so that nobody needs to look into it."""
    return bytes(samples * 2)


class Piece:
    """A stretch of the line. Implements the port Sounding."""

    def __init__(self, line: "Line", speech: Speech, start: int, end: int) -> None:
        self._line = line
        self.speech = speech
        self.start, self.end = start, end
        self.limit = end
        """It is never heard beyond this."""
        self.sounds_at: float | None = None
        self.most = 0

    @property
    def heard(self) -> int:
        return self._line.heard(self)

    @property
    def began_at(self) -> float | None:
        return self._line.began_at(self)

    def cut(self, at: int) -> None:
        self.limit = max(self.start, min(self.limit, at))


class Line:
    """Speech at `rate_hz`, 16-bit mono."""

    def __init__(self, rate_hz: int, clock: Clock, duck_db: float, settle: Callable[[], None] = lambda: None) -> None:
        """`settle` is called before anybody is told a position: it moves the line on to the present."""
        self.rate_hz = rate_hz
        self._clock = clock
        self._settle = settle
        self._lock = threading.Lock()
        self._ducked = 10 ** (-duck_db / 20)
        self._goal = 1.0
        self._gain = 1.0
        self._paused = False
        self._chunks: deque[Samples] = deque()
        self._pieces: deque[Piece] = deque()  # not yet heard to their ends
        self._resampler: soxr.ResampleStream | None = None
        self._from_hz = 0
        self._given = 0  # samples given to the resampler since it is there
        self._base = 0  # position at which its first sample stands
        self._taken = 0
        self._sounds_until = float("-inf")
        self._dry = True
        self._ran_dry = False  # and not because it was stopped
        self.gaps = 0
        """Times that speech which goes on came too late."""

    def play(self, speech: Speech) -> Piece:
        self._settle()
        with self._lock:
            self.gaps += self._ran_dry and not speech.text
            self._ran_dry = False
            self._prepare(speech.rate_hz)
            sound = np.frombuffer(speech.pcm, "<i2")
            start = self._base + self._given * self.rate_hz // self._from_hz
            self._given += len(sound)
            piece = Piece(self, speech, start, self._base + self._given * self.rate_hz // self._from_hz)
            self._chunks.append(sound if self._resampler is None else self._resampler.resample_chunk(sound))
            self._pieces.append(piece)
            self._dry = self._dry and not len(sound)
            return piece

    def duck(self, *, on: bool) -> None:
        self._settle()
        self._goal = self._ducked if on else 1.0

    def pause(self, *, on: bool) -> None:
        self._settle()
        self._paused = on

    def stop(self) -> None:
        self._settle()
        with self._lock:
            fade = SILENCE if self._gain == 0 else self._next(self._fade)
            end = self._taken + len(fade)
            for piece in self._pieces:
                piece.cut(end)
            self._pieces = deque(piece for piece in self._pieces if piece.start < end)
            self._chunks.clear()
            self._restart(end)
            self._ran_dry = False
            if len(fade):
                self._chunks.append((fade * np.linspace(1, 0, len(fade))).astype(np.int16))
            self._dry = not len(fade)

    def fill(self, samples: int, at: float) -> bytes:
        """The next samples, s16le; the first of them sounds at `at`. Silence where there is no more."""
        goal = 0.0 if self._paused else self._goal
        if self._gain == goal and (self._dry or not goal):
            return silent(samples)  # nearly always: a robot is silent for most of its life
        with self._lock:
            wanted = samples if goal else min(samples, self._fade) if self._gain else 0
            sound = self._next(wanted)
            self._count(len(sound), at)
            if not (self._gain == goal == 1.0):
                ramp = goal if self._gain == goal else np.linspace(self._gain, goal, wanted, dtype=np.float32)[: len(sound)]
                sound = (sound * ramp).astype(np.int16)
                self._gain = goal
            return sound.tobytes().ljust(samples * 2, b"\0")

    def lost(self) -> None:
        """The device is gone: what has not sounded by now is not heard."""
        with self._lock:
            now = self._clock.monotonic()
            heard = self._heard_at(now)
            for piece in self._pieces:
                if piece.start < self._taken:
                    piece.cut(heard)
            self._sounds_until = min(self._sounds_until, now)

    def skip(self, samples: int) -> None:
        """So much time passes and nobody hears anything."""
        with self._lock:
            if self._paused:
                return
            before = self._taken
            self._taken += len(self._next(samples))
            for piece in self._pieces:
                if piece.start < self._taken and piece.end > before:
                    piece.cut(before)

    def busy(self) -> bool:
        """Something waits or sounds."""
        self._settle()
        return not self._dry or self._clock.monotonic() < self._sounds_until

    def heard(self, piece: Piece) -> int:
        self._settle()
        with self._lock:
            piece.most = max(piece.most, min(self._heard_at(self._clock.monotonic()), piece.limit))
        length = piece.end - piece.start
        within = piece.most - piece.start
        if within < 0 or (within == 0 and length):
            return 0
        return piece.speech.said(len(piece.speech.pcm) // 2 * within // length if length else 0)

    def began_at(self, piece: Piece) -> float | None:
        self._settle()
        at = piece.sounds_at
        return at if at is not None and at <= self._clock.monotonic() else None

    @property
    def _fade(self) -> int:
        return self.rate_hz * FADE_MS // 1000

    def _heard_at(self, now: float) -> int:
        ahead = self._sounds_until - now
        return self._taken - round(ahead * self.rate_hz) if ahead > 0 else self._taken

    def _prepare(self, from_hz: int) -> None:
        """A resampler for what comes: the one that runs, or a new one where the rate changes."""
        if from_hz != self._from_hz:
            self._flush()
            self._restart(self._taken + sum(map(len, self._chunks)))
            self._from_hz = from_hz
        if self._resampler is None and from_hz != self.rate_hz:
            self._resampler = soxr.ResampleStream(from_hz, self.rate_hz, 1, dtype="int16")

    def _restart(self, base: int) -> None:
        self._resampler, self._given, self._base, self._from_hz = None, 0, base, 0

    def _flush(self) -> bool:
        """What the resampler holds back joins the line; False: nothing."""
        if self._resampler is None or not self._given:
            return False
        tail = self._resampler.resample_chunk(np.zeros(0, np.int16), last=True)
        self._chunks.append(tail)
        self._resampler = None
        return True

    def _next(self, samples: int) -> Samples:
        """Takes up to so many samples off the line."""
        got: list[Samples] = []
        missing = samples
        while missing and not self._dry:
            if not self._chunks:
                if self._flush():
                    continue
                self._run_dry(self._taken + samples - missing)
                break
            chunk = self._chunks.popleft()
            got.append(chunk[:missing])
            if len(chunk) > missing:
                self._chunks.appendleft(chunk[missing:])
            missing -= len(got[-1])
        return got[0] if len(got) == 1 else np.concatenate(got) if got else SILENCE

    def _run_dry(self, end: int) -> None:
        self._dry = True
        self._ran_dry = self._from_hz > 0
        if self._pieces and (last := self._pieces[-1]).limit == last.end:
            last.end = last.limit = min(last.end, end)  # a rounded sample that never was
        self._restart(end)

    def _count(self, samples: int, at: float) -> None:
        """They are taken, and the first of them sounds at `at`."""
        if not samples:
            return
        heard = self._heard_at(self._clock.monotonic())
        while self._pieces and self._pieces[0].limit <= heard:
            self._pieces.popleft()
        before = self._taken
        self._taken += samples
        self._sounds_until = at + samples / self.rate_hz
        for piece in self._pieces:
            if piece.start >= self._taken:
                break
            if piece.sounds_at is None and piece.limit > piece.start:
                piece.sounds_at = at + max(0, piece.start - before) / self.rate_hz
