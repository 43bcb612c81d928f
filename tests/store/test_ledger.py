"""The ledger: what append returned for is there, chained, and on the odometer."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.contract.canonical import canonical, genesis, link
from agent.contract.record import check
from agent.errors import BadInput, LedgerBusy, LedgerDamaged
from agent.metering.record import odometer_of, usage_data
from agent.ports import Draft
from agent.sim.clock import SimulatedClock
from agent.store.db import LEDGER_FILE, MIGRATIONS
from agent.store.ledger import SqliteLedger
from agent.store.ledger.chain import Identity
from agent.store.reading import EpochReader, LedgerReader
from agent.store.verify import verify_books
from agent.values import StageResult, StageTimes, StageUsage
from tests.metering.test_rating import card

ROBOT = Identity("demo", "sim-1", "hotel")


@contextmanager
def ledger(state: Path, clock: SimulatedClock) -> Iterator[SqliteLedger]:
    opened = SqliteLedger(state, ROBOT, clock)
    try:
        yield opened
    finally:
        asyncio.run(opened.aclose())


def usage(tokens: int = 3, turn: str = "t") -> Draft:
    result = StageResult("asr", "asr_scripted", "m", "completed", StageUsage(output_tokens=tokens), StageTimes(0, None, 1))
    return Draft("usage", usage_data(result, turn_id=turn, session_id="s", card=card(), tokenizer="w@1"), odometer_of(result))


def append(books: SqliteLedger, *drafts: Draft) -> list[int]:
    return [appended.sequence for appended in asyncio.run(books.append(drafts))]


def pragma_of(books: SqliteLedger, name: str) -> object:
    return asyncio.run(books._do(lambda connection: connection.execute(f"PRAGMA {name}").fetchone()[0]))


def test_records_are_gapless_valid_and_chained_over_restarts(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        assert append(books, usage(), usage()) == [2, 3]
        epoch = books.epoch
    with ledger(tmp_path, clock) as books:
        assert (books.epoch, append(books, usage())) == (epoch, [4])
    head = genesis(epoch)
    rows = sqlite3.connect(tmp_path / LEDGER_FILE).execute("SELECT sequence, type, hash, body FROM record ORDER BY sequence").fetchall()
    for expected, (sequence, type_, hash_, body) in enumerate(rows, 1):
        record = orjson.loads(body)
        check(record)
        head = link(head, body)
        assert (sequence, type_, hash_, canonical(record)) == (expected, record["type"], head, body)
    assert verify_books(tmp_path).whole
    assert verify_books(tmp_path).records == 4


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(0, 10**6), max_size=4), max_size=6))
def test_the_odometer_is_the_sum_of_the_records(tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]]) -> None:
    state = tmp_path_factory.mktemp("ledger")
    for batch in batches:
        with ledger(state, SimulatedClock()) as books:
            append(books, *(usage(tokens) for tokens in batch))
    held = sum(map(sum, batches))
    if batches:
        assert LedgerReader(state).odometer() == ({("asr", "m", "device", "output"): held} if held else {})
        assert len(list(LedgerReader(state).bodies("usage"))) == sum(map(len, batches))


def test_time_stands_on_a_record_only_when_the_clock_can_be_trusted(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        for quality in ("none", "floor", "ntp", "signed"):
            clock.believed = quality
            append(books, usage())
    timed = ["time" in record for record in LedgerReader(tmp_path).records("usage")]
    assert timed == [False, False, True, True]


def test_one_owner_at_a_time(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock), pytest.raises(LedgerBusy, match=f"belongs to process {os.getpid()}"):
        SqliteLedger(tmp_path, ROBOT, clock)
    with ledger(tmp_path, clock):
        pass


def test_another_robots_ledger_is_not_written_to(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock):
        pass
    with pytest.raises(BadInput, match="the ledger is of robot demo/sim-1, the profile is of demo/sim-2; use another --state-dir"):
        SqliteLedger(tmp_path, Identity("demo", "sim-2", "hotel"), clock)


def test_a_refused_draft_leaves_nothing_of_its_batch(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        with pytest.raises(ValueError, match="not canonical"):
            append(books, usage(), Draft("usage", {"price": 0.1}))
        assert append(books, usage()) == [2]
    assert LedgerReader(tmp_path).odometer() == {("asr", "m", "device", "output"): 3}


def test_every_commit_is_durable_before_it_returns(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        pragma = {name: pragma_of(books, name) for name in ("journal_mode", "synchronous", "auto_vacuum")}
    assert pragma == {"journal_mode": "wal", "synchronous": 2, "auto_vacuum": 2}


KILLED = """
import asyncio, sys
from pathlib import Path
from tests.store.test_ledger import usage
from agent.clock import SystemClock
from agent.store.ledger import SqliteLedger
from agent.store.ledger.chain import Identity
async def main():
    books = SqliteLedger(Path(sys.argv[1]), Identity("demo", "sim-1", "hotel"), SystemClock())
    while True:
        done = await books.append([usage(), usage()])
        print(done[-1].sequence, flush=True)
