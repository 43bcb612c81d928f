"""A change of epoch that the disk refuses loses nothing, and what must be kept finds the reserve of a full disk."""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent.errors import LedgerDamaged, LedgerFull
from agent.ports import Entry
from agent.sim.clock import SimulatedClock
from agent.sim.disk.fuse import RecordedDisk, recorded
from agent.store.db import LEDGER_FILE
from agent.store.ledger import SqliteLedger, journal, opening
from agent.store.ledger.space import RESERVE_FILE
from tests.store.ledger.test_commands import TOPIC, book, final, known
from tests.store.ledger.test_tidy import LIMITS, leave, roomy
from tests.store.ledger.world import call
from tests.store.test_ledger import usage

USES: dict[str, Callable[[SqliteLedger], Awaitable[object]]] = {
    "find": lambda one: one.find("c-1"),
    "highest": lambda one: one.highest("key"),
    "floor": lambda one: one.floor_s(),
    "accept": lambda one: one.accept(known(9)),
    "settle": lambda one: one.settle(final(1), TOPIC),
    "post": lambda one: one.post("topic", b"{}"),
    "posted": lambda one: one.posted(),
    "append": lambda one: one.append([usage()]),
    "left_open": lambda one: one.left_open(),
    "tidy": lambda one: one.tidy(),
    "beat": lambda one: one.beat(),
    "begin_epoch": lambda one: one.begin_epoch("different"),
}


class Refusing:
    """A disk that lets no file be opened or made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    def begin(self) -> None:
        def full(*_given: object, **_named: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        self._patch.setattr(opening, "succeed", full)
        self._patch.setattr(opening, "opened", full)

    def end(self) -> None:
        self._patch.undo()


@pytest.fixture
def refusing() -> Iterator[Refusing]:
    with pytest.MonkeyPatch.context() as patch:
        yield Refusing(patch)


async def filled(ledger: SqliteLedger) -> None:
    await ledger.accept(known(1))
    await ledger.settle(final(1), TOPIC)
    await ledger.accept(known(2))
    await ledger.append([usage()], [Entry(call("t-1"), "intended")])


async def all_there(ledger: SqliteLedger) -> None:
    assert await ledger.find("c-1") == final(1)
    assert known(2) in await ledger.open()
    assert await ledger.highest("key") >= 2
    assert TOPIC in [one.topic for one in await ledger.posted()]
    assert [entry.call.turn_id for entry, _ in await ledger._do(journal.left)] == ["t-1"]


@pytest.mark.parametrize("use", USES)
def test_what_a_refused_change_left_closed_is_opened_by_whoever_comes(tmp_path: Path, refusing: Refusing, use: str) -> None:
    async def main() -> None:
        ledger = book(tmp_path)
        await filled(ledger)
        before = ledger.epoch
        refusing.begin()
        with pytest.raises(LedgerDamaged, match="No space left"):
            await ledger.begin_epoch("different")
        refusing.end()
        await USES[use](ledger)
        await all_there(ledger)
        assert (ledger.epoch == before) == (use != "begin_epoch")
        await ledger.begin_epoch("different")  # asked for again: nothing of it was taken for empty
        await all_there(ledger)
        await ledger.aclose()

    asyncio.run(main())


def test_a_file_that_was_damaged_while_it_was_closed_lets_nothing_be_run_again(tmp_path: Path, refusing: Refusing) -> None:
    async def main() -> None:
        ledger = book(tmp_path)
        await filled(ledger)
        before = ledger.epoch
        refusing.begin()
        with pytest.raises(LedgerDamaged, match="No space left"):
            await ledger.begin_epoch("different")
        refusing.end()
        path = tmp_path / LEDGER_FILE
        content = path.read_bytes()
        path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
        assert await ledger.highest("key") == 2
        assert ledger.epoch != before
        await ledger.aclose()

    asyncio.run(main())


def test_while_the_disk_refuses_everyone_is_refused_and_nothing_is_lost(tmp_path: Path, refusing: Refusing) -> None:
    async def main() -> None:
        ledger = book(tmp_path)
        await filled(ledger)
        refusing.begin()
        for use in ("begin_epoch", *USES, "begin_epoch"):
            with pytest.raises(LedgerDamaged, match="No space left"):
                await USES[use](ledger)
        refusing.end()
        await all_there(ledger)
        await ledger.aclose()

    asyncio.run(main())


def test_the_reserve_is_spent_to_open_it_again(tmp_path: Path, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, full = opening.opened, OSError(errno.ENOSPC, "No space left on device")

    def while_there_is_none(*given: object) -> object:
        if (tmp_path / RESERVE_FILE).exists():
            raise full
        return opened(*given)  # type: ignore[arg-type]

    with roomy(tmp_path, clock, LIMITS) as ledger:
        asyncio.run(filled(ledger))
        assert (tmp_path / RESERVE_FILE).exists()
        monkeypatch.setattr(opening, "opened", while_there_is_none)
        asyncio.run(ledger.begin_epoch("different"))
        asyncio.run(all_there(ledger))
        assert not ledger.room()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[RecordedDisk]:
    (tmp_path / "disk").mkdir()
    with recorded(tmp_path / "disk") as mounted:
        yield mounted


KEPT: dict[str, Callable[[SqliteLedger], Coroutine[Any, Any, object]]] = {
    "accept": lambda one: one.accept(known(2, request=b"x" * 20_000)),
    "began": lambda one: one.began("c-1"),
    "settle": lambda one: one.settle(final(1, result=b"x" * 20_000), TOPIC),
    "post": lambda one: one.post("topic", b"x" * 20_000),
}


@pytest.mark.parametrize("use", KEPT)
def test_on_a_full_disk_commands_and_events_find_the_reserve(disk: RecordedDisk, clock: SimulatedClock, use: str) -> None:
    state = disk.mount_point
    with roomy(state, clock, LIMITS) as ledger:
        asyncio.run(ledger.accept(known(1)))
        leave(disk, 0)
        asyncio.run(KEPT[use](ledger))
        assert not (state / RESERVE_FILE).exists()
        assert not ledger.room()


def test_where_the_reserve_is_used_up_too_a_command_is_refused_in_one_line(disk: RecordedDisk, clock: SimulatedClock) -> None:
    with roomy(disk.mount_point, clock, LIMITS) as ledger:
        leave(disk, 0)
        taken = 0
        with suppress(LedgerFull):
            for number in range(1, 1_000):
                asyncio.run(ledger.accept(known(number, request=b"x" * 4_000)))
                taken = number
        assert 5 < taken < 900
        with pytest.raises(LedgerFull, match="make room on the disk"):
            asyncio.run(ledger.accept(known(1_000, request=b"x" * 4_000)))
        disk.lift()
        assert asyncio.run(ledger.highest("key")) == taken
