"""Migrations: a ledger of any version opens, keeps its epoch, chain and odometer, and goes on; one that fails changes nothing."""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlite_utils import Database

from agent.clock import seeded
from agent.files import write_durably
from agent.sim.clock import SimulatedClock
from agent.sim.disk.crash import MODES, image, write
from agent.sim.disk.fuse import recorded
from agent.sim.disk.replay import Replay
from agent.store import db
from agent.store.db import LEDGER_FILE, MIGRATIONS, check_header, create, migrate, open_writer
from agent.store.ledger.chain import Chain, ready
from agent.store.reading import LedgerReader
from agent.store.verify import verify_books
from tests.conftest import GOLDEN
from tests.store.ledger.world import ROBOT, acked, begin, bodies_in, call, closed, opened, recovered, started, turn, usage

V1 = GOLDEN / "ledger-v1.db"
"""Written by the first version of this agent that kept a ledger: five records in two runs."""

V1_EPOCH = "73ab48767734d7c1c7fde805ec99108d"


def version_of(state: Path) -> int:
    connection = sqlite3.connect(state / LEDGER_FILE)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return int(version)


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A state folder as the first version left it."""
    state = tmp_path / "state"
    state.mkdir()
    shutil.copyfile(V1, state / LEDGER_FILE)
    assert version_of(state) == 1
    return state


def test_a_ledger_of_the_first_version_goes_on(first: Path) -> None:
    before = bodies_in(first)
    reader = LedgerReader(first)
    odometer = reader.odometer()
    reader.close()
    assert verify_books(first).records == len(before) == 5
    books = opened(first, SimulatedClock(seed=3))
    assert books.epoch == V1_EPOCH
    turn(books, "t-new", tokens=7)
    begin(books, call("open"))
    acked(books)
    closed(books)
    assert version_of(first) == len(MIGRATIONS)
    after = bodies_in(first)
    assert after.items() >= before.items()
    assert sorted(after) == [(V1_EPOCH, sequence) for sequence in range(1, 9)]
    assert verify_books(first).whole
    reader = LedgerReader(first)
    assert reader.odometer() == odometer + type(odometer)({("llm", "m", "device", "output"): 7})
    reader.close()


def of_version(state: Path, version: int) -> str:
    """A ledger as version `version` would have begun it. Returns its epoch."""
    state.mkdir()
    clock = SimulatedClock(seed=8)
    epoch = clock.new_epoch()

    def fill(connection: sqlite3.Connection) -> None:
        connection.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", [("epoch", epoch), ("device", ROBOT.name)])
        Chain(epoch, ROBOT, SimulatedClock(quality="none")).put(connection, [ready(usage(call("t")))])

    later = MIGRATIONS[version:]
    del MIGRATIONS[version:]
    try:
        create(state / LEDGER_FILE, fill)
    finally:
        MIGRATIONS.extend(later)
    return epoch


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS) + 1))
def test_every_version_becomes_the_newest(tmp_path: Path, version: int) -> None:
    state = tmp_path / "state"
    epoch = of_version(state, version)
    assert version_of(state) == version
    books = opened(state, SimulatedClock(seed=3))
    assert books.epoch == epoch
    turn(books, "t-new")
    closed(books)
    assert version_of(state) == len(MIGRATIONS)
    assert verify_books(state).records == 3
    assert schema(state) == schema(fresh(tmp_path / "fresh"))


def fresh(state: Path) -> Path:
    closed(opened(state, SimulatedClock()))
    return state


def schema(state: Path) -> set[tuple[str, str, str]]:
    connection = sqlite3.connect(state / LEDGER_FILE)
    found = {(type_, name, sql or "") for type_, name, sql in connection.execute("SELECT type, name, sql FROM sqlite_master")}
    connection.close()
    return found


def failing(done: Callable[[Database], None]) -> Callable[[Database], None]:
    def migration(database: Database) -> None:
        done(database)
        raise sqlite3.OperationalError("the power went, so to speak")

    return migration


def test_a_migration_that_fails_midway_leaves_the_older_version_whole(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, tables = bodies_in(first), schema(first)
    with monkeypatch.context() as patch:
        patch.setattr(db, "MIGRATIONS", [MIGRATIONS[0], failing(MIGRATIONS[1])])
        with pytest.raises(sqlite3.OperationalError, match="so to speak"):
            open_writer(first / LEDGER_FILE)
    assert (version_of(first), schema(first)) == (1, tables)
    assert bodies_in(first) == before
    started(first, SimulatedClock(seed=3))
    assert bodies_in(first).items() >= before.items()


def test_a_power_cut_during_a_migration_leaves_one_version_or_the_other(tmp_path: Path) -> None:
    """The first start of a new version, on a card that the older one left."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with recorded(disk) as mounted:
        write_durably(disk / LEDGER_FILE, V1.read_bytes())
        mounted.mark("begin")
        closed(opened(disk, SimulatedClock(seed=3)))
    trace = mounted.trace()
    replay, chance = Replay(trace), seeded(5)
    seen = set()
    for k in range(trace.marks()["begin"], len(trace)):
        replay.advance(k)
        for mode in MODES:
            state = tmp_path / "state"
            write(image(replay, mode, chance), state)
            seen.add(version_of(state))
            books = opened(state, SimulatedClock(seed=4))
            asyncio.run(recovered(books))
            assert books.epoch == V1_EPOCH, f"op {k}, {mode}"
            closed(books)
            assert verify_books(state).records == 5
    assert {1, len(MIGRATIONS)} <= seen <= set(range(1, len(MIGRATIONS) + 1))


