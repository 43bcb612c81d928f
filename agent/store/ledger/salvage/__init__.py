"""Salvage: what a damaged ledger still holds, under its old identity; what is missing is declared, and nothing is guessed.

Records are read through SQLite where it still reads, and carved out of the file and its log where it does not. Each is kept only
if the chain vouches for it: it follows from the record before, or the record after follows from it.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson

from agent.contract.canonical import genesis
from agent.contract.record import type_name
from agent.contract.signing import decode, verify
from agent.errors import VoxmeterError
from agent.metering.record import odometer_of_data
from agent.metering.rollup import odometer_of_totals
from agent.ports import Appended, Entry, OpenCall
from agent.store.db import DAMAGE, check_header, create, meta, put_meta
from agent.store.ledger import journal
from agent.store.ledger.chain import ADVANCE
from agent.store.ledger.leaving import backlog
from agent.store.ledger.salvage.carve import FOUND, carved, named, offer, place_of
from agent.store.ledger.salvage.sift import Hole, Sifted, sift
from agent.store.reading import EPOCH_FILE

T = TypeVar("T")

ROLLUP, USAGE, INTENT = type_name("rollup"), type_name("usage"), type_name("intent")

SKIPS_MAX = 1_024
"""The furthest jump over sequences SQLite can't read, and how many may follow each other; what lies beyond is left to carving."""

LOST_AT_ONCE_MAX = 100
"""How far beyond the last good record a lost one is believed that only one place names: a page holds tens; more is a damaged number."""

UNREADABLE = (*DAMAGE, ValueError, KeyError, TypeError, AttributeError)
"""What reading values of a damaged file can raise."""

SALVAGED = "salvaged"
"""In a salvaged ledger's `meta`: the name of the damaged file it was made of."""

CHECKPOINT = ("checkpoint", "checkpoint_key", "checkpoint_sig")

BESIDE = {
    "raw": "sequence, sha256, body",
    "anchor": "bootid, boottimems, time, quality",
    "deadletter": "sequence, code, body",
    "batch": "last, first, hash, odometer, anchors, batch_id, acked_at",
}
"""Tables whose rows go along as far as they can be read, with their columns."""

