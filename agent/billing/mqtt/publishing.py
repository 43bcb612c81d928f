"""Publishes what is wanted of robots as soon as it is set, retained, so that a robot that is away gets it when it is back.

    pending -> published -> PUBACK -> noted as published; what the broker refuses stays pending and is tried again, later each time

A broker that has lost what it kept is healed robot by robot: a birth that tells another version is answered with the twin.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from agent.billing.twins import PENDING_MAX, Pending
from agent.clock import Clock
from agent.contract import wire
from agent.errors import VoxmeterError
from agent.link.mqtt.message import FAILURE, Incoming, Verdict
from agent.link.mqtt.steady import Mqtt
from agent.link.retry import Backoff
from agent.ports import LinkSettings

AGAIN_MS, AGAIN_MS_MAX = 1_000, 300_000
"""Between two tries, where broker or database refuse."""

SESSION_S: Final = 0
"""Nothing is subscribed to, so there is nothing the broker could keep."""


class Wanted(Protocol):
    """What is wanted of robots, as the one sees it who publishes it."""

    def listen(self, changed: Callable[[], None]) -> None: ...

    async def pending(self, *, after: tuple[str, str] = ("", "")) -> list[Pending]: ...

    async def published(self, tenant: str, name: str, version: int) -> None: ...


class Publishing:
    """One for a backend."""

    def __init__(self, settings: LinkSettings, wanted: Wanted, clock: Clock, *, say: Callable[[str], None] = lambda _: None) -> None:
        self._wanted, self._clock, self._say = wanted, clock, say
        self._mqtt = Mqtt(settings, "billing-twins", clock, [], _unheard, expiry_s=SESSION_S, say=lambda why: say(f"billing-twins: {why}"))
        self._changed = asyncio.Event()
        self._backoff = Backoff(clock, AGAIN_MS, AGAIN_MS_MAX)
        self.counts: Counter[str] = Counter()
        """Twins by what became of them: `published`, `refused`."""

    async def run(self) -> None:
        """Until cancelled; then leaves in peace."""
        self._wanted.listen(self._changed.set)
        try:
            while True:
                await self._mqtt.ready()
                self._changed.clear()
                if await self._all():
                    self._backoff = Backoff(self._clock, AGAIN_MS, AGAIN_MS_MAX)
                    await self._changed.wait()
                else:
                    await self._clock.sleep(self._backoff.next_ms() / 1000)
        finally:
            await self._mqtt.aclose()

    async def _all(self) -> bool:
        """Whether nothing is pending any more."""
        after, whole = ("", ""), True
        try:
            while True:
                found = await self._wanted.pending(after=after)
                for one in found:
                    whole = await self._one(one) and whole
                if len(found) < PENDING_MAX:
                    return whole
                after = found[-1][:2]
        except VoxmeterError as error:
            self._say(f"billing-twins: {error}")
            return False

    async def _one(self, one: Pending) -> bool:
        verdict = await self._mqtt.publish(wire.topic(one.tenant, one.device, wire.DESIRED), one.content, retained=True)
        if not _kept(verdict):
            self.counts["refused"] += 1
            self._say(f"billing-twins: {one.tenant}/{one.device}: the broker does not take the twin: {verdict.name}")
            return False
        await self._wanted.published(one.tenant, one.device, one.version)
        self.counts["published"] += 1
        return True


def _kept(verdict: Verdict) -> bool:
    """Also where nobody has subscribed yet: it is retained."""
    return 0 <= verdict.code < FAILURE


def _unheard(message: Incoming) -> None:
    message.confirm()
