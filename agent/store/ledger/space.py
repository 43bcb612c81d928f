"""Room on the disk: what is let go at which pressure, so that a small card holds the books for weeks and nothing unacked is lost.

    70 %  the raw of acked records goes, and acked records past their time
    90 %  records that never left are folded into roll-ups: totals stay, lines go
    full  new turns are refused; what runs is still recorded, into the room that the reserve file kept free

Pressure is the ledger's size against its quota, or, where that is worse, what the disk has left.
"""

import datetime
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from agent.contract.canonical import BODY_BYTES_MAX, genesis
from agent.contract.record import type_name
from agent.contract.signing import encode
from agent.errors import VoxmeterError
from agent.files import sync_folder
from agent.metering.rollup import fold
from agent.ports import Draft
from agent.store.db import BUSY_MS, meta, put_meta
from agent.store.keys import FORMER_KEYS, Keys
from agent.store.ledger.chain import Chain, ready
from agent.store.ledger.leaving.backlog import checkpoint as pruned_through
from agent.store.ledger.leaving.backlog import cursor, written_time

RESERVE_FILE = "reserve"

TIDY, FOLD, FULL = 0.7, 0.9, 1.0
"""Pressures from which something is let go."""

KEPT_DAYS = 35
"""How long an acked record is kept whose backup the backend has not yet vouched for, in days of the backend's signed time."""

BATCHES_KEPT = 500
"""Of pruned batches, hash and odometer stay, about 1 KiB each: what a backend lost that is restored from a backup is told by them."""

KEEP_FEW = "DELETE FROM batch WHERE last < ? AND last NOT IN (SELECT last FROM batch WHERE last < ? ORDER BY last DESC LIMIT ?)"

FOLDED_MAX = 2_000
"""Records one roll-up folds: what one transaction may hold up the others for."""

ROLLUP_BYTES_MAX = BODY_BYTES_MAX - 1_024
"""Leaves room for the envelope."""

FOLDS_AT_ONCE = 4
"""Roll-ups made before others get the ledger again."""

VACUUM_PAGES = 2_048
"""Pages given back to the disk at a time."""

USAGE, INTENT, ROLLUP, KEY = type_name("usage"), type_name("intent"), type_name("rollup"), type_name("key")
GAP = type_name("gap")

REPLACES = b'"replaces":{'
"""In a record that is issued again. It is billed only if no other of its call is, which no total could tell any more."""

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What a ledger may take of a disk, in bytes."""

    quota_bytes: int = 512 * MEBIBYTE
    """Of the ledger's file: some 500,000 records."""
    free_bytes_min: int = 64 * MEBIBYTE
    """Less free than this on the disk is pressure, however small the ledger."""
    reserve_bytes: int = 0
    """Kept free for the records of what is running when the disk fills up; 16 MiB on a robot."""


