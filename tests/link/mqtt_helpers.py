"""A broker of one's own, and who connects to it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from agent.clock import SystemClock
from agent.contract import wire
from agent.link.mqtt.connection import Connection
from agent.link.mqtt.message import Incoming, Verdict
from agent.link.mqtt.steady import Mqtt
from agent.ports import LinkSettings
from agent.sim.real.broker import BACKEND, HOST, Broker

CLOCK = SystemClock()
MARKS = {"vx-key": "k", "vx-sig": "s"}

PATIENCE_S = 20.0
"""A test that waits longer has failed; no test measures time."""


def as_robot(broker: Broker, device: str = "r1", tenant: str = "demo") -> LinkSettings:
    certificate, key = broker.client(f"{tenant}/{device}")
    return LinkSettings(tenant, device, HOST, broker.port, broker.authority.decode(), certificate, key)


def as_backend(broker: Broker) -> LinkSettings:
    certificate, key = broker.client(BACKEND)
    return LinkSettings("-", BACKEND, HOST, broker.port, broker.authority.decode(), certificate, key)


async def until(true: Callable[[], object]) -> None:
    """Waits until something is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.01)


async def within(awaited: Awaitable[object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await awaited


def confirming(into: list[Incoming]) -> Callable[[Incoming], None]:
    """Keeps what comes and confirms it."""

    def heard(message: Incoming) -> None:
        into.append(message)
        message.confirm()

    return heard


def live(mqtt: Mqtt) -> Connection:
    """The connection it has now."""
    connection = mqtt._connection
    assert connection is not None
    return connection


def play(story: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 60))


class Backend:
    """Answers each batch and each question as told, at the broker's other end."""

    def __init__(self, broker: Broker, *, silent: bool = False, refusing: bytes = b"") -> None:
        self.heard: list[Incoming] = []
        self._silent, self._refusing = silent, refusing
        self.mqtt = Mqtt(as_backend(broker), "billing-1", CLOCK, [wire.EVERY_BATCH, wire.EVERY_MARK], self._came)
        self._tasks: set[asyncio.Task[Verdict]] = set()

    def _came(self, message: Incoming) -> None:
        self.heard.append(message)
        message.confirm()
        if not self._silent:
            marks = MARKS | ({wire.REFUSED: "x"} if self._refusing else {})
            self.answer(message.correlation, self._refusing or b"ack", marks)

    def answer(self, correlation: bytes, content: bytes, marks: Mapping[str, str] = MARKS) -> None:
        self._tasks.add(asyncio.ensure_future(self.mqtt.publish("v1/demo/r1/usage/ack", content, correlation, marks)))

    async def aclose(self) -> None:
        await asyncio.gather(*self._tasks)
        await self.mqtt.aclose()
