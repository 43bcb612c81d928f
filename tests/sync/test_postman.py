"""The outbox is emptied in order; what a broker does not take now stays, what it never takes is given up with a word."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.errors import LedgerFull
from agent.ports import UNHEARD, Posted, Refused, Retry
from agent.sim.clock import SimulatedClock
from agent.store.ledger import SqliteLedger
from agent.store.ledger.outbox import TAKEN_AT_ONCE
from agent.sync.postman import AGAIN_SECONDS, AGAIN_SECONDS_MAX, ASIDE_SECONDS, UNHEARD_SECONDS, Postman
from tests.store.ledger.world import ROBOT

ODD = Refused("too-big", "the broker refuses it: Packet too large")
NO_RIGHT = Refused("forbidden", "the broker refuses it: Not authorized")


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

    async def posted(self, skipped: int = 0) -> list[Posted]:
        if self.faults:
            raise self.faults.pop()
        return await super().posted(skipped)


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
            await until(lambda: _true(postman.problem == ""))  # it looks once more
        assert (broker.taken, postman.refused) == (NUMBERS, 0)
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


class Guarded:
    """Takes everything but what its list does not allow; others read along how often each topic was offered."""

    def __init__(self, *forbidden: str, answer: Refused = NO_RIGHT) -> None:
        self.forbidden, self.answer = set(forbidden), answer
        self.offered: list[str] = []
        self.taken: list[str] = []

    async def ready(self) -> None:
        await asyncio.sleep(0)

    async def post(self, topic: str, body: bytes, *, retained: bool = False) -> Retry | Refused | None:
        del body, retained
        self.offered.append(topic)
        if topic in self.forbidden:
            return self.answer
        self.taken.append(topic)
        return None


class Held(SimulatedClock):
    """Stands still where somebody waits for longer than AGAIN_SECONDS, until it is let go."""

    def __init__(self) -> None:
        super().__init__(seed=6)
        self.slept: list[float] = []
        self.go = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if seconds > AGAIN_SECONDS:
            await self.go.wait()
            self.go.clear()
        await super().sleep(seconds)


@pytest.mark.parametrize(("answer", "aside_s"), [(NO_RIGHT, ASIDE_SECONDS), (Refused(UNHEARD, "nobody listens"), UNHEARD_SECONDS)])
def test_what_this_robot_has_no_right_to_waits_and_others_pass(tmp_path: Path, answer: Refused, aside_s: float) -> None:
    """More of it than the outbox hands out at once, before and after what may pass."""

    async def main() -> None:
        said: list[str] = []
        forbidden = [f"cmd/res/{number}" for number in range(TAKEN_AT_ONCE + 3)]
        ledger, broker, clock = SqliteLedger(tmp_path, ROBOT, SimulatedClock(seed=5)), Guarded(*forbidden, answer=answer), Held()
        for topic in (*forbidden, "event/alarm", forbidden[0], "event/handoff"):
            await ledger.post(topic, b"{}")
        postman = Postman(ledger, broker, clock, said.append)
        async with carrying(postman):
            await until(lambda: _true(clock.slept))
            assert broker.taken == ["event/alarm", "event/handoff"]
            assert set(clock.slept) == {aside_s}
            assert (postman.problem, postman.refused) == (answer.why, 0)
            await ledger.post("event/alarm", b"{}")
            await until(lambda: _true(len(broker.taken) == 3))
            assert len(broker.offered) == len(forbidden) + 3  # each topic of the others once
            broker.forbidden.clear()
            clock.go.set()
            await until(lambda: _empty(ledger))
        assert broker.taken[3:] == [*forbidden, forbidden[0]]
        assert said == [f"the outbox: what is on cmd/res/0 waits: {answer.why}"]
        await ledger.aclose()

    asyncio.run(main())


def test_what_nobody_listens_to_is_sent_more_and_more_seldom_until_somebody_does(tmp_path: Path) -> None:
    async def main() -> None:
        unheard = Refused(UNHEARD, "nobody listens")
        ledger, broker, clock = SqliteLedger(tmp_path, ROBOT, SimulatedClock(seed=5)), Guarded("event/x", answer=unheard), Held()
        await ledger.post("event/x", b"{}")
        async with carrying(Postman(ledger, broker, clock)):
            while ASIDE_SECONDS not in clock.slept:
                clock.go.set()
                await asyncio.sleep(0.01)
            broker.forbidden.clear()
            clock.go.set()
            await until(lambda: _empty(ledger))
        assert list(dict.fromkeys(clock.slept)) == [15, 30, 60, 120, 240, 480, 600]
        await ledger.aclose()

    asyncio.run(main())


class Patient(SimulatedClock):
    """Keeps how long was waited."""

    def __init__(self) -> None:
        super().__init__(seed=6)
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await super().sleep(seconds)


class Refusing:
    """Takes a message when it has been told `Retry` so many times."""

    def __init__(self, times: int, answer: Retry) -> None:
        self.left, self._answer = times, answer

    async def ready(self) -> None:
        await asyncio.sleep(0)

    async def post(self, topic: str, body: bytes, *, retained: bool = False) -> Retry | None:
        del topic, body, retained
        self.left -= 1
        return self._answer if self.left >= 0 else None


def test_who_is_not_let_in_knocks_more_and_more_seldom_and_afterwards_as_at_first(tmp_path: Path) -> None:
    async def main() -> None:
        ledger, link, clock = SqliteLedger(tmp_path, ROBOT, SimulatedClock(seed=5)), Refusing(60, Retry("not known")), Patient()
        await ledger.post("event/x", b"{}")
        async with carrying(Postman(ledger, link, clock)):
            await until(lambda: _empty(ledger))
            assert max(clock.slept[:1]) <= AGAIN_SECONDS + 1
            assert sum(clock.slept[10:]) / 50 > AGAIN_SECONDS_MAX / 4
            assert max(clock.slept) <= AGAIN_SECONDS_MAX + 1
            link.left, clock.slept = 1, []
            await ledger.post("event/x", b"{}")
            await until(lambda: _empty(ledger))
        assert max(clock.slept) <= AGAIN_SECONDS + 1
        await ledger.aclose()

    asyncio.run(main())


def test_whoever_asks_for_patience_is_left_alone_for_so_long(tmp_path: Path) -> None:
    async def main() -> None:
        ledger, clock = SqliteLedger(tmp_path, ROBOT, SimulatedClock(seed=5)), Patient()
        await ledger.post("event/x", b"{}")
        async with carrying(Postman(ledger, Refusing(1, Retry("busy", 90_000)), clock)):
            await until(lambda: _empty(ledger))
        assert [seconds >= 90 for seconds in clock.slept] == [True]
        await ledger.aclose()

    asyncio.run(main())


def test_what_is_put_aside_and_then_given_up_by_the_outbox_is_not_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        ledger, broker, clock = SqliteLedger(tmp_path, ROBOT, SimulatedClock(seed=5)), Guarded("event/x"), Held()
        await ledger.post("event/x", b"{}")
        postman = Postman(ledger, broker, clock)
        async with carrying(postman):
            await until(lambda: _true(clock.slept))
            await ledger.delivered([one.id for one in await ledger.posted()])
            assert postman.problem == NO_RIGHT.why
            clock.go.set()
            await until(lambda: _true(postman.problem == ""))
        assert broker.offered == ["event/x"]
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


async def _true(true: object) -> object:
    return true