class Space:
    """Watches the room of one state folder. Its methods run in the writing thread."""

    def __init__(self, state: Path, limits: Limits, keys: Keys) -> None:
        self._state = state
        self._limits = limits
        self._keys = keys
        self.pressure = 0.0
        self.used_up = False
        """A write was refused and the reserve is spent or being spent."""

    @property
    def room(self) -> bool:
        """Whether a new turn may begin."""
        return self.pressure < FULL and not self.used_up

    def look(self, connection: sqlite3.Connection) -> float:
        """The pressure now. Puts the reserve back where there is room for it again."""
        (pages,), (free,), (size,) = (
            connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count", "page_size")
        )
        by_quota = (pages - free) * size / self._limits.quota_bytes
        disk = os.statvfs(self._state)
        left = disk.f_bavail * disk.f_frsize
        by_disk = 0.0 if left >= self._limits.free_bytes_min else (FOLD if left > self._limits.free_bytes_min / 4 else FULL)
        self.pressure = max(by_quota, by_disk)
        if left >= self._limits.free_bytes_min + self._limits.reserve_bytes:
            self._keep_reserve()
        return self.pressure

    def spend_reserve(self) -> bool:
        """Frees the reserve for records of what is running; says whether there was one."""
        self.used_up = True
        reserve = self._state / RESERVE_FILE
        if not reserve.exists():
            return False
        reserve.unlink()
        sync_folder(self._state)
        return True

    def _keep_reserve(self) -> None:
        reserve = self._state / RESERVE_FILE
        size = self._limits.reserve_bytes
        if size and not (reserve.exists() and reserve.stat().st_size >= size):
            try:
                _reserve(reserve, size)
            except OSError:  # less room than it seemed; the next look tries again
                with suppress(OSError):
                    reserve.unlink(missing_ok=True)
                return
        self.used_up = False

    def tidy(self, connection: sqlite3.Connection, chain: Chain) -> None:
        """Lets go what the pressure asks for, in transactions of its own. Returns when it is durable and given back to the disk.

        A disk that has no room even for that is no error: records of what runs may still fit, and the next call tries again.
        """
        try:
            self._let_go(connection, chain)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_FULL:
                raise
            self.used_up = True

    def _let_go(self, connection: sqlite3.Connection, chain: Chain) -> None:
        if self.look(connection) < TIDY:
            return
        for kept in self._state.glob("ledger-*.kept*"):  # all that was in them is salvaged or declared
            kept.unlink(missing_ok=True)
        gone = _in_transaction(connection, chain, lambda: _drop_raw(connection))
        with suppress(VoxmeterError):  # a key that can't sign keeps what is acked; folding needs no key
            gone += _in_transaction(connection, chain, lambda: prune(connection, chain.epoch, self._keys))
        folds = 0
        while (
            self.look(connection) >= FOLD
            and folds < FOLDS_AT_ONCE
            and _in_transaction(connection, chain, lambda: fold_once(connection, chain))
        ):
            folds += 1
        if gone or folds:
            self._give_back(connection)
            self.look(connection)

    def _give_back(self, connection: sqlite3.Connection) -> None:
        """Free pages go back to the disk, a piece at a time; then the log is emptied."""
        free, before = _free_pages(connection), -1
        while free and free != before:  # a file that was made without incremental vacuum keeps its pages
            connection.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
            free, before = _free_pages(connection), free
        connection.execute("PRAGMA busy_timeout=0")  # while a reader holds the log it stays; records must not wait for a long reader
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")


def _free_pages(connection: sqlite3.Connection) -> int:
    pages: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return pages


def _reserve(path: Path, size: int) -> None:
    """Takes bytes of the disk. Raises OSError where there are not that many."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
    finally:
        os.close(descriptor)


def _in_transaction(connection: sqlite3.Connection, chain: Chain, work: Callable[[], int]) -> int:
    chain.remember()
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        chain.undo()
        raise
    return result


def _drop_raw(connection: sqlite3.Connection) -> int:
    """Of batches that are acked whole: the others may be sent again, and must be the same bytes."""
    query = "DELETE FROM raw WHERE sequence <= (SELECT max(last) FROM batch WHERE last <= ?)"
    return connection.execute(query, (cursor(connection).acked,)).rowcount


def prune(connection: sqlite3.Connection, epoch: str, keys: Keys) -> int:
    """Drops acked records past their time, up to the end of a batch, and signs the checkpoint that verification begins at.

    Returns how many went. The last record always stays: it holds the head of the chain. Gaps stay: they account for earlier epochs.
    The checkpoint never moves back, also where a backend came back from a backup: what was pruned is not there to begin before it.
    """
    held = meta(connection)
    (last,) = connection.execute("SELECT max(sequence) FROM record").fetchone()
    query = "SELECT last, hash, odometer FROM batch WHERE last > ? AND last <= ? AND last < ? AND (last <= ? OR acked_at <= ?)"
    acked, durable = int(held.get("acked", "0")), int(held.get("durable_through", "0"))
    given = (pruned_through(connection)[0], acked, last, durable, _days_before(held.get("server_time", "")))
    row = connection.execute(f"{query} ORDER BY last DESC LIMIT 1", given).fetchone()
    if row is None:
        return 0
    boundary, hash_, odometer = row
    checkpoint = {"epoch": epoch, "sequence": boundary, "hash": hash_.hex(), "odometer": orjson.loads(odometer)}
    content = orjson.dumps(checkpoint, option=orjson.OPT_SORT_KEYS)
    key = keys.current
    put_meta(connection, checkpoint=content.decode(), checkpoint_key=encode(key.public), checkpoint_sig=encode(key.sign(content)))
    changes = connection.execute("SELECT body FROM record WHERE type = ? AND sequence <= ? ORDER BY sequence", (KEY, boundary))
    if told := [orjson.loads(body)["data"] for (body,) in changes]:
        put_meta(connection, **{FORMER_KEYS: orjson.dumps([*orjson.loads(held.get(FORMER_KEYS, "[]")), *told]).decode()})
    connection.execute(KEEP_FEW, (boundary, boundary, BATCHES_KEPT))
    connection.execute("DELETE FROM raw WHERE sequence <= ?", (boundary,))
    return connection.execute("DELETE FROM record WHERE sequence <= ? AND type <> ?", (boundary, GAP)).rowcount


def _days_before(server_time: str) -> str:
    """The moment KEPT_DAYS before the backend's last signed time; nothing is older than nothing."""
    if not server_time:
        return ""
    return written_time(datetime.datetime.fromisoformat(server_time) - datetime.timedelta(days=KEPT_DAYS))