asyncio.run(main())
"""


def test_a_killed_writer_loses_nothing_it_was_told_is_there(tmp_path: Path, clock: SimulatedClock) -> None:
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(40)]
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.read().splitlines()
        writer.wait()
        writer.stdout.close()
        promised = max(int(line) for line in lines if line.strip().isdigit())
        with ledger(tmp_path, clock) as books:
            (next_,) = append(books, usage())
        assert next_ > promised
        assert verify_books(tmp_path).whole


def _flipped(state: Path, sequence: int, column: str, at: int) -> None:
    connection = sqlite3.connect(state / LEDGER_FILE)
    (value,) = connection.execute(f"SELECT {column} FROM record WHERE sequence = ?", (sequence,)).fetchone()
    raw = bytearray(value.encode() if isinstance(value, str) else value)
    raw[at % len(raw)] ^= 1
    changed = raw.decode("latin-1") if isinstance(value, str) else bytes(raw)
    connection.execute(f"UPDATE record SET {column} = ? WHERE sequence = ?", (changed, sequence))
    connection.commit()
    connection.close()


@pytest.mark.parametrize("column", ["body", "hash", "type"])
@pytest.mark.parametrize("at", [0, 7, 100, 333])
def test_one_changed_byte_names_its_record(tmp_path: Path, clock: SimulatedClock, column: str, at: int) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage(), usage(), usage())
    _flipped(tmp_path, 3, column, at)
    verdict = verify_books(tmp_path)
    assert (verdict.whole, verdict.sequence, verdict.records) == (False, 3, 2)


def test_a_missing_record_is_named(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage(), usage())
    connection = sqlite3.connect(tmp_path / LEDGER_FILE)
    connection.execute("DELETE FROM record WHERE sequence = 2")
    connection.commit()
    connection.close()
    assert verify_books(tmp_path).sequence == 2


def test_any_changed_byte_of_the_file_is_found_or_harmless(tmp_path: Path, clock: SimulatedClock) -> None:
    """Bytes of the file itself, where SQLite keeps its own structures: never a traceback, never a wrong answer called whole."""
    with ledger(tmp_path, clock) as books:
        append(books, *(usage() for _ in range(20)))
    path = tmp_path / LEDGER_FILE
    sound = path.read_bytes()
    bodies = list(LedgerReader(tmp_path).bodies())
    for at in range(0, len(sound), 97):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 0xFF]) + sound[at + 1 :])
        try:
            reader = LedgerReader(tmp_path)
            assert not verify_books(tmp_path).whole or list(reader.bodies()) == bodies
            reader.close()
        except LedgerDamaged:
            pass


def test_no_ledger_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no ledger in"):
        LedgerReader(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a database", b"SQLite format 3\x00" + b"\xff" * 200])
def test_a_file_that_is_no_ledger_is_set_aside_and_the_robot_starts(tmp_path: Path, clock: SimulatedClock, content: bytes) -> None:
    (tmp_path / LEDGER_FILE).write_bytes(content)
    with pytest.raises(LedgerDamaged):
        list(LedgerReader(tmp_path).bodies())
    with ledger(tmp_path, clock) as books:
        append(books, usage())
        assert (tmp_path / "ledger-lost.damaged").read_bytes() == content
        assert "waits to be salvaged" in verify_books(tmp_path).problem
        asyncio.run(books.salvage(lambda left: []))
    assert verify_books(tmp_path).whole


def test_a_file_knows_which_migration_it_had(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        assert pragma_of(books, "user_version") == len(MIGRATIONS)


@pytest.mark.parametrize(
    "change",
    ["UPDATE odometer SET quantity = quantity * 2", "DELETE FROM odometer", "DELETE FROM record WHERE sequence = 3"],
    ids=["doubled", "emptied", "last record removed"],
)
def test_an_odometer_that_is_not_the_sum_of_the_records_is_found(tmp_path: Path, clock: SimulatedClock, change: str) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage(), usage())
    connection = sqlite3.connect(tmp_path / LEDGER_FILE)
    connection.execute(change)
    connection.commit()
    connection.close()
    verdict = verify_books(tmp_path)
    assert not verdict.whole
    assert "odometer" in verdict.problem


@pytest.mark.parametrize("name", ["a#b", "q?mode=rw", "p%20x", "with space"])
def test_a_state_folder_may_be_called_anything(tmp_path: Path, clock: SimulatedClock, name: str) -> None:
    with ledger(tmp_path / name, clock) as books:
        append(books, usage())
    assert verify_books(tmp_path / name).whole
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_body_that_is_no_json_is_told_not_thrown(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage())
    _flipped(tmp_path, 2, "body", 0)
    with pytest.raises(LedgerDamaged, match="not JSON"):
        list(LedgerReader(tmp_path).records())


def test_a_robot_that_writes_meanwhile_does_not_look_like_a_broken_odometer(
    tmp_path: Path, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = EpochReader.odometer
    with ledger(tmp_path, clock) as books:
        append(books, usage())

        def odometer_after_another_turn(reader: EpochReader) -> Counter[tuple[str, str, str, str]]:
            append(books, usage())
            return plain(reader)

        monkeypatch.setattr(EpochReader, "odometer", odometer_after_another_turn)
        assert verify_books(tmp_path).whole
        monkeypatch.undo()
        assert verify_books(tmp_path).records == 3