Known = Mapping[str, tuple[int, bytes]]
"""By epoch, a record that is known from elsewhere to have existed: its sequence and hash."""


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What came out of one damaged ledger."""

    epoch: str
    part: Path | None
    """A whole ledger file that waits for its name; None where no record is left."""
    records: int
    holes: tuple[Hole, ...]
    left: tuple[tuple[Entry, Appended], ...]
    """Calls that were open and have no final record among the salvaged."""


def salvage(damaged: Path, known: Known) -> Salvaged | None:
    """Makes a whole ledger of what a damaged one and its log still hold; None where nothing tells what they held."""
    held = {name: value for name, value in (_read(damaged, meta) or {}).items() if isinstance(name, str) and isinstance(value, str)}
    part = damaged.with_name(damaged.name + ".part")
    told: dict[str, Any] = {}

    def fill(connection: sqlite3.Connection) -> None:
        connection.execute(FOUND)
        _copy(damaged, connection)
        for one in carved(damaged):
            offer(connection, *one)
        epoch = _named_by_most(connection) or held.get("epoch", "")
        checkpoint = _checkpoint(held, epoch)
        sifted = sift(connection, epoch, _base(checkpoint))
        connection.execute("DROP TABLE found")
        kept = held if checkpoint else {name: value for name, value in held.items() if name not in CHECKPOINT}
        put_meta(connection, **(kept | {"epoch": epoch, SALVAGED: damaged.name}))
        totals = _sum_up(connection, checkpoint)
        end = max(_last_named(damaged, held, epoch, known, sifted.at), sifted.at + _shows_more(damaged, sifted, totals))
        holes = sifted.holes if end == sifted.at else (*sifted.holes, Hole(sifted.at + 1, end, sifted.head))
        _keep_beside(damaged, connection, holes)
        told.update(epoch=epoch, holes=holes, records=connection.execute("SELECT count(*) FROM record").fetchone()[0])

    create(part, fill)
    if not told["records"]:
        part.unlink()
        return _nothing_of(damaged.name[7:39], known)
    return Salvaged(told["epoch"], part, told["records"], told["holes"], tuple(_left(damaged, part)))


def _nothing_of(epoch: str, known: Known) -> Salvaged | None:
    """A ledger of which no record is left, if its name says which it was: at least its first record is gone."""
    if not EPOCH_FILE.fullmatch(f"ledger-{epoch}.db"):
        return None
    last = max(1, known.get(epoch, (0, b""))[0])
    return Salvaged(epoch, None, 0, (Hole(1, last, genesis(epoch)),), ())


def _connect(damaged: Path) -> sqlite3.Connection:
    check_header(damaged)
    return sqlite3.connect(damaged.resolve().as_uri() + "?mode=ro", uri=True)


def _read(path: Path, query: Callable[[sqlite3.Connection], T]) -> T | None:
    """What a query gives; None where the file does not let it."""
    try:
        with closing(_connect(path)) as connection:
            return query(connection)
    except (*UNREADABLE, OSError):
        return None


def _copy(damaged: Path, into: sqlite3.Connection) -> None:
    """Copies the rows SQLite can read."""
    try:
        connection = _connect(damaged)
    except (*DAMAGE, OSError):
        return
    with closing(connection):
        at, skip, skips = 0, 1, 0
        while skips < SKIPS_MAX:
            try:
                for row in connection.execute("SELECT sequence, type, hash, body FROM record WHERE sequence > ? ORDER BY sequence", (at,)):
                    _check_rising(at, row[0])
                    into.execute("INSERT OR IGNORE INTO record (sequence, type, hash, body) VALUES (?, ?, ?, ?)", row)
                    at, skip, skips = row[0], 1, 0
            except DAMAGE:
                at, skip, skips = at + skip, min(skip * 2, SKIPS_MAX), skips + 1
            else:
                return


def _check_rising(before: int, sequence: int) -> None:
    """Pages that point at each other in a circle would be read for ever."""
    if sequence <= before:
        raise sqlite3.DatabaseError("the pages of the records go round in a circle")


def _named_by_most(connection: sqlite3.Connection) -> str:
    """The epoch the records themselves name."""
    names: Counter[str] = Counter()
    for table in ("record", "found"):
        for (body,) in connection.execute(f"SELECT body FROM {table}"):  # noqa: S608  our own names
            with suppress(ValueError, KeyError, TypeError):
                names[str(orjson.loads(body)["id"]).partition(":")[0]] += 1
    return names.most_common(1)[0][0] if names else ""


def _checkpoint(held: Mapping[str, str], epoch: str) -> dict[str, Any]:
    """Where what was pruned ended, if it is still what was signed; else nothing."""
    try:
        content, signature = held["checkpoint"].encode(), decode(held["checkpoint_sig"])
        told = orjson.loads(content)
        if told["epoch"] == epoch and verify(decode(held["checkpoint_key"]), content, signature):
            return dict(told)
    except (*UNREADABLE, VoxmeterError):
        pass
    return {}


def _base(checkpoint: Mapping[str, Any]) -> tuple[int, bytes] | None:
    """The record before the first that can be there: what was pruned is not missing."""
    return (int(checkpoint["sequence"]), bytes.fromhex(checkpoint["hash"])) if checkpoint else None


def _sum_up(connection: sqlite3.Connection, checkpoint: Mapping[str, Any]) -> Counter[backlog.Place]:
    """Puts down, and returns, the odometer of what is there."""
    totals: Counter[backlog.Place] = Counter()
    if checkpoint:
        totals.update(backlog.totals_of(orjson.dumps(checkpoint["odometer"]).decode()))
    for type_, body in connection.execute("SELECT type, body FROM record WHERE type IN (?, ?)", (USAGE, ROLLUP)):
        told = orjson.loads(body)["data"]
        if type_ == USAGE:
            totals.update(odometer_of_data(told))
        elif told["last"] > checkpoint.get("sequence", 0):
            totals.update(odometer_of_totals(told["totals"]))
    connection.executemany(ADVANCE, [(*place, quantity) for place, quantity in totals.items()])
    return totals


def _last_named(damaged: Path, held: Mapping[str, str], epoch: str, known: Known, at: int) -> int:
    """The highest sequence that two places name, or one and not far beyond `at`: what once was there though its record is gone."""
    places = named(damaged, epoch)
    beyond = "SELECT sequence, body FROM record WHERE sequence > ?"
    rows = _read(damaged, lambda old: [row[:1] for row in old.execute(beyond, (at,)) if place_of(row[1])[0] in (0, row[0])])
    batches = _read(damaged, lambda old: old.execute("SELECT last FROM batch").fetchall())
    calls = _read(damaged, lambda old: [(intent.sequence,) for _, intent in journal.left(old) if intent.epoch == epoch])
    for (sequence,) in (*(rows or ()), *(batches or ()), *(calls or ())):
        if isinstance(sequence, int):
            places[sequence] += 1
    with suppress(ValueError):
        places[int(held.get("batched", "0"))] += 1
    sure = max((sequence for sequence, count in places.items() if count > 1), default=0)
    sure = max(sure, known.get(epoch, (0, b""))[0], at)
    return max(sure, *(sequence for sequence in (0, *places) if sequence <= sure + LOST_AT_ONCE_MAX))


def _shows_more(damaged: Path, sifted: Sifted, totals: Counter[backlog.Place]) -> int:
    """1 if the old odometer shows more than all that is there and no hole explains it: then the last record is gone, or more."""
    query = "SELECT stage, model, placement, class, quantity FROM odometer"
    shown = _read(damaged, lambda old: {tuple(row[:4]): row[4] for row in old.execute(query)}) or {}
    more = any(isinstance(quantity, int) and quantity > totals[place] for place, quantity in shown.items())
    return int(more and not sifted.holes)


def _keep_beside(damaged: Path, connection: sqlite3.Connection, holes: tuple[Hole, ...]) -> None:
    """What stands beside the records. Of the batches, those before the first hole: they can still be sent again as they were."""
    for table, columns in BESIDE.items():
        query = f"SELECT {columns} FROM {table}"  # noqa: S608  our own names
        for row in _read(damaged, lambda old, query=query: old.execute(query).fetchall()) or ():  # type: ignore[misc]
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})", row)  # noqa: S608  our own names
    (last,) = connection.execute("SELECT max(sequence) FROM record").fetchone()
    end = holes[0].first if holes else (last or 0) + 1
    connection.execute("DELETE FROM batch WHERE last >= ? OR typeof(last) <> 'integer'", (end,))
    connection.execute("DELETE FROM raw WHERE sequence NOT IN (SELECT sequence FROM record)")


def _left(damaged: Path, part: Path) -> Iterator[tuple[Entry, Appended]]:
    """Open calls without a final record. Where the journal can't be read: those of the last intent, whose figures nobody knows."""
    immutable = part.resolve().as_uri() + "?mode=ro&immutable=1"  # so that reading leaves no log beside it
    with closing(sqlite3.connect(immutable, uri=True)) as connection:
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
