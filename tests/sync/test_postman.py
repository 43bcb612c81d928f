"""The outbox is emptied in order; what a broker does not take now stays, what it never takes is given up with a word."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.errors import LedgerFull
from agent.ports import Posted, Refused, Retry
from agent.sim.clock import SimulatedClock
from agent.store.ledger import SqliteLedger
from agent.sync.postman import Postman
from tests.store.ledger.world import ROBOT

ODD = Refused("forbidden", "the broker refuses it: Not authorized")


class Broker:
    """Takes each message the second time it is offered, and never what it is told to refuse."""

    def __init__(self, refusing: bytes = b"") -> None:
        self.offered: list[bytes] = []
        self.taken: list[bytes] = []
        self.here = asyncio.Event()
        self.here.set()
        self._refusing = refusing

    async def ready(self) -> None:
        await self.here.wait()
        await asyncio.sleep(0)

    async def post(self, topic: str, body: bytes, *, retained: bool = False) -> Retry | Refused | None:
        assert (topic, retained) == ("event/handoff", False)
        if not self.here.is_set():
            return Retry("not connected")
        self.offered.append(body)
        if body == self._refusing:
            return ODD
        if self.offered.count(body) < 2:
            return Retry("Quota exceeded")
        self.taken.append(body)
        return None


class Stumbling(SqliteLedger):
    """Fails once in each way before it tells what waits."""

    faults: list[Exception]

    async def posted(self) -> list[Posted]:
        if self.faults:
            raise self.faults.pop()
        return await super().posted()


async def until(true: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(20):
        while not await true():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def carrying(postman: Postman):  # type: ignore[no-untyped-def]  # a context, as pytest's own
    running = asyncio.create_task(postman.run())
    yield running
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


NUMBERS = [b"%d" % number for number in range(5)]


async def filled(ledger: SqliteLedger) -> None:
    for number in NUMBERS:
        await ledger.post("event/handoff", number)


def test_everything_is_delivered_once_and_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        ledger, broker = SqliteLedger(tmp_path, ROBOT, SimulatedClock(seed=5)), Broker()
        postman = Postman(ledger, broker, SimulatedClock(seed=6))
        async with carrying(postman):
            await filled(ledger)
            await until(lambda: _empty(ledger))
        assert broker.taken == NUMBERS
        assert (postman.problem, postman.refused) == ("", 0)
        await ledger.aclose()

    asyncio.run(main())


def test_what_is_never_taken_is_given_up_with_one_word_and_blocks_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        said: list[str] = []
        ledger, broker = SqliteLedger(tmp_path, ROBOT, SimulatedClock(seed=5)), Broker(refusing=b"1")
        postman = Postman(ledger, broker, SimulatedClock(seed=6), said.append)
        async with carrying(postman):
            await filled(ledger)
            await until(lambda: _empty(ledger))
        assert broker.taken == [one for one in NUMBERS if one != b"1"]
        assert broker.offered.count(b"1") == 1
        assert postman.refused == len(said) == 1
        assert "event/handoff" in said[0]
        assert said[0].endswith(ODD.why)
        await ledger.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("fault", [LedgerFull("no room"), RuntimeError("a fault of ours")])
def test_it_outlives_every_fault_and_says_the_ones_nobody_expects(tmp_path: Path, fault: Exception) -> None:
    async def main() -> None:
        said: list[str] = []
        ledger, broker = Stumbling(tmp_path, ROBOT, SimulatedClock(seed=5)), Broker()
        ledger.faults = [fault]
        await filled(ledger)
        async with carrying(Postman(ledger, broker, SimulatedClock(seed=6), said.append)) as running:
            await until(lambda: _empty(ledger))
            assert not running.done()
        assert broker.taken == NUMBERS
        assert said == (["the outbox: RuntimeError: a fault of ours"] if isinstance(fault, RuntimeError) else [])
        await ledger.aclose()

    asyncio.run(main())


def test_while_the_link_is_dead_nothing_is_lost_not_even_over_a_start(tmp_path: Path) -> None:
    async def main() -> None:
        ledger, broker = SqliteLedger(tmp_path, ROBOT, SimulatedClock(seed=5)), Broker()
        broker.here.clear()
        async with carrying(Postman(ledger, broker, SimulatedClock(seed=6))):
            await filled(ledger)
            await asyncio.sleep(0.05)
        assert broker.offered == []
        await ledger.aclose()
        again = SqliteLedger(tmp_path, ROBOT, SimulatedClock(seed=7))
        assert [one.body for one in await again.posted()] == NUMBERS
        async with carrying(Postman(again, broker, SimulatedClock(seed=8))):
            broker.here.set()
            await until(lambda: _empty(again))
        assert broker.taken == NUMBERS
        await again.aclose()

    asyncio.run(main())


async def _empty(ledger: SqliteLedger) -> bool:
    return not await SqliteLedger.posted(ledger)
