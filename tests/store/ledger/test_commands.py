"""The book of commands: what is in it survives starts, epochs and damage; what is old is forgotten, but for each key's highest seq."""

import asyncio
import datetime
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import LedgerDamaged
from agent.ports import Known
from agent.sim.clock import SimulatedClock
from agent.store.db import LEDGER_FILE, put_meta
from agent.store.ledger import SqliteLedger, commands
from agent.store.ledger.leaving import side
from tests.store.ledger.helpers import do
from tests.store.ledger.world import ROBOT, acked, turn

DAY_S = 24 * 3600

TOPIC = "cmd/res/1"


def known(number: int = 1, **changes: object) -> Known:
    held = Known(f"c-{number}", "key", number, "say", "accepted", b'{"args":{}}', b"")
    return replace(held, **changes)  # type: ignore[arg-type]


def final(number: int = 1, result: bytes = b'{"state":"succeeded"}', **changes: object) -> Known:
    return known(number, **{"state": "succeeded", "result": result} | changes)


def book(state: Path, clock: SimulatedClock | None = None) -> SqliteLedger:
    return SqliteLedger(state, ROBOT, clock or SimulatedClock(seed=5))


def in_life(state: Path, *steps: Callable[[SqliteLedger], Awaitable[object]], clock: SimulatedClock | None = None) -> list[object]:
    """What each step returns, in one start of the robot."""

    async def main() -> list[object]:
        ledger = book(state, clock)
        try:
            return [await step(ledger) for step in steps]
        finally:
            await ledger.aclose()

    return asyncio.run(main())


def test_a_command_goes_its_way_and_each_step_is_still_there_after_a_start(tmp_path: Path) -> None:
    assert in_life(tmp_path, lambda one: one.find("c-1"), lambda one: one.highest("key"), lambda one: one.open()) == [None, 0, []]
    in_life(tmp_path, lambda one: one.accept(known()))
    assert in_life(tmp_path, lambda one: one.find("c-1"), lambda one: one.highest("key")) == [known(), 1]
    in_life(tmp_path, lambda one: one.began("c-1"))
    running = known(state="running", starts=1)
    assert in_life(tmp_path, lambda one: one.open(), lambda one: one.posted()) == [[running], []]
    in_life(tmp_path, lambda one: one.settle(final(), TOPIC))
    settled, open_, posted = in_life(tmp_path, lambda one: one.find("c-1"), lambda one: one.open(), lambda one: one.posted())
    assert settled == final(starts=1)
    assert open_ == []
    assert isinstance(posted, list)
    assert [(one.topic, one.body) for one in posted] == [(TOPIC, final().result)]