def test_this_version_opens_and_continues_the_next_schema(tmp_path: Path) -> None:
    """After a failed update the older version goes on with what the newer one made: it only adds, and what it adds has defaults."""
    state = tmp_path / "state"
    books = opened(state, SimulatedClock(seed=3))
    turn(books, "t-old")
    closed(books)
    connection = sqlite3.connect(state / LEDGER_FILE)
    connection.execute("CREATE TABLE novelty (name TEXT PRIMARY KEY, value TEXT)")
    for table in ("record", "raw", "odometer", "journal", "batch", "anchor", "deadletter"):
        connection.execute(f"ALTER TABLE {table} ADD COLUMN later TEXT NOT NULL DEFAULT 'unfilled'")
    connection.execute("CREATE INDEX later_record ON record(later)")
    connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    connection.commit()
    connection.close()
    for name in ("t-1", "t-2"):
        again = opened(state, SimulatedClock(seed=4))
        assert again.epoch == books.epoch
        asyncio.run(recovered(again))
        turn(again, name)
        acked(again)
        begin(again, call(f"open-{name}"), used=3)
        closed(again)
    assert version_of(state) == len(MIGRATIONS) + 1
    assert verify_books(state).whole
    (state / LEDGER_FILE).write_bytes((state / LEDGER_FILE).read_bytes().replace(b'"turn_id":"t-1"', b'"turn_id":"t-9"'))
    started(state, SimulatedClock(seed=5))
    assert verify_books(state).whole


@pytest.mark.parametrize("version", [-1, 2**31 - 1, -(2**31)])
def test_a_version_that_never_was_does_not_stop_the_robot(tmp_path: Path, version: int) -> None:
    books = opened(tmp_path, SimulatedClock(seed=3))
    turn(books, "t")
    held = bodies_in(tmp_path)
    closed(books)
    connection = sqlite3.connect(tmp_path / LEDGER_FILE)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.commit()
    connection.close()
    started(tmp_path, SimulatedClock(seed=4))
    assert bodies_in(tmp_path).items() >= held.items()
    assert verify_books(tmp_path).whole


def test_migrating_twice_is_migrating_once(first: Path) -> None:
    connection = open_writer(first / LEDGER_FILE)
    migrate(connection)
    connection.close()
    check_header(first / LEDGER_FILE)
    assert version_of(first) == len(MIGRATIONS)
