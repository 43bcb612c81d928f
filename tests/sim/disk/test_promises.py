"""What real programs are promised of a disk holds in every honest image, and the model can show where a promise was never made."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.clock import seeded
from agent.files import write_durably
from agent.sim.disk.crash import images_at, write
from agent.sim.disk.fuse import recorded
from agent.sim.disk.replay import Replay
from agent.sim.disk.trace import Trace

ROWS = 12


def committed(folder: Path, synchronous: str) -> Trace:
    """Commits ROWS rows, one at a time; a mark with its number follows each. A checkpoint falls in between, and a reset of the WAL."""
    with recorded(folder) as disk:
        connection = sqlite3.connect(folder / "ledger.db", isolation_level=None)
        for words in ("PRAGMA journal_mode=WAL", f"PRAGMA synchronous={synchronous}", "PRAGMA wal_autocheckpoint=20"):
            connection.execute(words)
        connection.execute("CREATE TABLE record(sequence INTEGER PRIMARY KEY, body BLOB)")
        for sequence in range(1, ROWS + 1):
            connection.execute("INSERT INTO record VALUES (?, ?)", (sequence, bytes([sequence]) * 5000))
            disk.mark(str(sequence))
        connection.close()
    return disk.trace()


def rows(folder: Path) -> list[int] | None:
    """What SQLite finds after its recovery: none where there is no table, None where the file is damaged."""
    connection = sqlite3.connect(folder / "ledger.db")
    try:
        whole = connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        found = connection.execute("SELECT sequence, body FROM record ORDER BY sequence").fetchall()
    except sqlite3.DatabaseError as error:
        return [] if "no such table" in str(error) else None
    finally:
        connection.close()
    whole &= all(body == bytes([sequence]) * 5000 for sequence, body in found)
    return [sequence for sequence, _ in found] if whole else None


def after_cuts(trace: Trace, state: Path, count: int, step: int, lying: bool = False) -> Iterator[tuple[int, list[int] | None]]:
    """How many commits had returned at a cut, and the rows that are left."""
    replay, chance, marks = Replay(trace), seeded(5), trace.marks()
    for k in range(0, len(trace), step):
        replay.advance(k)
        for left in images_at(replay, chance, count, lying):
            write(left, state)
            yield sum(index <= k for index in marks.values()), rows(state)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


def test_a_commit_with_full_synchronisation_survives_every_power_cut(disk: Path, tmp_path: Path) -> None:
    for returned, left in after_cuts(committed(disk, "FULL"), tmp_path / "state", count=3, step=1):
        assert left is not None
        assert left == list(range(1, len(left) + 1))
        assert len(left) >= returned


def test_a_commit_with_normal_synchronisation_may_be_lost(disk: Path, tmp_path: Path) -> None:
    outcomes = list(after_cuts(committed(disk, "NORMAL"), tmp_path / "state", count=5, step=4))
    assert all(left is not None for _, left in outcomes)
    assert any(len(left or []) < returned for returned, left in outcomes)


def test_a_disk_that_lies_loses_what_was_committed(disk: Path, tmp_path: Path) -> None:
    outcomes = list(after_cuts(committed(disk, "FULL"), tmp_path / "state", count=5, step=2, lying=True))
    assert any(left is None for _, left in outcomes)
    assert any(left is not None and len(left) < returned for returned, left in outcomes)


def test_a_file_written_durably_is_whole_in_every_honest_image(disk: Path) -> None:
    versions = [bytes([version]) * (700 * version) for version in range(1, 6)]
    with recorded(disk) as mounted:
        for version, content in enumerate(versions, 1):
            write_durably(disk / "mode", content)
            mounted.mark(str(version))
    trace = mounted.trace()
    replay, marks = Replay(trace), trace.marks()
    for k in range(len(trace)):
        replay.advance(k)
        returned = sum(index <= k for index in marks.values())
        for left in images_at(replay, seeded(k), 20):
            possible = versions[max(returned - 1, 0) : returned + 1]
            assert left.get("mode") in possible or (returned == 0 and "mode" not in left)
