"""Sifts salvaged rows by the chain: keeps what it vouches for, mends a hash it can compute, names the holes."""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any, NamedTuple

import orjson

from agent.contract.canonical import genesis, link
from agent.contract.record import type_name

ROLLUP = type_name("rollup")

ROWS = """
SELECT sequence, hash, body, 0 FROM record WHERE sequence > ?1 AND typeof(body) = 'blob' AND typeof(hash) = 'blob'
UNION ALL SELECT sequence, hash, body, rowid FROM found WHERE sequence > ?1 ORDER BY 1, 4
"""


class Row(NamedTuple):
    """A candidate for one place."""

    sequence: int
    hash: bytes
    body: bytes
    found: int
    """Its row in `found`; 0 for what SQLite read."""


@dataclass(frozen=True, slots=True)
class Hole:
    """Records that are gone. `h_before`: hash of the record before the first."""

    first: int
    last: int
    h_before: bytes


@dataclass(frozen=True, slots=True)
class Sifted:
    """Where the good records end, and what is missing before."""

    at: int
    head: bytes
    holes: tuple[Hole, ...]


class _Sieve:
    """Walks upward and remembers where the chain stands."""

    def __init__(self, at: int, head: bytes, folded: dict[int, tuple[int, bytes]]) -> None:
        self.at = at
        self.head = head
        self.holes: list[Hole] = []
        self._folded = folded

    def choose(self, rows: Sequence[Row], before: Sequence[Row], following: Sequence[Row]) -> Row | None:
        """The row among those of one sequence that the chain vouches for, with its right hash.

        `before`, `following`: all rows of the two neighbouring places.
        """
        sequence = rows[0].sequence
        while self.at + 1 < sequence and self.at + 1 in self._folded:
            self.at, self.head = self._folded[self.at + 1]
        if sequence <= self.at:
            return None
        for row in sorted(rows, key=lambda row: not _leads(row.hash, following)):  # what the next one follows from comes first
            hash_ = self._vouched(row, rows, before, following)
            if hash_:
                if sequence > self.at + 1:
                    self.holes.append(Hole(self.at + 1, sequence - 1, self.head))
                self.at, self.head = sequence, hash_
                return row._replace(hash=hash_)
        return None

    def _vouched(self, row: Row, rows: Sequence[Row], before: Sequence[Row], following: Sequence[Row]) -> bytes:
        """Its hash, where the chain says that its body is what was written; else nothing."""
        if row.sequence == self.at + 1:
            computed = link(self.head, row.body)
            if _leads(computed, following) or (computed == row.hash and not _is_stale(row, rows)):
                return computed
            return b""
        if any(link(lost.hash, row.body) == row.hash for lost in before):  # its body is gone, its hash is not
            return row.hash
        return row.hash if _leads(row.hash, following) else b""


def _leads(hash_: bytes, following: Sequence[Row]) -> bool:
    return any(link(hash_, later.body) == later.hash for later in following)


def _is_stale(row: Row, rows: Sequence[Row]) -> bool:
    """Whether it was carved while SQLite reads another record in its place: then it is of a transaction that never ended."""
    return row.found > 0 and any(not other.found and other.hash != row.hash and other.body != row.body for other in rows)


def sift(connection: sqlite3.Connection, epoch: str, base: tuple[int, bytes] | None) -> Sifted:
    """Leaves in `record` what is good, out of `record` and `found`.

    `base`: sequence and hash of the record that was pruned last, or None.
    """
    at, head = base or (0, genesis(epoch))
    sieve = _Sieve(at, head, _folded(connection, epoch))
    read: list[tuple[int, bytes]] = []
    carved: list[tuple[bytes, int]] = []
    for here in _neighbours(connection, epoch, at):
        if row := sieve.choose(*here):  # its body stays where it is: there may be hundreds of thousands
            if row.found:
                carved.append((row.hash, row.found))
            else:
                read.append((row.sequence, row.hash))
    connection.execute("CREATE TABLE kept (sequence INTEGER PRIMARY KEY, hash BLOB)")
    connection.executemany("INSERT INTO kept VALUES (?, ?)", read)
    connection.execute("DELETE FROM record WHERE sequence NOT IN (SELECT sequence FROM kept)")
    connection.execute("UPDATE record SET hash = kept.hash FROM kept WHERE kept.sequence = record.sequence AND kept.hash <> record.hash")
    connection.executemany("INSERT INTO record SELECT sequence, type, ?, body FROM found WHERE rowid = ?", carved)
    connection.execute("DROP TABLE kept")
    _mend_types(connection)
    return Sifted(sieve.at, sieve.head, tuple(sieve.holes))


def _mend_types(connection: sqlite3.Connection) -> None:
    """A body that the chain vouches for is right about its type."""
    wrong = []
    for sequence, type_, body in connection.execute("SELECT sequence, type, body FROM record"):
        if (told := _told(body).get("type")) != type_:
            wrong.append((told, sequence))
    connection.executemany("UPDATE record SET type = ? WHERE sequence = ?", wrong)


def _neighbours(connection: sqlite3.Connection, epoch: str, base: int) -> Iterator[tuple[list[Row], list[Row], list[Row]]]:
    """Of each sequence the rows whose bodies say they are of it, all rows of the place before, and of the place after."""
    before: list[Row] = []
    here: list[Row] = []
    for following in chain(_places(connection, base), ([],)):
        if ours := [row for row in here if _told(row.body).get("id") == f"{epoch}:{row.sequence:020d}"]:
            yield ours, _at(before, here[0].sequence - 1), _at(following, here[0].sequence + 1)
        before, here = here, following


def _places(connection: sqlite3.Connection, base: int) -> Iterator[list[Row]]:
    rows = (Row(*row) for row in connection.execute(ROWS, (base,)))
    return (list(group) for _, group in groupby(rows, key=lambda row: row.sequence))


def _at(rows: list[Row], sequence: int) -> list[Row]:
    return rows if rows and rows[0].sequence == sequence else []


def _folded(connection: sqlite3.Connection, epoch: str) -> dict[int, tuple[int, bytes]]:
    """Ranges that were folded and are not missing: first -> (last, its hash)."""
    ranges = {}
    for table in ("record", "found"):
        for (body,) in connection.execute(f"SELECT body FROM {table} WHERE type = ?", (ROLLUP,)):  # noqa: S608  our own names
            told: dict[str, Any] = _told(body)
            if told.get("type") == ROLLUP and told["data"].get("epoch") == epoch:
                ranges[told["data"]["first"]] = (told["data"]["last"], bytes.fromhex(told["data"]["h_last"]))
    return ranges


def _told(body: Any) -> dict[str, Any]:
    """A body decoded; nothing if it is no record."""
    try:
        told = orjson.loads(body)
    except ValueError:
        return {}
    return told if isinstance(told, dict) and {"id", "type", "data"} <= set(told) else {}
