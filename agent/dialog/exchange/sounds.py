"""Keeps the sound of what is said again and again, so that it is made, and billed, once."""

from collections import OrderedDict

from agent.values import Speech

BYTES_MAX = 32 * 1024 * 1024
"""Some twelve minutes of speech: every answer of a large FAQ that is ever asked for."""


class Sounds:
    """Sound by the text it says, least recently used out first."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._kept: OrderedDict[str, tuple[Speech, ...]] = OrderedDict()
        self._bytes_max = bytes_max
        self._bytes = 0

    def get(self, text: str) -> tuple[Speech, ...]:
        """The pieces, in order; none if it is not kept."""
        if text not in self._kept:
            return ()
        self._kept.move_to_end(text)
        return self._kept[text]

    def keep(self, text: str, pieces: tuple[Speech, ...]) -> None:
        """Keeps what was made whole."""
        size = _size(pieces)
        if text in self._kept or not size or size > self._bytes_max:
            return
        self._kept[text] = pieces
        self._bytes += size
        while self._bytes > self._bytes_max:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= _size(oldest)


def _size(pieces: tuple[Speech, ...]) -> int:
    return sum(len(piece.pcm) for piece in pieces)
