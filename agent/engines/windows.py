"""Decides into which pieces a sentence's sound is cut, and which frames a network must see to make a piece exactly."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.float32]
"""[1, channels, frames]"""

FRAMES_FIRST = 20
"""Of the first piece, 0.23 s: the customer waits for it. A shorter one saves 4 ms and leaves the next piece no time to be made."""

FRAMES_LAST = 10
"""Fewer go with the piece before: alone they would cost three times as much."""

FRAMES_MAX = 96
"""Of any piece, 1.1 s: bounds memory, and the wait for a cancel."""

GROWTH = 2
"""Every piece is so much longer than the one before: overlaps cost less, and there is always more sound left than making more takes."""

STRETCH = 0.4
"""A piece may be so much longer or shorter to end where a word ends."""


def pieces(frames: int, words: Sequence[int] = ()) -> Iterator[tuple[int, int]]:
    """[first, last) of each piece, growing. `words` are the frames where words end: a piece ends at the best one in reach."""
    first, size = 0, FRAMES_FIRST
    while frames - first > size * (1 + STRETCH):
        near = [end for end in words if abs(end - first - size) <= size * STRETCH]
        last = min(near, key=lambda end: abs(end - first - size), default=first + size)
        if frames - last < FRAMES_LAST:
            break
        yield first, last
        first, size = last, min(size * GROWTH, FRAMES_MAX)
    if frames > first:
        yield first, frames


class Ahead:
    """Runs a network over frames as far as they are wanted, in windows that overlap so that their seams don't show."""

    def __init__(self, run: Callable[[int, int], Frames], frames: int, overlap: int) -> None:
        self._run, self._frames, self._overlap = run, frames, overlap
        self._made: list[Frames] = []
        self._ready = 0

    def until(self, frame: int) -> Frames:
        """All frames so far, at least up to `frame`. Each time at least as many are made as there are, so that overlaps stay few."""
        if self._ready < min(frame, self._frames):
            last = min(max(frame, 2 * self._ready), self._frames)
            self._made.append(window(self._run, self._ready, last, self._frames, self._overlap))
            self._ready = last
        self._made = [np.concatenate(self._made, axis=-1)]
        return self._made[0]


def window(run: Callable[[int, int], Frames], first: int, last: int, frames: int, overlap: int) -> Frames:
    """What a network that keeps the length makes of frames [first, last), given `overlap` more on either side where there are any."""
    since, until = max(0, first - overlap), min(frames, last + overlap)
    made = run(since, until)
    scale = made.shape[-1] // (until - since)
    return made[..., (first - since) * scale : (last - since) * scale]
