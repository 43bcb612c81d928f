"""Takes what robots send: confirms a message when it has been dealt with, finishes what it began when it stops."""

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from agent.clock import Clock
from agent.contract import wire
from agent.link.mqtt.message import Incoming
from agent.link.mqtt.steady import Mqtt
from agent.link.retry import Backoff
from agent.ports import LinkSettings

SESSION_S: Final = 3_600
"""How long the broker keeps what came for a consumer that is away, where robots send it again anyway; one of many that never comes
back must not go on taking its share."""

FINISH_S: Final = 10.0
"""What is being committed when a consumer is told to stop is answered within that, or comes again."""

AGAIN_MS, AGAIN_MS_MAX = 500, 30_000
"""Between two tries to commit, when the database refuses."""


class Consuming(ABC):
    """A connection of its own, with a receive maximum of its own: what one consumer has not confirmed holds no other up."""

    def __init__(
        self,
        settings: LinkSettings,
        name: str,
        filters: Sequence[str],
        clock: Clock,
        say: Callable[[str], None],
        *,
        session_s: int = SESSION_S,
    ) -> None:
        """`name` is its client id; they differ."""
        self._clock, self._say, self._name = clock, say, name
        self._mqtt = Mqtt(
            settings,
            name,
            clock,
            filters,
            self._heard,
            expiry_s=session_s,
            inflight_max=wire.RECEIVE_MAX,
            say=lambda why: say(f"{name}: {why}"),
        )
        self._open: set[asyncio.Task[None]] = set()
        self._stopping = False
        self.counts: Counter[str] = Counter()

    @property
    def connections(self) -> int:
        return self._mqtt.connections

    @property
    def up(self) -> bool:
        return self._mqtt.up

    @property
    def problem(self) -> str:
        return self._mqtt.problem

    async def ready(self) -> None:
        """Connects, if nobody has begun to, and returns when it is connected."""
        await self._mqtt.ready()

    async def run(self) -> None:
        """Until cancelled; then leaves in peace."""
        try:
            self._mqtt.start()
            await asyncio.get_running_loop().create_future()
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Finishes what it has begun; what comes meanwhile stays with the broker."""
        self._stopping = True
        if self._open:
            await asyncio.wait(self._open, timeout=FINISH_S)
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._mqtt.aclose()

    @abstractmethod
    def _heard(self, message: Incoming) -> None:
        """Takes a message, in the event loop, and owes it a `confirm`."""

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    def _backoff(self) -> Backoff:
        """Between tries to commit."""
        return Backoff(self._clock, AGAIN_MS, AGAIN_MS_MAX)

    def _failed(self, error: Exception, what: str) -> None:
        self._say(f"{self._name}: {what} fails: {type(error).__name__}: {error}")
        self.counts["failed"] += 1
