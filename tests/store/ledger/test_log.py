"""A log whose head or first frames are not what was written last: what a power cut leaves is no damage, what is damaged is salvaged."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from agent.clock import seeded
from agent.sim.clock import SimulatedClock
from agent.store.db import LEDGER_FILE
from tests.store.ledger.world import (
    LOG_FILE,
    World,
    Wrote,
    bodies_in,
    call,
    check_nothing_lost,
    closed,
    gaps,
    killed,
    opened,
    started,
    turn,
    usage,
)

SEED = 1

LOG_HEADER, SECTOR_BYTES = 32, 512


def test_a_log_whose_head_is_gone_is_salvaged(world: World, tmp_path: Path) -> None:
    state = killed(world.killed, tmp_path / "state")
    (state / LOG_FILE).write_bytes(bytes(LOG_HEADER) + (state / LOG_FILE).read_bytes()[LOG_HEADER:])
    started(state, SimulatedClock(seed=5))
    holes = [(gap["first"], gap["last"]) for gap in gaps(check_nothing_lost(state, world.wrote))]
    assert holes == [(14, 14)], "the long record is in pieces, all others are whole"


@pytest.mark.parametrize("kept", [0, LOG_HEADER - 8], ids=["all of it", "behind its salts"])
def test_an_old_log_whose_head_was_torn_while_it_began_anew_is_no_damage(world: World, tmp_path: Path, kept: int) -> None:
    """All of it is in the file, and nothing new was written yet."""
    state = killed(world.killed, tmp_path / "state")
    connection = sqlite3.connect(state / LEDGER_FILE)
    connection.execute("SELECT count(*) FROM record").fetchone()
    log = (state / LOG_FILE).read_bytes()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    (state / LOG_FILE).write_bytes(log[:kept] + bytes(LOG_HEADER - kept) + log[LOG_HEADER:])
    books = opened(state, SimulatedClock(seed=5))
    closed(books)
    assert books.epoch == world.wrote.epoch


def test_a_frame_of_no_page_as_a_torn_sector_leaves_it_keeps_no_ledger_from_opening(world: World, tmp_path: Path) -> None:
    state = killed(world.killed, tmp_path / "state")
    log = (state / LOG_FILE).read_bytes()
    (state / LOG_FILE).write_bytes(bytes(LOG_HEADER + 8) + log[LOG_HEADER + 8 :])
    started(state, SimulatedClock(seed=5))
    assert gaps(check_nothing_lost(state, world.wrote))


@pytest.mark.parametrize("seed", range(SEED, SEED + 20))
def test_power_cut_in_the_first_commit_after_a_kill_is_no_damage(tmp_path: Path, seed: int) -> None:
    """Of its frames some sectors are on the disk, between those of the round before; the head is, for SQLite syncs it first."""
    chance = seeded(seed)
    books = opened(tmp_path / "robot", SimulatedClock(seed=1))
    for number in range(chance.randint(1, 3)):
        turn(books, str(number))
    wrote, state = Wrote(books.epoch, bodies_in(tmp_path / "robot"), 1), killed(tmp_path / "robot", tmp_path / "state")
    closed(books)
    before = (state / LOG_FILE).read_bytes()
    books = opened(state, SimulatedClock(seed=5))
    assert (state / LOG_FILE).read_bytes() == before, "what follows is the first commit"
    asyncio.run(books.append([usage(call(f"y-{number}"), 3) for number in range(30)]))
    after = (state / LOG_FILE).read_bytes()
    image = killed(state, tmp_path / "image")
    closed(books)
    assert after[:LOG_HEADER] != before[:LOG_HEADER]
    sectors = range(SECTOR_BYTES, len(before), SECTOR_BYTES)
    mixed = [chance.choice((before, after))[at : at + SECTOR_BYTES] for at in sectors]
    (image / LOG_FILE).write_bytes(after[:LOG_HEADER] + before[LOG_HEADER:SECTOR_BYTES] + b"".join(mixed))
    closed(left := opened(image, SimulatedClock(seed=6)))
    assert left.epoch == wrote.epoch
    check_nothing_lost(image, wrote)


@pytest.mark.parametrize("stale", [LOG_HEADER, SECTOR_BYTES, 8 * SECTOR_BYTES])
@pytest.mark.parametrize(("before_it", "after_it"), [(3, 6), (6, 3), (2, 2)])
def test_a_head_that_never_reached_the_disk_loses_no_commit_after_it(tmp_path: Path, before_it: int, after_it: int, stale: int) -> None:
    """The old one stands, with a checksum that is right."""
    books = opened(tmp_path / "robot", SimulatedClock(seed=1))
    for number in range(before_it):
        turn(books, f"a-{number}")
    state = killed(tmp_path / "robot", tmp_path / "state")
    closed(books)
    before = (state / LOG_FILE).read_bytes()
    books = opened(state, SimulatedClock(seed=5))
    for number in range(after_it):
        turn(books, f"b-{number}")
    wrote, image = Wrote(books.epoch, bodies_in(state), 1), killed(state, tmp_path / "image")
    (image / LOG_FILE).write_bytes(before[:stale] + (state / LOG_FILE).read_bytes()[stale:])
    closed(books)
    started(image, SimulatedClock(seed=6))
    check_nothing_lost(image, wrote)
