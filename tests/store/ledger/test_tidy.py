"""Room: what is let go at which pressure, what the reserve is for, and that what runs is recorded once when nothing fits any more."""

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agent.errors import LedgerFull
from agent.sim.clock import SimulatedClock
from agent.sim.disk.faults import Faults
from agent.sim.disk.fuse import RecordedDisk, recorded
from agent.store.db import LEDGER_FILE
from agent.store.ledger import SqliteLedger
from agent.store.ledger.space import FOLD, FULL, RESERVE_FILE, TIDY, Limits
from agent.store.reading import LedgerReader
from agent.store.verify import verify_books
from tests.store.ledger.helpers import do, next_batch, take_all, unacked
from tests.store.ledger.test_space import rollups, sequences, told, with_raw
from tests.store.test_ledger import ROBOT, append, pragma_of, usage

KIBIBYTE = 1024

LIMITS = Limits(free_bytes_min=1024 * KIBIBYTE, reserve_bytes=256 * KIBIBYTE)

NO_QUOTA = 1 << 40


@contextmanager
def roomy(state: Path, clock: SimulatedClock, limits: Limits) -> Iterator[SqliteLedger]:
    opened = SqliteLedger(state, ROBOT, clock, limits)
    try:
        yield opened
    finally:
        asyncio.run(opened.aclose())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[RecordedDisk]:
    (tmp_path / "disk").mkdir()
    with recorded(tmp_path / "disk") as mounted:
        yield mounted


def leave(disk: RecordedDisk, bytes_: int) -> None:
    """Makes the disk so small that this much is free."""
    room = os.statvfs(disk.mount_point)
    disk.set(Faults(full_bytes=(room.f_blocks - room.f_bavail) * room.f_frsize + bytes_))


def tidy(books: SqliteLedger) -> None:
    asyncio.run(books.tidy())


def look(books: SqliteLedger) -> float:
    async def run() -> float:
        return await books._alone(books._space.look)

    return asyncio.run(run())


def bytes_of(books: SqliteLedger) -> int:
    return (int(str(pragma_of(books, "page_count"))) - int(str(pragma_of(books, "freelist_count")))) * int(
        str(pragma_of(books, "page_size"))
    )


def half_acked(state: Path, clock: SimulatedClock) -> int:
    """A ledger whose first batch is acked and backed up, whose second is acked, and of which much never left. Returns its bytes."""
    with roomy(state, clock, Limits()) as books:
        for durable in (2, 2):
            append(books, with_raw(usage()))
            take_all(books, next_batch(books), durable_through=durable)
        append(books, *(with_raw(usage()) for _ in range(400)))
        next_batch(books)
        append(books, usage())
        return bytes_of(books)


def raws(books: SqliteLedger) -> int:
    count: int = do(books, lambda connection: connection.execute("SELECT count(*) FROM raw").fetchone()[0])
    return count


@pytest.mark.parametrize(
    ("pressure", "left", "folds"),
    [(0.69, (1, 402), False), (0.72, (3, 400), False), (0.89, (3, 400), False), (0.93, (3, 0), True), (5, (3, 0), True)],
)
def test_each_pressure_lets_go_its_own(tmp_path: Path, clock: SimulatedClock, pressure: float, left: tuple[int, int], folds: bool) -> None:
    quota = int(half_acked(tmp_path, clock) / pressure)
    before = told(tmp_path)
    with roomy(tmp_path, clock, Limits(quota_bytes=quota)) as books:
        assert look(books) == pytest.approx(pressure, rel=0.01)
        sent = unacked(books)
        tidy(books)
        assert sequences(books)[0] == left[0]
        assert folds or raws(books) == left[1]
        assert bool(rollups(tmp_path)) == folds
        assert unacked(books) == sent
        assert verify_books(tmp_path).whole
    assert told(tmp_path)[1] == before[1]


def test_raw_of_a_batch_that_is_acked_in_part_stays_with_it(tmp_path: Path, clock: SimulatedClock) -> None:
    with roomy(tmp_path, clock, Limits(quota_bytes=1)) as books:
        append(books, with_raw(usage()), with_raw(usage()))
        batch = next_batch(books)
        append(books, usage())
        (hash_,) = do(books, lambda connection: connection.execute("SELECT hash FROM record WHERE sequence = 2").fetchone())
        take_all(books, batch, cum_ack=2, head_hash=hash_.hex())
        tidy(books)
        assert unacked(books) == [batch]


def test_pages_go_back_to_the_disk_and_the_log_is_emptied(tmp_path: Path, clock: SimulatedClock) -> None:
    path = tmp_path / LEDGER_FILE
    with roomy(tmp_path, clock, Limits(quota_bytes=200 * KIBIBYTE)) as books:
        append(books, *(usage() for _ in range(1_000)))
        asyncio.run(books._alone(lambda connection: connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()))
        large, before = path.stat().st_size, told(tmp_path)
        assert look(books) > FULL
        assert not books.room()
        append(books, usage(0))
        tidy(books)
        assert path.stat().st_size < large / 4
        assert path.with_name(LEDGER_FILE + "-wal").stat().st_size == 0
        assert pragma_of(books, "freelist_count") == 0
        assert books.room()
        assert told(tmp_path)[1] == before[1]
    assert verify_books(tmp_path).whole


