"""Since when a book of commands is whole: told by the first clock that can be trusted, and never too early."""

import asyncio
import datetime
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.sim.clock import SimulatedClock
from agent.store.db import LEDGER_FILE, put_meta
from agent.store.ledger import SqliteLedger
from agent.store.ledger.floor import APART_S, FLOOR
from tests.store.ledger.helpers import do
from tests.store.ledger.test_commands import book, final, in_life, known
from tests.store.ledger.world import acked, turn

DAY_S = 24 * 3600


def now_s(clock: SimulatedClock) -> float:
    return clock.utc().timestamp()


def floor_s(state: Path, clock: SimulatedClock) -> float:
    (told,) = in_life(state, lambda one: one.floor_s(), clock=clock)
    assert isinstance(told, float)
    return told


def test_the_first_book_begins_with_itself_and_keeps_its_beginning(tmp_path: Path) -> None:
    clock = SimulatedClock(seed=1)
    began_s = now_s(clock)
    assert floor_s(tmp_path, clock) == math.floor(began_s)
    clock.advance(DAY_S)
    clock.reboot()
    assert floor_s(tmp_path, clock) == math.floor(began_s)


def gone(state: Path) -> None:
    shutil.move(state / LEDGER_FILE, state.parent / "gone")


def unreadable(state: Path) -> None:
    path = state / LEDGER_FILE
    path.write_bytes(b"\xff" * path.stat().st_size)


def half(state: Path) -> None:
    path = state / LEDGER_FILE
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


def with_side_file(state: Path, clock: SimulatedClock) -> None:
    """So that a ledger that is gone is seen to be."""
    books = book(state, clock)
    turn(books, "t-1")
    acked(books)
    asyncio.run(books.accept(known(5)))
    asyncio.run(books.aclose())


@pytest.mark.parametrize("loss", [gone, unreadable, half])
def test_a_ledger_that_is_lost_or_damaged_moves_it_to_its_end(tmp_path: Path, loss: Callable[[Path], None]) -> None:
    clock = SimulatedClock(seed=1)
    with_side_file(tmp_path, clock)
    clock.advance(DAY_S)
    loss(tmp_path)
    assert now_s(clock) <= floor_s(tmp_path, clock) <= now_s(clock) + APART_S


@pytest.mark.parametrize("reboots", [False, True])
def test_without_a_clock_it_is_told_by_the_first_that_can_be_trusted(tmp_path: Path, reboots: bool) -> None:
    clock = SimulatedClock(seed=1)
    with_side_file(tmp_path, clock)
    clock.advance(DAY_S)
    clock.believed = "none"
    clock.step_wall(datetime.timedelta(days=-4000))
    gone(tmp_path)
    assert floor_s(tmp_path, clock) == math.inf
    clock.advance(1000)
    if reboots:
        clock.reboot()
    assert floor_s(tmp_path, clock) == math.inf
    clock.step_wall(datetime.timedelta(days=4000))
    clock.believed = "signed"
    lost_s = now_s(clock) - 1000
    told_s = floor_s(tmp_path, clock)
    assert lost_s + APART_S / 2 <= told_s <= lost_s + APART_S + (1001 if reboots else 0)
    clock.advance(DAY_S)
    clock.reboot()
    assert floor_s(tmp_path, clock) == told_s  # once told it stays, whatever the clock says later
    clock.believed = "none"
    assert floor_s(tmp_path, clock) == told_s


def test_a_ledger_of_an_older_version_has_none(tmp_path: Path) -> None:
    clock = SimulatedClock(seed=1)
    ledger = book(tmp_path, clock)
    do(ledger, lambda connection: connection.execute("DELETE FROM meta WHERE name = ?", (FLOOR,)))
    assert asyncio.run(ledger.floor_s()) == 0
    asyncio.run(ledger.aclose())


@pytest.mark.parametrize("held", ["-5", "x", "12:34", "9" * 30, "ff" * 16 + ":" + "9" * 30])
def test_one_that_can_not_be_read_is_as_if_it_began_now(tmp_path: Path, held: str) -> None:
    clock = SimulatedClock(seed=1)
    ledger = book(tmp_path, clock)
    do(ledger, lambda connection: put_meta(connection, **{FLOOR: held}))
    assert now_s(clock) <= asyncio.run(ledger.floor_s()) <= now_s(clock) + APART_S + 1
    asyncio.run(ledger.aclose())


def test_what_this_process_took_is_known_though_its_file_no_longer_says_so(tmp_path: Path) -> None:
    """A nonce of a connection that goes on would let it in once more."""

    async def main() -> None:
        ledger: SqliteLedger = book(tmp_path)
        await ledger.accept(known(9))
        await ledger.accept(known(3))
        await ledger.settle(final(4, key_id="second", cmd_id="b", state="rejected"), "cmd/res/b")
        for table in ("command", "command_seq"):
            await ledger._do(lambda connection, table=table: connection.execute(f"DELETE FROM {table}"))  # type: ignore[misc]
        await ledger.begin_epoch("damaged", damaged=True)
        assert (await ledger.highest("key"), await ledger.highest("second")) == (9, 4)
        await ledger.aclose()

    asyncio.run(main())
