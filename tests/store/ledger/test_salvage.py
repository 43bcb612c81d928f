"""Salvage: of a ledger with any byte changed every record is on the books as it was, or declared as a gap, and none twice."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from agent.clock import seeded
from agent.contract.canonical import link
from agent.files import rename_durably
from agent.ports import Entry
from agent.sim.clock import SimulatedClock
from agent.store.db import LEDGER_FILE
from agent.store.ledger import epochs
from agent.store.ledger.chain import ready
from agent.store.ledger.salvage import declare
from agent.store.verify import verify_books
from tests.store.ledger.world import (
    LOG_FILE,
    World,
    Wrote,
    begin,
    bodies_in,
    call,
    check_nothing_lost,
    closed,
    flip,
    gaps,
    intent,
    keeper,
    killed,
    opened,
    recovered,
    started,
    told_in,
    turn,
    usage,
)

SEED = int(os.environ.get("VOXMETER_SEED", "3"))

FLIPS = int(os.environ.get("VOXMETER_FLIPS", "2"))
"""Changed bytes in each page, and in the content of each frame of the log."""

PAGE_BYTES, FRAME_HEADER, LOG_HEADER = 4096, 24, 32


def after_flips(world: World, tmp_path: Path, file: Path, flips: Iterable[tuple[int, int]], allowed: Sequence[int] = ()) -> int:
    """Changes one byte at a time. Returns how often records were lost, and said to be."""
    declared, sound, name = 0, file.parent, file.name
    for number, (at, by) in enumerate(flips):
        state = tmp_path / str(number)
        shutil.copytree(sound, state)
        flip(state / name, at, by)
        try:
            started(state, SimulatedClock(seed=100 + number))
            now = check_nothing_lost(state, world.wrote, allowed)
        except BaseException as error:
            error.add_note(f"{name}: byte {at} changed by {by}, seed {SEED}")
            raise
        declared += bool(gaps(now))
        began = [one for one in told_in(now, "epoch") if one["reason"] != "first"]
        assert all(one["reason"] == "damaged" and one["previous"] == world.wrote.epoch for one in began)
        assert not began or bodies_in(state).keys() >= now.keys()
        assert not list(state.glob("*.damaged*"))
        assert {path.name for path in state.glob("ledger-*.db")} == ({f"ledger-{world.wrote.epoch}.db"} if began else set())
        shutil.rmtree(state)
    return declared


def test_a_changed_byte_in_any_page_is_harmless_mended_or_declared(world: World, tmp_path: Path) -> None:
    chance = seeded(SEED)
    print("seed", SEED)  # noqa: T201  pytest shows it where a test fails
    pages = range(0, (world.sound / LEDGER_FILE).stat().st_size, PAGE_BYTES)
    places = [*range(16, 100, 3), *(page + chance.randrange(PAGE_BYTES) for page in pages for _ in range(FLIPS)), *pages]
    flips = [(18, 4), (19, 4), *((at, 1 << chance.randrange(8)) for at in places)]  # the first two: a file nobody may write, or read
    declared = after_flips(world, tmp_path, world.sound / LEDGER_FILE, flips)
    assert declared, "no flip hit a record: then this proves nothing"


def test_a_changed_byte_in_any_frame_of_the_log_costs_the_last_transaction_at_most(world: World, tmp_path: Path) -> None:
    chance = seeded(SEED)
    print("seed", SEED)  # noqa: T201  pytest shows it where a test fails
    frames = range(LOG_HEADER, (world.killed / LOG_FILE).stat().st_size, FRAME_HEADER + PAGE_BYTES)
    heads = [frame + chance.randrange(FRAME_HEADER) for frame in frames]
    contents = [frame + FRAME_HEADER + chance.randrange(PAGE_BYTES) for frame in frames[:: 3 - min(FLIPS, 2)]]
    places = [*range(0, LOG_HEADER, 2), *heads[::2], *contents]
    last = max(sequence for _, sequence in world.wrote.bodies)
    flips = [(at, 1 << chance.randrange(8)) for at in places]
    assert after_flips(world, tmp_path, world.killed / LOG_FILE, flips, range(last - world.wrote.last_together + 1, last + 1))


def damage_last(state: Path) -> bytes:
    """Changes a byte in every copy of the last record; returns its body as it was."""
    path = state / LEDGER_FILE
    connection = sqlite3.connect(path)
    (body,) = connection.execute("SELECT body FROM record ORDER BY sequence DESC LIMIT 1").fetchone()
    connection.close()
    content = path.read_bytes()
    path.write_bytes(content.replace(body, body.replace(b'"turn_id":"', b'"turn_ie":"')))
    assert path.read_bytes() != content
    return bytes(body)


def test_a_damaged_last_record_is_declared(world: World, tmp_path: Path) -> None:
    state = shutil.copytree(world.sound, tmp_path / "state")
    damage_last(state)
    started(state, SimulatedClock(seed=5))
    now = check_nothing_lost(state, world.wrote)
    (gap,) = gaps(now)
    assert gap["epoch"] == world.wrote.epoch
    assert gap["first"] == gap["last"] == max(sequence for _, sequence in world.wrote.bodies)


def test_a_last_record_that_is_gone_altogether_shows_on_the_odometer(world: World, tmp_path: Path) -> None:
    state = shutil.copytree(world.sound, tmp_path / "state")
    last = max(sequence for _, sequence in world.wrote.bodies)
    connection = sqlite3.connect(state / LEDGER_FILE)
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("DELETE FROM record WHERE sequence = ?", (last,))
    connection.commit()
    connection.close()
    books = opened(state, SimulatedClock(seed=5))
    assert "odometer" in verify_books(state).problem
    asyncio.run(books.begin_epoch("damaged", damaged=True))
    asyncio.run(recovered(books))
    closed(books)
    (gap,) = gaps(check_nothing_lost(state, world.wrote))
    assert gap["first"] == gap["last"] == last


def test_damaged_records_in_a_row_are_one_gap_and_those_after_it_stay(world: World, tmp_path: Path) -> None:
    state = shutil.copytree(world.sound, tmp_path / "state")
    content = (state / LEDGER_FILE).read_bytes()
    for sequence in (7, 8, 9):
        body = world.wrote.bodies[world.wrote.epoch, sequence]
        content = content.replace(body, bytes(len(body)))
    (state / LEDGER_FILE).write_bytes(content)
    started(state, SimulatedClock(seed=5))
    (gap,) = gaps(check_nothing_lost(state, world.wrote))
    assert (gap["first"], gap["last"]) == (7, 9)


def test_calls_that_were_open_in_a_damaged_ledger_are_cut_off_with_what_they_had_used(world: World, tmp_path: Path) -> None:
    state = shutil.copytree(world.sound, tmp_path / "state")
    damage_last(state)
    started(state, SimulatedClock(seed=5))
    ended = {one["turn_id"]: one for one in told_in(bodies_in(state), "usage") if one["turn_id"].startswith("open")}
    assert {name: (one["outcome"], one["gen_ai.usage.output_tokens"]) for name, one in ended.items()} == {
        "open-1": ("cut_off", 4),
        "open-2": ("cut_off", 5),
    }


def test_a_call_this_process_still_runs_is_not_settled_by_salvage(tmp_path: Path) -> None:
    books = opened(tmp_path, SimulatedClock(seed=2))
    begin(books, call("ends-before"), used=1)
    begin(books, call("ends-after"), used=1)
    asyncio.run(books.begin_epoch("damaged", damaged=True))
    asyncio.run(books.append([usage(call("ends-before"))], [Entry(call("ends-before"), "settled")]))
    assert asyncio.run(books.salvage(keeper(books).cut_off)) == 1
    asyncio.run(books.append([usage(call("ends-after"))], [Entry(call("ends-after"), "settled")]))
    closed(books)
    assert sorted(one["outcome"] for one in told_in(bodies_in(tmp_path), "usage")) == ["completed", "completed"]


@pytest.mark.parametrize("stop", range(1, 7))
def test_a_salvage_that_was_stopped_is_done_again_and_declares_nothing_twice(world: World, tmp_path: Path, stop: int) -> None:
    """The steps of `SqliteLedger.salvage`, up to one; then the robot starts again."""
    state = shutil.copytree(world.sound, tmp_path / "state")
    damage_last(state)
    books = opened(state, SimulatedClock(seed=5))
    asyncio.run(keeper(books).recover())
    (damaged,) = epochs.damaged(state)
    found = declare.found(state, damaged)
    assert found is not None
    assert found.part is not None
    if stop > 1:
        drafts = [ready(draft) for draft in (*declare.gaps(found), *keeper(books).cut_off(found.left))]
        asyncio.run(books._do(lambda connection: declare.declare(connection, books._chain, drafts, damaged.name)))
    if stop == 3:
        asyncio.run(books.begin_epoch("different"))
    if stop == 4:
        asyncio.run(books.begin_epoch("damaged", damaged=True))
    if stop == 5:
        rename_durably(found.part, state / f"ledger-{found.epoch}.db")
    if stop == 6:
        declare.keep(state, damaged, found)
    closed(books)
    started(state, SimulatedClock(seed=6))
    now = check_nothing_lost(state, world.wrote)
    assert len(gaps(now)) == 1
    assert [path.name for path in state.glob(f"ledger-{world.wrote.epoch}*.db")] == [f"ledger-{world.wrote.epoch}.db"]
    assert sorted(one["turn_id"] for one in told_in(now, "usage") if one["outcome"] == "cut_off") == ["open-1", "open-2"]


def test_a_call_that_a_start_settled_before_the_salvage_is_settled_once(world: World, tmp_path: Path) -> None:
    """The ledger was found damaged while a call ran, and the robot died before it could salvage: the call stands in two journals."""
    books = opened(tmp_path, SimulatedClock(seed=2))
    begin(books, call("open"), used=9)
    asyncio.run(books.begin_epoch("damaged", damaged=True))
    closed(books)
    started(tmp_path, SimulatedClock(seed=3))
    ended = [one for one in told_in(bodies_in(tmp_path), "usage") if one["turn_id"] == "open"]
    assert [one["gen_ai.usage.output_tokens"] for one in ended] == [9]


def test_a_record_of_a_transaction_that_never_ended_does_not_take_the_place_of_one_that_is_damaged(world: World, tmp_path: Path) -> None:
    """What a torn transaction left in the log has the same place in the chain, and another content."""
    state = killed(world.sound, tmp_path / "state")
    body = damage_last(state)
    last = max(sequence for _, sequence in world.wrote.bodies)
    other = body.replace(b'"turn_id":"y"', b'"turn_id":"z"')
    before = sqlite3.connect(state / LEDGER_FILE).execute("SELECT hash FROM record WHERE sequence = ?", (last - 1,)).fetchone()[0]
    (state / LOG_FILE).write_bytes(bytes(64) + link(before, other) + other)
    started(state, SimulatedClock(seed=5))
    now = check_nothing_lost(state, world.wrote)
    assert [gap["first"] for gap in gaps(now)] == [last]


def test_a_damaged_last_record_that_is_on_no_odometer_is_declared(tmp_path: Path) -> None:
    books = opened(tmp_path, SimulatedClock(seed=1))
    turn(books, "t")
    asyncio.run(books.append([intent(call("last"))]))
    wrote = Wrote(books.epoch, bodies_in(tmp_path), 1)
    closed(books)
    damage_last(tmp_path)
    started(tmp_path, SimulatedClock(seed=5))
    (gap,) = gaps(check_nothing_lost(tmp_path, wrote))
    assert gap["first"] == gap["last"] == 4
