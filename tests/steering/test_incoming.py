"""Twins and times are looked at one after the other, at a pace, once; what floods is not looked at at all."""

import asyncio

from agent.clock import SystemClock
from agent.ports import Delivered
from agent.sim.clock import SimulatedClock
from agent.steering.incoming import BURST, WAITING_MAX, Incoming

TWIN = "twin/desired"


class Taker:
    def __init__(self, *, confirms: bool = True) -> None:
        self.looked: list[bytes] = []
        self.confirms = confirms

    async def take(self, message: Delivered) -> None:
        self.looked.append(message.content)
        if self.confirms:
            message.confirm()


class Came:
    """Messages as a link gives them, and which were confirmed."""

    def __init__(self) -> None:
        self.confirmed: list[bytes] = []

    def message(self, content: bytes, topic: str = TWIN) -> Delivered:
        return Delivered(topic, content, retained=False, confirm=lambda: self.confirmed.append(content))


async def settled(incoming: Incoming) -> None:
    running = asyncio.create_task(incoming.run())
    for _ in range(200):
        await asyncio.tasks.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_each_is_looked_at_and_the_same_again_only_confirmed() -> None:
    async def main() -> None:
        taker, came = Taker(), Came()
        incoming = Incoming({TWIN: taker.take}, SystemClock(), lambda *_: None)
        for content in (b"one", b"two"):
            assert incoming.take(came.message(content))
        await settled(incoming)
        assert incoming.take(came.message(b"two"))
        assert taker.looked == [b"one", b"two"]
        assert came.confirmed == [b"one", b"two", b"two"]
        assert not incoming.take(came.message(b"x", "usage/lease"))

    asyncio.run(main())


def test_what_could_not_be_kept_is_looked_at_again() -> None:
    async def main() -> None:
        taker, came = Taker(confirms=False), Came()
        incoming = Incoming({TWIN: taker.take}, SystemClock(), lambda *_: None)
        for _ in range(2):
            incoming.take(came.message(b"one"))
            await settled(incoming)
        assert taker.looked == [b"one", b"one"]
        assert came.confirmed == []

    asyncio.run(main())


def test_a_flood_is_confirmed_noted_and_not_looked_at() -> None:
    async def main() -> None:
        taker, came, noted = Taker(), Came(), [0]

        def note(code: str, _message: str) -> None:
            assert code == "overrun"
            noted[0] += 1

        incoming = Incoming({TWIN: taker.take}, SimulatedClock(seed=1), note)
        for number in range(1_000):
            incoming.take(came.message(b"%d" % number))
        await settled(incoming)
        assert len(taker.looked) <= min(BURST, WAITING_MAX)
        assert noted[0] == 1_000 - WAITING_MAX
        assert len(came.confirmed) >= noted[0]

    asyncio.run(main())