def test_the_first_end_is_the_end_and_is_told_again_once(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = book(tmp_path)
        await ledger.accept(known())
        await ledger.settle(final(), TOPIC)
        for _ in range(3):
            await ledger.settle(final(result=b"another", state="failed"), TOPIC)
        assert await ledger.find("c-1") == final()
        (waiting,) = await ledger.posted()
        assert waiting.body == final().result
        await ledger.delivered([waiting.id])
        await ledger.settle(final(), TOPIC)
        assert len(await ledger.posted()) == 1
        await ledger.accept(known())  # asked again after it was durable: nothing changes
        await ledger.began("c-1")
        assert await ledger.find("c-1") == final()
        await ledger.aclose()

    asyncio.run(main())


def test_another_command_with_the_same_id_ends_nothing_and_tells_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = book(tmp_path)
        await ledger.accept(known())
        await ledger.settle(final(request=b"other", state="rejected"), TOPIC)
        await ledger.settle(final(key_id="other", state="rejected"), TOPIC)
        assert await ledger.find("c-1") == known()
        assert await ledger.posted() == []
        with pytest.raises(ValueError, match="not final"):
            await ledger.settle(known(), TOPIC)
        await ledger.aclose()

    asyncio.run(main())


def test_what_was_never_accepted_is_written_down_with_its_end(tmp_path: Path) -> None:
    in_life(tmp_path, lambda one: one.settle(final(7, state="rejected"), TOPIC))
    assert in_life(tmp_path, lambda one: one.find("c-7"), lambda one: one.highest("key")) == [final(7, state="rejected"), 7]


def test_end_and_outbox_are_one(tmp_path: Path) -> None:
    """Without the table of the one there is none of the other."""

    async def main() -> None:
        ledger = book(tmp_path)
        await ledger.accept(known())
        await ledger._do(lambda connection: connection.execute("ALTER TABLE outbox RENAME TO gone"))
        with pytest.raises(LedgerDamaged):
            await ledger.settle(final(), TOPIC)
        await ledger._do(lambda connection: connection.execute("ALTER TABLE gone RENAME TO outbox"))
        assert await ledger.find("c-1") == known()
        assert await ledger.posted() == []
        await ledger.settle(final(), TOPIC)
        assert len(await ledger.posted()) == 1
        await ledger.aclose()

    asyncio.run(main())


def test_a_lower_seq_never_lowers_the_highest_and_keys_count_apart(tmp_path: Path) -> None:
    in_life(
        tmp_path,
        lambda one: one.accept(known(9)),
        lambda one: one.accept(known(3)),
        lambda one: one.settle(final(4), TOPIC),
        lambda one: one.accept(known(2, cmd_id="b", key_id="second")),
    )
    assert in_life(tmp_path, lambda one: one.highest("key"), lambda one: one.highest("second")) == [9, 2]


def test_open_ones_come_oldest_first(tmp_path: Path) -> None:
    in_life(tmp_path, *(lambda one, number=number: one.accept(known(number)) for number in (3, 1, 2)))
    ((found),) = in_life(tmp_path, lambda one: one.open())
    assert isinstance(found, list)
    assert [one.seq for one in found] == [3, 1, 2]


def kept(state: Path, clock: SimulatedClock, *numbers: int) -> list[int]:
    """After a forgetting at that moment."""
    found = in_life(state, lambda one: one.forget(30), *(lambda one, n=n: one.find(f"c-{n}") for n in numbers), clock=clock)
    return [number for number, one in zip(numbers, found[1:], strict=True) if one is not None]


def test_results_are_forgotten_after_thirty_days_of_trusted_time(tmp_path: Path) -> None:
    clock = SimulatedClock(seed=1)
    in_life(tmp_path, lambda one: one.settle(final(1), TOPIC), lambda one: one.accept(known(2)), clock=clock)
    clock.step_wall(datetime.timedelta(days=29, hours=23))  # switched off meanwhile
    assert kept(tmp_path, clock, 1, 2) == [1, 2]
    clock.step_wall(datetime.timedelta(hours=2))
    assert kept(tmp_path, clock, 1, 2) == [2]  # what is open is never forgotten
    assert in_life(tmp_path, lambda one: one.highest("key")) == [2]


@pytest.mark.parametrize("quality", ["none", "floor"])
def test_a_wall_clock_that_nobody_set_forgets_nothing(tmp_path: Path, quality: str) -> None:
    clock = SimulatedClock(seed=1)
    in_life(tmp_path, lambda one: one.settle(final(1), TOPIC), clock=clock)
    clock.believed = quality  # type: ignore[assignment]
    clock.step_wall(datetime.timedelta(days=4000))
    assert kept(tmp_path, clock, 1) == [1]
    clock.step_wall(datetime.timedelta(days=-9000))
    assert kept(tmp_path, clock, 1) == [1]


def test_without_any_time_it_is_thirty_days_of_running_over_all_starts(tmp_path: Path) -> None:
    clock = SimulatedClock(seed=1, quality="none")
    in_life(tmp_path, lambda one: one.settle(final(1), TOPIC), clock=clock)

    async def a_week(one: SqliteLedger) -> None:
        clock.advance(7 * DAY_S)
        await one.forget(30)

    for _ in range(4):
        in_life(tmp_path, a_week, clock=clock)
        clock.advance(50 * DAY_S)  # switched off: not counted
        clock.reboot()
    assert kept(tmp_path, clock, 1) == [1]
    in_life(tmp_path, a_week, clock=clock)
    assert kept(tmp_path, clock, 1) == []


def test_a_signed_time_the_backend_gave_counts_for_a_robot_without_a_clock(tmp_path: Path) -> None:
    clock = SimulatedClock(seed=1)
    in_life(tmp_path, lambda one: one.settle(final(1), TOPIC), clock=clock)
    clock.believed = "none"
    for days, still in ((29, [1]), (31, [])):
        told = (clock.utc() + datetime.timedelta(days=days)).isoformat().replace("+00:00", "Z")
        ledger = book(tmp_path, clock)
        do(ledger, lambda connection, told=told: put_meta(connection, server_time=told))  # type: ignore[misc]
        asyncio.run(ledger.aclose())
        assert kept(tmp_path, clock, 1) == still


def test_no_more_is_kept_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "RESULTS_MAX", 5)

    async def main() -> None:
        ledger = book(tmp_path)
        await ledger.accept(known(1))
        for number in range(2, 12):
            await ledger.settle(final(number, b"x" * 1000), TOPIC)
        assert [number for number in range(1, 12) if await ledger.find(f"c-{number}")] == [1, 7, 8, 9, 10, 11]
        monkeypatch.setattr(commands, "RESULT_BYTES_SUM_MAX", 2_500)
        await ledger.forget(30)
        assert [number for number in range(1, 12) if await ledger.find(f"c-{number}")] == [1, 10, 11]
        assert await ledger.highest("key") == 11
        await ledger.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("damaged", [False, True])
