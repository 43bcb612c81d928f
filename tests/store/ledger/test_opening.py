"""Opening: whatever is found in the state folder, the robot starts and says what it follows, or says in one line what is in the way."""

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from agent.clock import SystemClock
from agent.engines.host import Hosted, start
from agent.errors import BadInput, LedgerBusy, LedgerDamaged, VoxmeterError
from agent.ports import EngineSettings
from agent.sim.clock import SimulatedClock
from agent.sim.disk.faults import Faults
from agent.sim.disk.fuse import RecordedDisk, recorded
from agent.store.db import LEDGER_FILE
from agent.store.ledger.leaving import side
from agent.store.reading import LedgerReader
from agent.store.state import LOCK_FILE
from agent.store.verify import verify_books
from tests.store.ledger.world import (
    LOG_FILE,
    Place,
    Wrote,
    acked,
    bodies_in,
    check_nothing_lost,
    closed,
    filled,
    gaps,
    killed,
    opened,
    started,
    told_in,
    turn,
)


@pytest.fixture
def dead(tmp_path: Path) -> tuple[Path, Wrote]:
    """What is left of a robot that was killed: records are in the log alone."""
    books, wrote = filled(tmp_path / "living", SimulatedClock(seed=1))
    state = killed(tmp_path / "living", tmp_path / "state")
    closed(books)
    return state, wrote


@pytest.fixture
def sound(tmp_path: Path) -> tuple[Path, Wrote]:
    """A ledger that was closed in order."""
    books, wrote = filled(tmp_path / "sound", SimulatedClock(seed=1))
    closed(books)
    return tmp_path / "sound", wrote


def began(state: Path) -> list[tuple[str, str]]:
    """(reason, previous) of the epochs after the first."""
    return [(one["reason"], one.get("previous", "")) for one in told_in(bodies_in(state), "epoch") if one["reason"] != "first"]


def assert_only_the_long_one_is_gone(now: dict[Place, bytes]) -> None:
    """Without SQLite a record that is longer than a page is in pieces that nobody can put together."""
    assert [(gap["first"], gap["last"]) for gap in gaps(now)] in ([], [(14, 14)])


@pytest.mark.parametrize("size", [0, 1, 15, 16, 99, 100, 4095, 4096, 20_000])
def test_a_file_that_was_cut_short_costs_no_record_that_is_in_its_log(dead: tuple[Path, Wrote], size: int) -> None:
    state, wrote = dead
    content = (state / LEDGER_FILE).read_bytes()
    (state / LEDGER_FILE).write_bytes(content[:size])
    with suppress(LedgerDamaged):  # a reader that comes first takes nothing away
        LedgerReader(state).close()
    started(state, SimulatedClock(seed=3))
    assert_only_the_long_one_is_gone(check_nothing_lost(state, wrote))


@pytest.mark.parametrize("content", [bytes(8192), b"\xff" * 8192, b"SQLite format 3\0" + b"\xff" * 8192, b"words " * 2000])
def test_a_file_of_garbage_costs_no_record_that_is_in_its_log(dead: tuple[Path, Wrote], content: bytes) -> None:
    state, wrote = dead
    (state / LEDGER_FILE).write_bytes(content)
    started(state, SimulatedClock(seed=3))
    assert_only_the_long_one_is_gone(check_nothing_lost(state, wrote))
    assert began(state) == [("damaged", wrote.epoch)]


def test_a_header_that_is_gone_costs_nothing(sound: tuple[Path, Wrote]) -> None:
    state, wrote = sound
    (state / side.SIDE_FILE).unlink()
    (state / LEDGER_FILE).write_bytes(bytes(100) + (state / LEDGER_FILE).read_bytes()[100:])
    started(state, SimulatedClock(seed=3))
    now = check_nothing_lost(state, wrote)
    assert began(state) == [("damaged", wrote.epoch)]
    assert_only_the_long_one_is_gone(now)


