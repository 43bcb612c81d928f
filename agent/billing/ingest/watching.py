"""Tells whoever watches what was committed; a watcher that does not keep up is dropped and slows nobody."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

BEHIND_MAX: Final = 256
"""Commits a watcher may be behind: seconds of a busy backend, and a few MiB."""

Seen = list[dict[str, Any]]


class Watcher:
    """Iterates over what is committed from now on, a list for each batch. Ends when it was too slow, or is closed."""

    def __init__(self, watchers: "Watchers") -> None:
        self._watchers = watchers
        self._queue: asyncio.Queue[Seen | None] = asyncio.Queue()
        self.dropped = False
        """It was too slow."""

    def offer(self, seen: Seen) -> None:
        if self._queue.qsize() >= BEHIND_MAX:
            self.dropped = True
            self.close()
        else:
            self._queue.put_nowait(seen)

    def close(self) -> None:
        """What it has not read yet is lost to it."""
        self._watchers.forget(self)
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    def __aiter__(self) -> AsyncIterator[Seen]:
        return self

    async def __anext__(self) -> Seen:
        seen = await self._queue.get()
        if seen is None:
            self._queue.put_nowait(None)
            raise StopAsyncIteration
        return seen


class Watchers:
    """All of them."""

    def __init__(self) -> None:
        self._all: list[Watcher] = []

    def __len__(self) -> int:
        return len(self._all)

    def watch(self) -> Watcher:
        watcher = Watcher(self)
        self._all.append(watcher)
        return watcher

    def forget(self, watcher: Watcher) -> None:
        if watcher in self._all:
            self._all.remove(watcher)

    def tell(self, seen: Sequence[dict[str, Any]]) -> None:
        for watcher in list(self._all) if seen else ():
            watcher.offer(list(seen))

    def close(self) -> None:
        for watcher in list(self._all):
            watcher.close()