def test_a_change_of_epoch_takes_all_of_it_along(tmp_path: Path, damaged: bool) -> None:
    clock = SimulatedClock(seed=1, quality="none")

    async def main() -> None:
        ledger = book(tmp_path, clock)
        await ledger.settle(final(4, key_id="second", cmd_id="gone"), TOPIC)
        clock.advance(31 * DAY_S)
        await ledger.forget(30)
        assert await ledger.find("gone") is None
        await ledger.settle(final(1), TOPIC)
        await ledger.accept(known(2))
        await ledger.began("c-2")
        await ledger.accept(known(9))
        clock.advance(20 * DAY_S)
        await ledger.forget(30)
        before = ledger.epoch
        for reason in ("different", "restored"):
            await ledger.begin_epoch(reason, damaged=damaged)
        assert ledger.epoch != before
        assert await ledger.find("c-1") == final(1)
        assert await ledger.open() == [known(2, state="running", starts=1), known(9)]
        assert (await ledger.highest("key"), await ledger.highest("second")) == (9, 4)
        clock.advance(11 * DAY_S)
        await ledger.forget(30)  # its days are carried too
        assert await ledger.find("c-1") is None
        assert await ledger.highest("second") == 4
        await ledger.aclose()

    asyncio.run(main())


def test_a_ledger_behind_its_side_file_gives_its_commands_to_the_next(tmp_path: Path) -> None:
    books = book(tmp_path)
    turn(books, "t-1")
    acked(books)
    asyncio.run(books.accept(known(5)))
    told = side.read(tmp_path)
    asyncio.run(books.aclose())
    side.write(tmp_path, told | {"sequence": told["sequence"] + 10})
    again = book(tmp_path, SimulatedClock(seed=8))
    assert again.epoch != books.epoch
    assert asyncio.run(again.open()) == [known(5)]
    assert asyncio.run(again.highest("key")) == 5
    asyncio.run(again.aclose())


def test_a_file_with_a_changed_record_still_tells_its_commands(tmp_path: Path) -> None:
    books = book(tmp_path)
    turn(books, "t-1")
    asyncio.run(books.accept(known(5)))
    asyncio.run(books.aclose())
    path = tmp_path / LEDGER_FILE
    content = path.read_bytes()
    assert b'"turn_id":"t-1"' in content
    path.write_bytes(content.replace(b'"turn_id":"t-1"', b'"turn_id":"t-9"'))
    again = book(tmp_path, SimulatedClock(seed=8))
    assert again.epoch != books.epoch
    assert asyncio.run(again.highest("key")) == 5
    assert asyncio.run(again.open()) == [known(5)]
    asyncio.run(again.aclose())


def test_what_of_a_damaged_file_is_no_command_is_left_behind(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = book(tmp_path)
        await ledger.accept(known(1))
        await ledger.accept(known(2))
        await ledger._do(lambda connection: connection.execute("UPDATE command SET state = 'runnimg' WHERE seq = 1"))
        await ledger._do(lambda connection: connection.execute("INSERT INTO command_seq VALUES ('third', x'00')"))
        await ledger.begin_epoch("damaged", damaged=True)
        assert await ledger.open() == [known(2)]
        assert (await ledger.highest("key"), await ledger.highest("third")) == (2, 0)
        await ledger.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("table", ["command", "command_seq"])
def test_a_file_that_lost_an_index_of_the_book_is_not_gone_on_with(tmp_path: Path, table: str) -> None:
    """A command that can't be found would be run again."""
    ledger = book(tmp_path)
    asyncio.run(ledger.accept(known(5)))
    index = f"sqlite_autoindex_{table}_1"
    page = do(ledger, lambda held: held.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (index,)).fetchone()[0])
    size = do(ledger, lambda held: held.execute("PRAGMA page_size").fetchone()[0])
    asyncio.run(ledger.aclose())
    content = bytearray((tmp_path / LEDGER_FILE).read_bytes())
    content[(page - 1) * size + 3 : (page - 1) * size + 5] = b"\0\0"  # no entries
    (tmp_path / LEDGER_FILE).write_bytes(content)
    again = book(tmp_path, SimulatedClock(seed=8))
    assert again.epoch != ledger.epoch
    assert asyncio.run(again.open()) == [known(5)]
    assert asyncio.run(again.highest("key")) == 5
    asyncio.run(again.aclose())


def test_a_ledger_that_is_gone_begins_a_book_without_any(tmp_path: Path) -> None:
    in_life(tmp_path, lambda one: one.accept(known(5)))
    shutil.move(tmp_path / LEDGER_FILE, tmp_path.parent / "gone")
    assert in_life(tmp_path, lambda one: one.open(), lambda one: one.highest("key")) == [[], 0]