def fold_once(connection: sqlite3.Connection, chain: Chain) -> bool:
    """Folds the oldest run of records that never left into one roll-up; says whether there was one worth folding.

    Only usage that replaces none, and intents none of whose calls is open, are folded; anything else ends the run.
    """
    begin = cursor(connection).batched
    while rows := _run(connection, begin):
        begin = rows[-1][0]
        while len(rows) > 1:
            told = _told(connection, chain.epoch, rows)
            if len(orjson.dumps(told)) < min(ROLLUP_BYTES_MAX, sum(len(row[3]) for row in rows) // 2):
                for table in ("record", "raw"):
                    connection.execute(f"DELETE FROM {table} WHERE sequence BETWEEN ? AND ?", (rows[0][0], rows[-1][0]))  # noqa: S608  our names
                chain.put(connection, [ready(Draft("rollup", told))])
                return True
            rows = rows[: len(rows) // 2]
    return False


def _run(connection: sqlite3.Connection, begin: int) -> list[Any]:
    """The oldest run of records after `begin` that may be folded, without the last record; it holds usage or is empty."""
    open_intents = {int(intent.partition(":")[2] or 0) for (intent,) in connection.execute("SELECT intent FROM journal")}
    (last,) = connection.execute("SELECT max(sequence) FROM record").fetchone()
    query = "SELECT sequence, type, hash, body FROM record WHERE sequence > ? AND sequence < ? ORDER BY sequence LIMIT ?"
    run: list[Any] = []
    for row in connection.execute(query, (begin, last, FOLDED_MAX)):
        foldable = (row[1] == USAGE and REPLACES not in row[3]) or (row[1] == INTENT and row[0] not in open_intents)
        if foldable and (not run or row[0] == run[-1][0] + 1):
            run.append(row)
        elif any(held[1] == USAGE for held in run):
            return run
        else:
            run = [row] if foldable else []
    return run if any(held[1] == USAGE for held in run) else []


def _told(connection: sqlite3.Connection, epoch: str, rows: Sequence[Any]) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "first": rows[0][0],
        "last": rows[-1][0],
        "h_before": _before(connection, epoch, rows[0][0]),
        "h_last": rows[-1][2].hex(),
        "reason": "disk full",
        "totals": fold([orjson.loads(body) for _, type_, _, body in rows if type_ == USAGE]),
    }


def _before(connection: sqlite3.Connection, epoch: str, first: int) -> str:
    """Hex of the hash that record `first` was linked to: of the record before, of what was folded before, or of a batch's end."""
    for query in ("SELECT hash FROM record WHERE sequence = ?", "SELECT hash FROM batch WHERE last = ?"):
        if row := connection.execute(query, (first - 1,)).fetchone():
            return str(row[0].hex())
    for (body,) in connection.execute("SELECT body FROM record WHERE type = ?", (ROLLUP,)):
        told = orjson.loads(body)["data"]
        if told["epoch"] == epoch and told["last"] == first - 1:
            return str(told["h_last"])
    return genesis(epoch).hex()
