"""Setting an epoch aside: a power cut at any step leaves a way on, no log goes to a file that is not its own, no name is taken twice."""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from agent.clock import seeded
from agent.sim.clock import SimulatedClock
from agent.sim.disk.crash import Mode, image, write
from agent.sim.disk.fuse import recorded
from agent.sim.disk.replay import Replay
from agent.store.db import LEDGER_FILE, NEW_FILE
from agent.store.ledger import SqliteLedger, epochs, opening
from agent.store.ledger.leaving import side
from agent.store.reading import LedgerReader
from agent.store.verify import verify_books
from tests.store.ledger.world import (
    LOG_FILE,
    ROBOT,
    Wrote,
    acked,
    begin,
    bodies_in,
    call,
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

SEED = 7

CUTS: tuple[Mode, ...] = ("synced", "everything", "prefix", "random")

Change = Callable[[SqliteLedger], object]

CHANGES: dict[str, Change] = {
    "different": lambda books: asyncio.run(books.begin_epoch("different")),
    "damaged": lambda books: asyncio.run(books.begin_epoch("damaged", damaged=True)),
}


def few(books: SqliteLedger, state: Path) -> Wrote:
    """Some turns, one acknowledged, and a call that is under way."""
    turn(books, "t1")
    acked(books)
    turn(books, "t2")
    begin(books, call("open"), used=6)
    return Wrote(books.epoch, bodies_in(state), 1)


@pytest.mark.parametrize("change", ["damaged", "different"])
def test_a_power_cut_while_an_epoch_gives_way_loses_no_record_and_no_call(tmp_path: Path, change: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with recorded(disk) as mounted:
        books = opened(disk, SimulatedClock(seed=1))
        wrote = few(books, disk)
        mounted.mark("begin")
        CHANGES[change](books)
        mounted.mark("end")
        closed(books)
    trace = mounted.trace()
    replay, chance = Replay(trace), seeded(SEED)
    print("seed", SEED)  # noqa: T201  pytest shows it where a test fails
    for k in range(trace.marks()["begin"], len(trace)):
        replay.advance(k)
        for mode in CUTS:
            state = tmp_path / "state"
            write(image(replay, mode, chance), state)
            started(state, SimulatedClock(seed=9))
            now = check_nothing_lost(state, wrote)
            assert not gaps(now), f"op {k}, {mode}"
            ended = [one for one in told_in(now, "usage") if one["turn_id"] == "open"]
            assert [(one["outcome"], one["gen_ai.usage.output_tokens"]) for one in ended] == [("cut_off", 6)], f"op {k}, {mode}"


def test_a_power_cut_while_a_restored_card_is_set_aside_loses_nothing(tmp_path: Path) -> None:
    """The ledger is behind its side file; calls that were open in it go on in the new epoch."""
    older = tmp_path / "older"
    books = opened(older, SimulatedClock(seed=1))
    wrote = few(books, older)
    copied = killed(older, tmp_path / "copied")
    turn(books, "later")
    acked(books)
    closed(books)
    shutil.copyfile(older / side.SIDE_FILE, copied / side.SIDE_FILE)
    disk = tmp_path / "disk"
    disk.mkdir()
    with recorded(disk) as mounted:
        for path in copied.iterdir():
            shutil.copyfile(path, disk / path.name)
            with (disk / path.name).open("rb+") as file:
                file.flush()
        mounted.mark("begin")
        closed(opened(disk, SimulatedClock(seed=2)))
    trace = mounted.trace()
    replay, chance = Replay(trace), seeded(SEED)
    for k in range(trace.marks()["begin"], len(trace)):
        replay.advance(k)
        state = tmp_path / "state"
        write(image(replay, "everything", chance), state)
        started(state, SimulatedClock(seed=9))
        now = check_nothing_lost(state, wrote)
        began = [one for one in told_in(now, "epoch") if one["reason"] != "first"]
        assert [(one["reason"], one["previous"]) for one in began] == [("rolled_back", wrote.epoch)], f"op {k}"
        assert [one["outcome"] for one in told_in(now, "usage") if one["turn_id"] == "open"] == ["cut_off"], f"op {k}"


@pytest.fixture
def dead(tmp_path: Path) -> tuple[Path, Wrote]:
    """What is left of a robot that was killed: records are in the log alone."""
    books, wrote = filled(tmp_path / "living", SimulatedClock(seed=1))
    state = killed(tmp_path / "living", tmp_path / "state")
    closed(books)
    assert (state / LOG_FILE).stat().st_size > 0
    return state, wrote


@pytest.mark.parametrize("reader", [False, True], ids=["alone", "after somebody read it"])
@pytest.mark.parametrize("made", [False, True], ids=["no new file", "new file made"])
def test_a_log_that_went_before_its_file_gets_it_back(dead: tuple[Path, Wrote], reader: bool, made: bool) -> None:
    state, wrote = dead
    if made:
        epochs.begin(state, ROBOT, SimulatedClock(seed=3), reason="damaged", previous=wrote.epoch)
    (state / LOG_FILE).rename(state / f"ledger-{wrote.epoch}.damaged-wal")
    if reader:  # it leaves an empty log beside the file
        LedgerReader(state).close()
    started(state, SimulatedClock(seed=4))
    assert not gaps(check_nothing_lost(state, wrote))


def test_a_log_of_another_epoch_moves_no_file(dead: tuple[Path, Wrote], tmp_path: Path) -> None:
    state, wrote = dead
    other = "ab" * 16
    shutil.copyfile(state / LOG_FILE, state / f"ledger-{other}.kept-wal")
    shutil.copyfile(state / LOG_FILE, state / f"ledger-{wrote.epoch}.kept-wal")
    (state / f"ledger-{other}.damaged-wal").write_bytes(b"of another")
    books = opened(state, SimulatedClock(seed=4))
    assert books.epoch == wrote.epoch
    closed(books)
    assert bodies_in(state).items() >= wrote.bodies.items()
    books = opened(state, SimulatedClock(seed=5))  # now it has no log of its own
    assert books.epoch == wrote.epoch
    closed(books)


def test_a_file_moved_without_a_new_one_is_followed_by_an_epoch_that_names_it(dead: tuple[Path, Wrote]) -> None:
    state, wrote = dead
    epochs.set_aside(state, wrote.epoch, damaged=True)
    started(state, SimulatedClock(seed=4))
    now = check_nothing_lost(state, wrote)
    assert not gaps(now)
    assert [one["previous"] for one in told_in(now, "epoch") if one["reason"] == "lost"] == [wrote.epoch]


def test_a_half_made_new_file_is_not_put_to_use(tmp_path: Path) -> None:
    (tmp_path / NEW_FILE).write_bytes(b"SQLite format 3\0 cut")
    closed(opened(tmp_path, SimulatedClock()))
    assert verify_books(tmp_path).whole
    assert not (tmp_path / NEW_FILE).exists()


def test_a_new_file_beside_a_present_ledger_is_dropped(tmp_path: Path) -> None:
    books = opened(tmp_path, SimulatedClock())
    closed(books)
    epochs.begin(tmp_path, ROBOT, SimulatedClock(seed=5), reason="different", previous=books.epoch)
    again = opened(tmp_path, SimulatedClock())
    closed(again)
    assert again.epoch == books.epoch
    assert not (tmp_path / NEW_FILE).exists()


@pytest.mark.parametrize("damaged", [False, True])
def test_an_epoch_that_is_set_aside_twice_keeps_both_files_and_its_records_are_read_once(tmp_path: Path, damaged: bool) -> None:
    state, clock = tmp_path / "state", SimulatedClock(seed=1)
    books, wrote = filled(state, clock)
    closed(books)
    card = killed(state, tmp_path / "card")
    for _ in range(3):
        shutil.copyfile(card / LEDGER_FILE, state / LEDGER_FILE)
        opening.succeed(state, ROBOT, clock, after=opening.Ended(wrote.epoch, "restored", []), damaged=damaged)
        started(state, clock) if damaged else None
        (state / LEDGER_FILE).rename(state / f"ledger-{clock.new_epoch()}.db")
    started(state, clock)
    kept = list(state.glob(f"ledger-{wrote.epoch}*.db")) + list(state.glob(f"ledger-{wrote.epoch}*.kept"))
    assert len(kept) == (6 if damaged else 3)
    reader = LedgerReader(state)
    bodies = list(reader.bodies())
    assert len(bodies) == len(set(bodies))
    assert set(bodies) >= set(wrote.bodies.values())
    usage = [record["data"] for record in reader.records("usage")]
    assert reader.odometer()["llm", "m", "device", "output"] == sum(one.get("gen_ai.usage.output_tokens", 0) for one in usage)
    reader.close()


def test_two_lives_of_one_epoch_are_both_on_the_books(tmp_path: Path) -> None:
    """A card was copied, and both copies were used: the same sequence, another record. Both were spent."""
    state, clock = tmp_path / "state", SimulatedClock(seed=1)
    books = opened(state, clock)
    turn(books, "both")
    card = killed(state, tmp_path / "card")
    turn(books, "one")
    closed(books)
    other = opened(card, SimulatedClock(seed=2))
    turn(other, "other")
    closed(other)
    shutil.copyfile(card / LEDGER_FILE, state / f"ledger-{books.epoch}.db")
    reader = LedgerReader(state)
    assert sorted(record["data"]["turn_id"] for record in reader.records("usage")) == ["both", "one", "other"]
    assert reader.odometer()["llm", "m", "device", "output"] == 9
    reader.close()


@pytest.mark.parametrize("name", ["device", "epoch", "previous"])
def test_a_changed_letter_in_what_a_ledger_says_of_itself_does_not_stop_the_robot(tmp_path: Path, name: str) -> None:
    books, wrote = filled(tmp_path, SimulatedClock(seed=1))
    closed(books)
    connection = sqlite3.connect(tmp_path / LEDGER_FILE)
    held = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0]
    changed = held[:-1] + ("0" if held[-1:] != "0" else "1")
    connection.execute("UPDATE meta SET value = ? WHERE name = ?", (changed, name))
    connection.commit()
    connection.close()
    started(tmp_path, SimulatedClock(seed=4))
    now = check_nothing_lost(tmp_path, wrote)
    assert not gaps(now)
    assert {orjson.loads(body)["source"].split(":")[3] for body in now.values()} == {ROBOT.device}


@pytest.mark.parametrize("told", ["{", "[1]", '{"turn_id": "t"}', "null"])
@pytest.mark.parametrize("column", ["facts", "usage"])
def test_a_journal_that_cannot_be_read_does_not_stop_the_robot(tmp_path: Path, column: str, told: str) -> None:
    books, wrote = filled(tmp_path, SimulatedClock(seed=1))
    closed(books)
    connection = sqlite3.connect(tmp_path / LEDGER_FILE)
    connection.execute(f"UPDATE journal SET {column} = ?", (told,))
    connection.commit()
    connection.close()
    started(tmp_path, SimulatedClock(seed=4))
    now = check_nothing_lost(tmp_path, wrote)
    assert [one["outcome"] for one in told_in(now, "usage") if one["turn_id"] == "open-2"] == ["cut_off"]


@pytest.mark.parametrize("quantity", [2**60, -(2**60), "many", b"\xff", 1.5])
def test_an_odometer_that_no_record_can_hold_does_not_stop_the_robot(tmp_path: Path, quantity: object) -> None:
    books, wrote = filled(tmp_path, SimulatedClock(seed=1))
    closed(books)
    connection = sqlite3.connect(tmp_path / LEDGER_FILE)
    connection.execute("UPDATE odometer SET quantity = ?", (quantity,))
    connection.commit()
    connection.close()
    started(tmp_path, SimulatedClock(seed=4))
    check_nothing_lost(tmp_path, wrote)


def test_an_earlier_epoch_that_is_found_damaged_is_salvaged_like_the_present_one(tmp_path: Path) -> None:
    books, wrote = filled(tmp_path, SimulatedClock(seed=1))
    asyncio.run(books.begin_epoch("different"))
    path = tmp_path / f"ledger-{wrote.epoch}.db"
    body = wrote.bodies[wrote.epoch, 9]
    path.write_bytes(path.read_bytes().replace(body, body.replace(b"hotel", b"motel")))
    assert (verify_books(tmp_path).sequence, verify_books(tmp_path).epoch) == (9, wrote.epoch)
    epochs.doubt(tmp_path, wrote.epoch)
    closed(books)
    started(tmp_path, SimulatedClock(seed=4))
    (gap,) = gaps(check_nothing_lost(tmp_path, wrote))
    assert (gap["first"], gap["last"]) == (9, 9)
