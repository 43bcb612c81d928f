"""Notes what was refused to those who have no right to steer: an event for the backend's audit log, thinned out, and a line."""

import asyncio
from collections.abc import Callable

from agent.clock import Clock
from agent.contract import wire
from agent.contract.fleet import alarm
from agent.contract.fleet.alarm import Refusals
from agent.errors import VoxmeterError
from agent.fleet.running.refusals import LOOK_S, Refusal
from agent.fleet.running.refusals import Refusals as Thinned
from agent.ports import Outbox


class Refusing:
    """Of one opening."""

    def __init__(self, outbox: Outbox, clock: Clock, say: Callable[[str], None]) -> None:
        self._outbox, self._clock, self._say = outbox, clock, say
        self._thinned = Thinned()
        self._posting: set[asyncio.Task[None]] = set()
        self.total = 0
        """Refused since this opening."""

    def note(self, code: str, message: str) -> None:
        """A twin or a time that is none."""
        if refusal := self._thinned.note(code, message, self._clock.monotonic()):
            self.told(refusal)

    def told(self, refusal: Refusal) -> None:
        """Already thinned out, as the executor's are."""
        self.total += refusal.count
        times = f" ({refusal.count} times)" if refusal.count > 1 else ""
        self._say(f"from afar: refused, {refusal.code}: {refusal.message}{times}")
        task = asyncio.create_task(self._post(refusal))
        self._posting.add(task)
        task.add_done_callback(self._posting.discard)

    async def run(self) -> None:
        """Tells what waited, until cancelled; then what is left."""
        try:
            while True:
                await self._clock.sleep(LOOK_S)
                for refusal in self._thinned.due(self._clock.monotonic()):
                    self.told(refusal)
        finally:
            for refusal in self._thinned.rest():
                self.told(refusal)
            await asyncio.gather(*self._posting)

    async def _post(self, refusal: Refusal) -> None:
        now = self._clock.utc().isoformat(timespec="milliseconds")
        try:
            await self._outbox.post(wire.REFUSALS, alarm.written(Refusals(code=refusal.code, count=refusal.count, first=now, last=now)))
        except VoxmeterError as error:
            self._say(f"from afar: what was refused can't be kept: {error}")