def test_a_log_whose_file_is_gone_is_salvaged_and_what_was_in_the_file_is_declared(dead: tuple[Path, Wrote]) -> None:
    state, wrote = dead
    connection = sqlite3.connect(state / LEDGER_FILE)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    books = opened(state, SimulatedClock(seed=3))
    turn(books, "in the log")
    later = Wrote(wrote.epoch, bodies_in(state), 1)
    copied = killed(state, state.with_name("copied"))
    closed(books)
    (copied / LEDGER_FILE).unlink()
    started(copied, SimulatedClock(seed=4))
    now = check_nothing_lost(copied, later)
    assert began(copied) == [("lost", wrote.epoch)]
    assert {gap["epoch"] for gap in gaps(now)} == {wrote.epoch}
    assert "in the log" in {one["turn_id"] for one in told_in(now, "usage")}


def test_a_ledger_that_is_gone_with_its_log_is_followed_by_an_epoch_that_says_so(sound: tuple[Path, Wrote]) -> None:
    state, wrote = sound
    (state / LEDGER_FILE).unlink()
    started(state, SimulatedClock(seed=3))
    assert began(state) == [("lost", wrote.epoch)]
    assert verify_books(state).whole


def test_a_folder_in_the_ledgers_place_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / LEDGER_FILE).mkdir()
    with pytest.raises(BadInput, match=r"ledger.db is a folder, not a ledger; move it away") as caught:
        opened(tmp_path, SimulatedClock())
    assert "\n" not in str(caught.value)
    (tmp_path / LEDGER_FILE).rmdir()
    closed(opened(tmp_path, SimulatedClock()))


def changed_side(**changes: object) -> Callable[[Path], None]:
    def change(state: Path) -> None:
        side.write(state, side.read(state) | changes)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (changed_side(epoch="ef" * 16), "restored"),
        (changed_side(sequence=500), "rolled_back"),
        (changed_side(hash="ab" * 32), "different"),
    ],
    ids=["another epoch", "ahead", "another hash"],
)
def test_a_ledger_that_its_side_file_contradicts_is_set_aside_whole(
    sound: tuple[Path, Wrote], change: Callable[[Path], None], reason: str
) -> None:
    state, wrote = sound
    change(state)
    started(state, SimulatedClock(seed=3))
    now = check_nothing_lost(state, wrote)
    assert began(state) == [(reason, "ef" * 16 if reason == "restored" else wrote.epoch)]
    assert (state / f"ledger-{wrote.epoch}.db").is_file()
    assert sorted(one["turn_id"] for one in told_in(now, "usage") if one["outcome"] == "cut_off") == ["open-1", "open-2"]
    started(state, SimulatedClock(seed=4))
    assert began(state) == [(reason, "ef" * 16 if reason == "restored" else wrote.epoch)], "once said, it is settled"


def test_a_changed_byte_of_the_side_file_begins_no_epoch(sound: tuple[Path, Wrote]) -> None:
    state, wrote = sound
    content = (state / side.SIDE_FILE).read_bytes()
    for at in range(len(content)):
        (state / side.SIDE_FILE).write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        books = opened(state, SimulatedClock(seed=3))
        closed(books)
        assert books.epoch == wrote.epoch, f"byte {at}"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"check": ""}', b"\xff\xfe", bytes(100)])
def test_a_side_file_that_is_none_shows_nothing(sound: tuple[Path, Wrote], content: bytes) -> None:
    state, wrote = sound
    (state / side.SIDE_FILE).write_bytes(content)
    books = opened(state, SimulatedClock(seed=3))
    closed(books)
    assert (side.read(state), books.epoch) == ({}, wrote.epoch)


