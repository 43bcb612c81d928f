"""Records a monitor of the sound server and knows when each sample was there.

A sample comes late by what the system is busy with, never early: of the blocks of the last seconds the one that came soonest says when
all were there. Server and process read the same clock, so there is no drift. Two tracks of the same latency can be compared.
"""

import contextlib
import threading
from collections import deque

import numpy as np

from agent.clock import Clock
from agent.errors import NoLink
from agent.sim.sound.detect import Samples, floats
from agent.sim.sound.server import SoundServer
from agent.sim.sound.stream import Stream, hurry
from agent.values import RATE_HZ

LATENCY_MS = 10
"""Asked of the server, and so the length of its blocks."""

READ_BYTES = RATE_HZ * 2 // 100
"""10 ms."""

KEPT_SECONDS = 180
"""Of the recording."""

SOONEST_OF = 1_000
"""Blocks; a gap in the recording is forgotten after so many."""


class Track:
    """One recording that is under way."""

    def __init__(self, server: SoundServer, source: str, clock: Clock) -> None:
        self._clock = clock
        self._held = bytearray()
        self._begin = 0  # index of the first sample held
        self._offsets: deque[float] = deque(maxlen=SOONEST_OF)
        self._changed = threading.Lock()
        self._stopping = threading.Event()
        self._stream = Stream(server, source, plays=False, latency_ms=LATENCY_MS)
        self._thread = threading.Thread(target=self._read, name=f"record {source}", daemon=True)
        self._thread.start()

    @property
    def end(self) -> int:
        """Samples recorded so far."""
        with self._changed:
            return self._begin + len(self._held) // 2

    @property
    def running(self) -> bool:
        """False once the server is gone."""
        return self._thread.is_alive()

    @property
    def began_at(self) -> float:
        """Monotonic time of the first sample, as far as is known; 0 before anything was recorded."""
        with self._changed:
            return min(self._offsets, default=0.0)

    def time_of(self, index: int) -> float:
        return self.began_at + index / RATE_HZ

    def index_at(self, time: float) -> int:
        return round((time - self.began_at) * RATE_HZ)

    def samples(self, begin: int, end: int) -> Samples:
        """Silence where nothing was recorded yet, or it is no longer held."""
        with self._changed:
            first, last = (min(max(0, each - self._begin), len(self._held) // 2) for each in (begin, end))
            held = floats(bytes(self._held[first * 2 : last * 2]))
            first, last = first + self._begin, last + self._begin
        if first >= last:
            return np.zeros(max(0, end - begin), np.float32)
        return np.pad(held, (first - begin, end - last))

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _read(self) -> None:
        """Until closed, or until the server is gone."""
        hurry(threading.get_native_id())
        with contextlib.closing(self._stream), contextlib.suppress(NoLink):
            while not self._stopping.is_set():
                block = self._stream.read(READ_BYTES)
                self._take(block, self._clock.monotonic())

    def _take(self, block: bytes, at: float) -> None:
        with self._changed:
            self._held += block
            self._offsets.append(at - (self._begin + len(self._held) // 2) / RATE_HZ)
            if (over := len(self._held) - KEPT_SECONDS * RATE_HZ * 2) > RATE_HZ * 2:
                del self._held[:over]
                self._begin += over // 2
