"""Takes twins and signed times one after the other, no faster than anybody honest sends them: whoever holds the broker could flood."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from agent.clock import Clock
from agent.link.bucket import Bucket
from agent.ports import Delivered

PER_SECOND, BURST = 2.0, 20
"""A backend sends one of each per connection; looking at one takes a millisecond."""

WAITING_MAX = 16

Take = Callable[[Delivered], Awaitable[None]]
"""Takes a message and confirms it."""


class Incoming:
    """Of one opening."""

    def __init__(self, takes: Mapping[str, Take], clock: Clock, note: Callable[[str, str], None]) -> None:
        """`takes` by topic; `note(code, message)` what was not even looked at."""
        self._takes, self._clock, self._note = takes, clock, note
        self._bucket = Bucket(clock, PER_SECOND, BURST)
        self._waiting: asyncio.Queue[Delivered] = asyncio.Queue(WAITING_MAX)
        self._last: dict[str, bytes] = {}

    def take(self, message: Delivered) -> bool:
        """From the link; False for a topic nobody takes. Returns at once, raises nothing."""
        if message.topic not in self._takes:
            return False
        if self._last.get(message.topic) == message.content:  # as it was looked at last: retained, or sent again
            message.confirm()
            return True
        try:
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:  # a twin is retained: it comes again with the next connection
            message.confirm()
            self._note("overrun", f"more than {WAITING_MAX} messages on {message.topic} at once")
        return True

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            message = await self._waiting.get()
            while not self._bucket.take():
                await self._clock.sleep(self._bucket.wait_ms() / 1000)
            await self._look(message)

    async def _look(self, message: Delivered) -> None:
        """What was not confirmed is looked at again when it comes again."""

        def confirm() -> None:
            self._last[message.topic] = message.content
            message.confirm()

        await self._takes[message.topic](replace(message, confirm=confirm))
