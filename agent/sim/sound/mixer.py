"""Plays guests, their babble and the robot's echo into the hall, in real time, through one stream that never ends.

A piece of the stream is mixed LEAD_MS before it sounds; one that comes too late is lost, and the next sounds when it should. How many
samples lie between this stream and the recording of the hall is therefore the same all the time, and measured once.
"""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from agent.errors import NoLink
from agent.sim.sound.detect import Samples, pcm
from agent.sim.sound.server import HALL, SoundServer
from agent.sim.sound.stream import Stream, hurry
from agent.values import RATE_HZ

LEAD_MS = 40
"""Latency asked of the server: four of its blocks, of which this process may miss two or three."""

BLOCK_SAMPLES = RATE_HZ // 100


@dataclass(frozen=True, slots=True)
class Piece:
    """A sound and at which sample of the stream it begins."""

    begin: int
    samples: Samples

    @property
    def end(self) -> int:
        return self.begin + len(self.samples)


Source = Callable[[int, int], Samples]
"""What sounds from one sample of the stream to another."""


class Mixer:
    """One stream into the hall."""

    def __init__(self, server: SoundServer) -> None:
        self._pieces: list[Piece] = []
        self._sources: dict[str, Source] = {}
        self._changed = threading.Lock()
        self._stopping = threading.Event()
        self.written = 0
        """Samples so far."""
        self._stream = Stream(server, HALL, plays=True, latency_ms=LEAD_MS)
        self._thread = threading.Thread(target=self._write, name="play into the hall", daemon=True)
        self._thread.start()

    def add(self, samples: Samples) -> Piece:
        """Sounds as soon as it can."""
        with self._changed:
            piece = Piece(self.written, samples)
            self._pieces.append(piece)
            return piece

    def source(self, name: str, source: Source | None) -> None:
        """Sounds from now on, in place of the one of that name; None ends it. It is called in the mixer's thread."""
        with self._changed:
            self._sources.pop(name, None)
            if source is not None:
                self._sources[name] = source

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _write(self) -> None:
        """Until closed, or until the server is gone."""
        hurry(threading.get_native_id())
        with contextlib.closing(self._stream), contextlib.suppress(NoLink):
            while not self._stopping.is_set():
                self._stream.write(pcm(self._mixed()))

    def _mixed(self) -> Samples:
        with self._changed:
            begin, end = self.written, self.written + BLOCK_SAMPLES
            self.written = end
            pieces = [piece for piece in self._pieces if piece.begin < end]
            self._pieces = [piece for piece in self._pieces if piece.end > end]
            sources = list(self._sources.values())
        mix = np.zeros(BLOCK_SAMPLES, np.float32)
        for piece in pieces:
            first, last = max(begin, piece.begin), min(end, piece.end)
            mix[first - begin : last - begin] += piece.samples[first - piece.begin : last - piece.begin]
        for source in sources:
            mix += source(begin, end)
        return mix
