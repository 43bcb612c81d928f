"""Decides who may follow the usage live, and for how long: some at once, each as long as their credential is good."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from starlette.requests import HTTPConnection

from agent.billing.access.credentials import Principal
from agent.billing.access.denied import TooMany
from agent.billing.http.backend import Backend
from agent.billing.ingest.watching import Seen, Watcher
from agent.errors import VoxmeterError

HEARTBEAT_S = 15
"""Proxies and NATs forget a connection that is silent for a minute or less. So often the credential is looked at again as well."""

FOLLOWING_MAX = 100
"""Live streams at once; each costs a connection and a queue."""

OF_ONE_MAX = 10
"""Of one credential: one that is shared or leaks leaves room for others."""

RETRY_MS = 5_000
"""Whoever found no room, or lost its stream, comes back after so long."""


class Following:
    """One live stream. `async for` over `seen()` inside `open()`."""

    def __init__(self, held: Backend, caller: Principal, connection: HTTPConnection) -> None:
        """Raises TooMany where there is no room."""
        self._held, self._caller, self._again = held, caller, connection.state.again
        self._check_room()
        self.ended = (1001, "the backend stops")
        """Why it ended, as a WebSocket says it."""

    @contextmanager
    def open(self) -> Iterator[Watcher]:
        """What is committed from now on; nothing once the backend stops. Raises TooMany: others may have come meanwhile."""
        self._check_room()
        held, id_ = self._held, self._caller.id
        watch = held.ingest.watch()
        held.metrics.watchers += 1
        held.following[id_] += 1
        try:
            yield watch
        finally:
            held.metrics.watchers -= 1
            held.following[id_] -= 1
            if not held.following[id_]:
                del held.following[id_]
            watch.close()

    async def seen(self, watch: Watcher) -> AsyncIterator[Seen]:
        """What is committed, until it was too slow, the backend stops, or the credential is no longer good."""
        clock = self._held.clock
        due = clock.monotonic() + HEARTBEAT_S
        while True:
            try:
                async with asyncio.timeout(max(0.0, due - clock.monotonic())):
                    told = await anext(watch, None)
            except TimeoutError:
                told = []
            if told is None:
                self.ended = (1013, "too slow") if watch.dropped else self.ended
                return
            if clock.monotonic() >= due:
                if not await self._is_good():
                    self.ended = (1008, "the credential is no longer good")
                    return
                due = clock.monotonic() + HEARTBEAT_S
            if told:
                yield told

    async def _is_good(self) -> bool:
        try:
            await self._again()
        except VoxmeterError:  # revoked, expired, or nobody can say
            return False
        return True

    def _check_room(self) -> None:
        held = self._held
        if held.metrics.watchers >= FOLLOWING_MAX or held.stopping.is_set():
            raise TooMany("no more can follow the usage just now", "try again later", RETRY_MS)
        if held.following[self._caller.id] >= OF_ONE_MAX:
            raise TooMany(f"this credential follows the usage {OF_ONE_MAX} times already", "end one of its streams", RETRY_MS)
