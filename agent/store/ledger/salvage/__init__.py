"""Salvage: what a damaged ledger still holds, under its old identity; what is missing is declared, and nothing is guessed.

Records are read through SQLite where it still reads, and carved out of the file and its log where it does not. Each is kept only
if the chain vouches for it: it follows from the record before, or the record after follows from it.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from agent.contract.record import type_name
from agent.metering.record import odometer_of_data
from agent.metering.rollup import odometer_of_totals
from agent.ports import Appended, Entry, OpenCall
from agent.store.db import DAMAGE, create, meta, open_reader, put_meta
from agent.store.ledger import backlog, journal
from agent.store.ledger.chain import ADVANCE
from agent.store.ledger.salvage.carve import FOUND, carved, offer
from agent.store.ledger.salvage.sift import Hole, sift

ROLLUP, USAGE, INTENT = type_name("rollup"), type_name("usage"), type_name("intent")

SKIPS_MAX = 1_024
"""The furthest jump over sequences SQLite can't read; what lies between is left to carving."""

Known = Mapping[str, tuple[int, bytes]]
"""By epoch, a record that is known from elsewhere to have existed: its sequence and hash."""


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What came out of one damaged ledger."""

    epoch: str
    part: Path
    """A whole ledger file that waits for its name."""
    records: int
    holes: tuple[Hole, ...]
    left: tuple[tuple[Entry, Appended], ...]
    """Calls that were open and have no final record among the salvaged."""


def salvage(damaged: Path, known: Known) -> Salvaged | None:
    """Makes a whole ledger of what a damaged one and its log still hold; None where they hold no record at all."""
    held = _read(damaged, meta) or {}
    part = damaged.with_name(damaged.name + ".part")
    told: dict[str, Any] = {}

    def fill(connection: sqlite3.Connection) -> None:
        connection.execute(FOUND)
        complete = _copy(damaged, connection)
        if not complete:
            for one in carved(damaged):
                offer(connection, *one)
        epoch = held.get("epoch") or _named_by_most(connection)
        base = _base(held, epoch, known)
        at_least = max(known.get(epoch, (0, b""))[0], int(held.get("batched", "0")))
        told.update(epoch=epoch, holes=sift(connection, epoch, base, at_least))
        told["records"] = connection.execute("SELECT count(*) FROM record").fetchone()[0]
        connection.execute("DROP TABLE found")
        put_meta(connection, **(held | {"epoch": epoch, "salvaged": "1"}))
        _sum_up(connection, held)
        _keep_batches(damaged, connection, told["holes"])

    create(part, fill)
    if not told["records"]:
        part.unlink()
        return None
    return Salvaged(told["epoch"], part, told["records"], tuple(told["holes"]), tuple(_left(damaged, part)))


def _read(path: Path, query: Any) -> Any:
    """What a query gives; None where the file does not let it."""
    try:
        with closing(sqlite3.connect(path.resolve().as_uri() + "?mode=ro", uri=True)) as connection:
            return query(connection)
    except DAMAGE:
        return None


def _copy(damaged: Path, into: sqlite3.Connection) -> bool:
    """Copies the rows SQLite can read; says whether they are all."""
    try:
        connection = sqlite3.connect(damaged.resolve().as_uri() + "?mode=ro", uri=True)
    except sqlite3.Error:
        return False
    with closing(connection):
        try:
            (last,) = connection.execute("SELECT max(sequence) FROM record").fetchone()
            whole = connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok" and not _log(damaged).exists()
        except DAMAGE:
            last, whole = None, False
        at, skip = 0, 1
        while last is not None and at < last:
            try:
                for row in connection.execute("SELECT sequence, type, hash, body FROM record WHERE sequence > ? ORDER BY sequence", (at,)):
                    into.execute("INSERT OR IGNORE INTO record (sequence, type, hash, body) VALUES (?, ?, ?, ?)", row)
                    at, skip = row[0], 1
                break
            except DAMAGE:
                at, skip, whole = at + skip, min(skip * 2, SKIPS_MAX), False
    return whole


def _named_by_most(connection: sqlite3.Connection) -> str:
    """The epoch the records themselves name."""
    names: Counter[str] = Counter()
    for table in ("record", "found"):
        for (body,) in connection.execute(f"SELECT body FROM {table}"):  # noqa: S608  our own names
            with suppress(ValueError, KeyError, TypeError):
                names[str(orjson.loads(body)["id"]).partition(":")[0]] += 1
    return names.most_common(1)[0][0] if names else ""


def _base(held: Mapping[str, str], epoch: str, known: Known) -> tuple[int, bytes] | None:
    """The record before the first that can be there: what was pruned is not missing."""
    with suppress(ValueError, KeyError, TypeError):
        checkpoint = orjson.loads(held["checkpoint"])
        return int(checkpoint["sequence"]), bytes.fromhex(checkpoint["hash"])
    return None if held else known.get(epoch)


def _sum_up(connection: sqlite3.Connection, held: Mapping[str, str]) -> None:
    """The odometer of what is there."""
    totals: Counter[backlog.Place] = Counter()
    with suppress(ValueError, KeyError, TypeError):
        totals.update(backlog.totals_of(orjson.dumps(orjson.loads(held["checkpoint"])["odometer"]).decode()))
    for type_, body in connection.execute("SELECT type, body FROM record WHERE type IN (?, ?)", (USAGE, ROLLUP)):
        told = orjson.loads(body)["data"]
        totals.update(odometer_of_data(told) if type_ == USAGE else odometer_of_totals(told["totals"]))
    connection.executemany(ADVANCE, [(*place, quantity) for place, quantity in totals.items()])


def _keep_batches(damaged: Path, connection: sqlite3.Connection, holes: list[Hole]) -> None:
    """Batches before the first hole can still be sent again as they were."""
    end = holes[0].first if holes else 1 << 62
    rows = _read(damaged, lambda old: old.execute("SELECT * FROM batch WHERE last < ?", (end,)).fetchall()) or []
    connection.executemany("INSERT OR IGNORE INTO batch VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def _left(damaged: Path, part: Path) -> Iterator[tuple[Entry, Appended]]:
    """Open calls without a final record. Where the journal can't be read: those of the last intent, whose figures nobody knows."""
    with closing(open_reader(part)) as connection:
        left = _read(damaged, journal.left)
        if left is None:
            left = _of_last_intent(connection)
        begin = min((intent.sequence for _, intent in left), default=0)
        ended = set()
        for (body,) in connection.execute("SELECT body FROM record WHERE sequence >= ? AND type = ?", (begin, USAGE)):
            told = orjson.loads(body)["data"]
            ended.add((told["turn_id"], told["stage"], told["attempt"]))
        yield from ((entry, intent) for entry, intent in left if (entry.call.turn_id, entry.call.stage, entry.call.attempt) not in ended)


def _of_last_intent(connection: sqlite3.Connection) -> list[tuple[Entry, Appended]]:
    row = connection.execute("SELECT sequence, body FROM record WHERE type = ? ORDER BY sequence DESC LIMIT 1", (INTENT,)).fetchone()
    if row is None:
        return []
    body = orjson.loads(row[1])
    told, intent = body["data"], Appended(body["id"].partition(":")[0], row[0])
    kept = ("stage", "engine", "model", "placement", "attempt")
    calls = [OpenCall(told["turn_id"], told["session_id"], **{name: call[name] for name in kept}) for call in told["calls"]]
    return [(Entry(call, "started"), intent) for call in calls]


def _log(path: Path) -> Path:
    return path.with_name(path.name + "-wal")