def test_the_side_file_says_what_was_acknowledged(tmp_path: Path) -> None:
    books = opened(tmp_path, SimulatedClock())
    turn(books, "t")
    ack = acked(books)
    closed(books)
    told = side.read(tmp_path)
    assert (told["epoch"], told["sequence"], told["hash"]) == (books.epoch, ack.cum_ack, ack.head_hash)
    assert orjson.loads((tmp_path / side.SIDE_FILE).read_bytes()).keys() == {"check", "epoch", "hash", "odometer", "sequence"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[RecordedDisk]:
    (tmp_path / "disk").mkdir()
    with recorded(tmp_path / "disk") as mounted:
        yield mounted


def test_a_disk_that_became_read_only_is_said_and_nothing_is_set_aside(disk: RecordedDisk) -> None:
    books, wrote = filled(disk.mount_point, SimulatedClock(seed=1))
    disk.set(Faults(read_only_from=0))
    with pytest.raises(LedgerDamaged, match="the ledger took no record"):
        turn(books, "refused")
    closed(books)
    names = sorted(path.name for path in disk.mount_point.iterdir())
    with pytest.raises((VoxmeterError, OSError)) as caught:
        opened(disk.mount_point, SimulatedClock(seed=2))
    assert "\n" not in str(caught.value)
    assert {path.name for path in disk.mount_point.iterdir()} <= set(names)
    disk.lift()
    started(disk.mount_point, SimulatedClock(seed=3))
    assert not gaps(check_nothing_lost(disk.mount_point, wrote))
    assert began(disk.mount_point) == []


def test_one_failed_write_or_sync_refuses_a_record_or_the_start_and_costs_nothing(disk: RecordedDisk) -> None:
    books, wrote = filled(disk.mount_point, SimulatedClock(seed=1))
    closed(books)
    started_at = disk.count()
    for after in range(2, 60):  # the first two are the lock's, which nothing depends on
        disk.set(Faults(io_error_at=disk.count() + after))
        try:
            books = opened(disk.mount_point, SimulatedClock(seed=2))
        except (VoxmeterError, OSError):
            continue
        try:
            turn(books, f"maybe-{after}")
        except VoxmeterError as error:
            assert "\n" not in str(error)  # noqa: PT017  most of them raise nothing
        finally:
            closed(books)
    disk.lift()
    assert disk.count() > started_at
    started(disk.mount_point, SimulatedClock(seed=3))
    assert not gaps(check_nothing_lost(disk.mount_point, wrote))
    assert began(disk.mount_point) == [], "a disk that fails once is no damaged ledger"


OWNER = """
import sys
from pathlib import Path
from agent.sim.clock import SimulatedClock
from tests.store.ledger.world import opened
opened(Path(sys.argv[1]), SimulatedClock())
print("owns", flush=True)
sys.stdin.read()
"""


def test_two_processes_never_own_one_ledger(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdin is not None
    try:
        assert owner.stdout.readline() == "owns\n"
        with pytest.raises(LedgerBusy, match=f"belongs to process {owner.pid}"):
            opened(tmp_path, SimulatedClock())
        LedgerReader(tmp_path).close()
    finally:
        owner.kill()
        owner.wait()
        owner.stdin.close()
        owner.stdout.close()
    closed(opened(tmp_path, SimulatedClock()))


def children_of(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def files_of(process: int) -> set[str]:
    found = set()
    for link in Path(f"/proc/{process}/fd").iterdir():
        try:
            found.add(os.readlink(link))
        except FileNotFoundError:
            continue
    return found


def test_an_engines_process_inherits_nothing_of_the_ledger(tmp_path: Path) -> None:
    async def main() -> None:
        books = await asyncio.to_thread(opened, tmp_path, SimulatedClock())
        host: Hosted[object, object] = await start(EngineSettings("llm_scripted", "m"), SystemClock())
        try:
            children = children_of(os.getpid())
            ours = files_of(os.getpid())
            assert {str(tmp_path / name) for name in (LEDGER_FILE, LOG_FILE, LOCK_FILE)} <= ours
            assert children
            for child in children:
                assert not [name for name in files_of(int(child)) if name.startswith(str(tmp_path))]
        finally:
            await host.aclose()
            await books.aclose()

    asyncio.run(main())
