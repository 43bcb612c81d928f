"""`bench ledger`: the ledger beside bare SQLite (WAL, synchronous=FULL, rows of the same size) on the same disk in the same run.

Blocks of both alternate; the figure is the median of the pairs' ratios. Bytes written are what the kernel says this process gave the
disk (`/proc/self/io`).
"""

import asyncio
import math
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from agent import processes
from agent.clock import SystemClock
from agent.ports import Draft
from agent.sim.power.life import IDENTITY, Life, a_usage
from agent.store.db import LEDGER_FILE, SETTINGS
from agent.store.ledger import SqliteLedger
from agent.store.ledger.space import MEBIBYTE, Limits
from agent.store.verify import verify_books

BLOCK = 200
"""Commits of one side before the other has its turn."""

TOGETHER = 500

TURN_RECORDS = 3

TIDIES = 40
"""Each makes only a few roll-ups, so as not to keep others waiting."""

ROOMY = Limits(quota_bytes=8_000 * MEBIBYTE, free_bytes_min=0)

INSERT = "INSERT INTO record (sequence, type, hash, body) VALUES (?, ?, ?, ?)"


async def run(records: int, rounds: int, folder: Path) -> dict[str, Any]:
    """All figures with what they should reach, as JSON values. `records`: in the ledger that is opened after a kill."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        told = await _appends(Path(scratch), rounds)
        told["wear"] = await _wear(Path(scratch) / "wear")
        told |= _large(Path(scratch) / "large", records)
    return told


class _Bare:
    """SQLite as anyone would use it for such rows."""

    def __init__(self, folder: Path, row: tuple[str, bytes, bytes]) -> None:
        folder.mkdir()
        self._connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
        for setting in SETTINGS:
            self._connection.execute(f"PRAGMA {setting}")
        self._connection.execute("CREATE TABLE record (sequence INTEGER PRIMARY KEY, type TEXT, hash BLOB, body BLOB)")
        self._row = row
        self._last = 0

    def append(self, count: int) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(INSERT, [(self._last + place, *self._row) for place in range(1, count + 1)])
        self._connection.execute("COMMIT")
        self._last += count


async def _appends(scratch: Path, rounds: int) -> dict[str, Any]:
    ledger = SqliteLedger(scratch / "ours", IDENTITY, SystemClock(), ROOMY)
    draft = a_usage()
    await ledger.append([draft])
    bare = _Bare(scratch / "bare", _row(scratch / "ours"))
    told: dict[str, Any] = {}
    try:
        for name, together, commits, reach in (("one_per_commit", 1, BLOCK, 0.7), ("500_per_commit", TOGETHER, 8, 0.4)):
            pairs = [await _pair(ledger, bare, draft, together, commits) for _ in range(rounds + 1)][1:]
            told[name] = {
                "ours_per_s": round(together / statistics.median(ours for pair in pairs for ours in pair[0])),
                "bare_per_s": round(together / statistics.median(theirs for pair in pairs for theirs in pair[1])),
                "ratio": round(statistics.median(sum(pair[1]) / sum(pair[0]) for pair in pairs), 3),
                "reach": reach,
            }
        pairs = [await _pair(ledger, bare, draft, TURN_RECORDS, BLOCK) for _ in range(rounds)]
        ours, theirs = (_p99([one for pair in pairs for one in pair[side]]) * 1000 for side in (0, 1))
        told["turn_p99"] = {"ours_ms": round(ours, 3), "bare_ms": round(theirs, 3), "ratio": round(ours / theirs, 2), "reach": 2.0}
        told["bytes_per_row"] = len(_row(scratch / "ours")[2])
    finally:
        await ledger.aclose()
    return told


async def _pair(ledger: SqliteLedger, bare: _Bare, draft: Draft, together: int, commits: int) -> tuple[list[float], list[float]]:
    """Seconds of each commit, ours and theirs."""
    ours, theirs = [], []
    drafts = [draft] * together
    for _ in range(commits):
        began = time.perf_counter()
        await ledger.append(drafts)
        ours.append(time.perf_counter() - began)
    for _ in range(commits):
        began = time.perf_counter()
        bare.append(together)
        theirs.append(time.perf_counter() - began)
    return ours, theirs


def _row(folder: Path) -> tuple[str, bytes, bytes]:
    connection = sqlite3.connect(f"{(folder / LEDGER_FILE).resolve().as_uri()}?mode=ro", uri=True)
    row: tuple[str, bytes, bytes] = connection.execute("SELECT type, hash, body FROM record ORDER BY sequence DESC").fetchone()
    connection.close()
    return row


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[math.ceil(len(seconds) * 0.99) - 1]


async def _wear(state: Path) -> dict[str, Any]:
    """What a turn costs a flash card, and what a record takes of it before and after what may be let go is let go."""
    life = Life(state, 1, limits=ROOMY)
    turns = 300
    before = _written_bytes()
    for _ in range(turns):
        await life.turn()
    written = _written_bytes() - before
    size, records = _size(state), _records(state)
    await life.sync(good=True)
    await _squeezed(life, size // 4)
    pruned = _size(state)
    for _ in range(turns):
        await life.turn()
    unfolded, count = _size(state), _records(state)
    await _squeezed(life, size // 8)
    folded = _size(state)
    await life.ledger.aclose()
    return {
        "written_per_turn_bytes": written // turns,
        "per_record_bytes": size // records,
        "after_pruning_bytes": {"records": records, "before": size, "after": pruned},
        "after_roll_up_bytes": {"records": count, "before": unfolded, "after": folded},
    }


async def _squeezed(life: Life, quota_bytes: int) -> None:
    """Lets go all that this quota asks for."""
    await life.reopen(Limits(quota_bytes, free_bytes_min=0))
    for _ in range(TIDIES):
        await life.ledger.tidy()
    await life.reopen(ROOMY)


def _written_bytes() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("write_bytes")).split()[1])


def _size(state: Path) -> int:
    return sum((state / name).stat().st_size for name in (LEDGER_FILE, f"{LEDGER_FILE}-wal") if (state / name).exists())


def _records(state: Path) -> int:
    return verify_books(state).records


FILL = """
import asyncio, sys
from pathlib import Path
from agent.bench.ledger import fill
asyncio.run(fill(Path(sys.argv[1]), int(sys.argv[2])))
"""


async def fill(state: Path, records: int) -> None:
    """Appends until there are so many, says so, and waits for its end."""
    ledger = SqliteLedger(state, IDENTITY, SystemClock(), ROOMY)
    draft = a_usage()
    for _ in range(records // TOGETHER):
        await ledger.append([draft] * TOGETHER)
    sys.stdout.write("full\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def _large(state: Path, records: int) -> dict[str, Any]:
    """A ledger whose owner was killed: how long until the next is ready for a turn, and how fast it is verified."""
    with subprocess.Popen([sys.executable, "-P", "-c", FILL, str(state), str(records)], stdout=subprocess.PIPE, text=True) as filler:
        assert filler.stdout is not None
        filler.stdout.readline()
        filler.send_signal(signal.SIGKILL)
    seconds = [_until_ready(state) for _ in range(3)]
    began = time.perf_counter()
    verdict = verify_books(state)
    rate = verdict.records / (time.perf_counter() - began)
    return {
        "start": {
            "records": verdict.records,
            "whole": verdict.whole,
            "first_s": round(seconds[0], 2),
            "s": [round(one, 2) for one in seconds],
            "reach": 2.0,
        },
        "verify": {"records_per_s": round(rate), "reach": 50_000, "pss_mb": round(processes.pss_mb([processes.own()]), 1)},
    }


def _until_ready(state: Path) -> float:
    """From the start of a process to a robot with scripted engines that takes a turn; the process is killed then, too."""
    began = time.perf_counter()
    command = [sys.executable, "-P", "-m", "agent", "run", "--profile", "scripted", "--state-dir", str(state)]
    roomy = os.environ | {"VOXMETER_LEDGER__QUOTA_MB": str(ROOMY.quota_bytes // MEBIBYTE)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=roomy) as robot:
        assert robot.stdout is not None
        line = robot.stdout.readline()
        seconds = time.perf_counter() - began
        robot.send_signal(signal.SIGKILL)
    assert line.startswith("ready"), line
    return seconds