def test_a_file_that_can_not_shrink_does_not_hold_up_the_ledger(tmp_path: Path, clock: SimulatedClock) -> None:
    """Its pages are used again. The file is as some other tool may have copied it."""
    with roomy(tmp_path, clock, Limits()) as books:
        append(books, *(usage() for _ in range(500)))
    connection = sqlite3.connect(tmp_path / LEDGER_FILE, isolation_level=None)
    for statement in ("PRAGMA journal_mode=DELETE", "PRAGMA auto_vacuum=NONE", "VACUUM"):
        connection.execute(statement)
    connection.close()
    with roomy(tmp_path, clock, Limits(quota_bytes=200 * KIBIBYTE)) as books:
        tidy(books)
        assert rollups(tmp_path)
        assert look(books) < FOLD


def test_pressure_is_told_by_the_free_disk_as_well(disk: RecordedDisk, clock: SimulatedClock) -> None:
    with roomy(disk.mount_point, clock, Limits(quota_bytes=NO_QUOTA, free_bytes_min=1024 * KIBIBYTE)) as books:
        for left, expected, room in ((1100, 0.0, True), (1000, FOLD, True), (300, FOLD, True), (200, FULL, False), (1100, 0.0, True)):
            leave(disk, left * KIBIBYTE)
            assert look(books) == pytest.approx(expected, abs=0.01)
            assert books.room() == room
            append(books, usage())
    assert verify_books(disk.mount_point).whole


def test_the_reserve_is_spent_when_the_disk_is_full_and_put_back_when_there_is_room(disk: RecordedDisk, clock: SimulatedClock) -> None:
    state = disk.mount_point
    reserve = state / RESERVE_FILE
    with roomy(state, clock, LIMITS) as books:
        assert reserve.stat().st_size == LIMITS.reserve_bytes
        leave(disk, 0)
        assert append(books, usage()) == [2]
        assert not books.room()
        assert not reserve.exists()
        done = 2
        with suppress(LedgerFull):
            while done < 1_000:
                (done,) = append(books, usage())
        assert 20 < done < 1_000
        with pytest.raises(LedgerFull, match="the ledger took no record"):
            append(books, usage())
        leave(disk, LIMITS.free_bytes_min)
        tidy(books)
        assert (books.room(), reserve.exists()) == (False, False)
        leave(disk, LIMITS.free_bytes_min + 2 * LIMITS.reserve_bytes)
        tidy(books)
        assert (books.room(), reserve.stat().st_size) == (True, LIMITS.reserve_bytes)
        assert append(books, usage()) == [done + 1]
    assert len(list(LedgerReader(state).bodies("usage"))) == done
    assert verify_books(state).whole


def test_a_robot_starts_on_a_full_disk(disk: RecordedDisk, clock: SimulatedClock) -> None:
    with roomy(disk.mount_point, clock, Limits()) as books:
        append(books, usage())
    leave(disk, 40 * KIBIBYTE)
    with roomy(disk.mount_point, clock, LIMITS) as books:
        assert not books.room()
        assert not (disk.mount_point / RESERVE_FILE).exists()
        append(books, usage())


def test_a_reserve_that_does_not_fit_is_not_half_there(disk: RecordedDisk, clock: SimulatedClock) -> None:
    """The disk says it has room and then has not."""
    with roomy(disk.mount_point, clock, Limits()) as books:
        append(books, usage())
    leave(disk, 64 * KIBIBYTE)
    with roomy(disk.mount_point, clock, Limits(free_bytes_min=-NO_QUOTA, reserve_bytes=256 * KIBIBYTE)):
        assert not (disk.mount_point / RESERVE_FILE).exists()


@pytest.mark.parametrize("reserve", [0, 64 * KIBIBYTE])
def test_a_record_is_there_once_or_not_at_all_however_little_fits(
    disk: RecordedDisk, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch, reserve: int
) -> None:
    """Also where there is room for the record and none for the tidying that follows it."""
    monkeypatch.setattr("agent.store.ledger.LOOK_EVERY", 2)
    state, done = disk.mount_point, 0
    with roomy(state, clock, Limits(quota_bytes=1, free_bytes_min=0, reserve_bytes=reserve)) as books:
        for left in (0, *range(4, 160, 12)):
            disk.lift()
            done += len(append(books, *(usage(1) for _ in range(20))))  # the tidying is due after the next
            leave(disk, left * KIBIBYTE)
            try:
                append(books, usage(1))
                done += 1
            except LedgerFull:
                disk.lift()
                done += len(append(books, usage(1)))
            assert sum(LedgerReader(state).odometer().values()) == done
        disk.lift()
        assert look(books) > TIDY
        tidy(books)
    assert sum(LedgerReader(state).odometer().values()) == done
    assert verify_books(state).whole
