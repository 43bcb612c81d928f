"""Sifts salvaged rows by the chain: keeps what it vouches for, mends a hash it can compute, names the holes."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from agent.contract.canonical import genesis, link
from agent.contract.record import type_name

ROLLUP = type_name("rollup")

ROWS = """
SELECT sequence, 0, type, hash, body FROM record WHERE sequence > ?1
UNION ALL SELECT sequence, 1, type, hash, body FROM found WHERE sequence > ?1 ORDER BY 1, 2
"""

Row = tuple[int, str, bytes, bytes]
"""(sequence, type, hash, body)."""


@dataclass(frozen=True, slots=True)
class Hole:
    """Records that are gone. `h_before`: hash of the record before the first."""

    first: int
    last: int
    h_before: bytes


class _Sieve:
    """Walks upward and remembers where the chain stands."""

    def __init__(self, at: int, head: bytes, folded: dict[int, tuple[int, bytes]]) -> None:
        self.at = at
        self.head = head
        self.holes: list[Hole] = []
        self._folded = folded

    def choose(self, rows: list[Row], following: list[Row]) -> Row | None:
        """The row among those of one sequence that the chain vouches for."""
        sequence = rows[0][0]
        while self.at + 1 < sequence and self.at + 1 in self._folded:
            self.at, self.head = self._folded[self.at + 1]
        if sequence <= self.at:
            return None
        for row in rows:
            hash_ = self._vouched(row, following)
            if hash_ is not None:
                if sequence > self.at + 1:
                    self.holes.append(Hole(self.at + 1, sequence - 1, self.head))
                self.at, self.head = sequence, hash_
                return (row[0], row[1], hash_, row[3])
        return None

    def _vouched(self, row: Row, following: list[Row]) -> bytes | None:
        sequence, _, hash_, body = row
        if sequence == self.at + 1:
            computed = link(self.head, body)
            if computed == hash_ or any(link(computed, later[3]) == later[2] for later in following):
                return computed
        return hash_ if any(link(hash_, later[3]) == later[2] for later in following) else None


def sift(connection: sqlite3.Connection, epoch: str, base: tuple[int, bytes] | None, at_least: int) -> list[Hole]:
    """Leaves in `record` what is good, out of `record` and `found`; returns the holes, up to `at_least` beyond the last record.

    `base`: sequence and hash of the record that was pruned last, or None.
    """
    at, head = base or (0, genesis(epoch))
    sieve = _Sieve(at, head, _folded(connection, epoch))
    good: dict[int, Row] = {}
    bad: list[int] = []
    for rows, following in _groups(connection, at):
        ours = [row for row in rows if _of(row, epoch)]
        row = sieve.choose(ours, following) if ours else None
        if row is None:
            bad.append(rows[0][0])
        elif row != rows[0]:
            good[row[0]] = row
    connection.executemany("DELETE FROM record WHERE sequence = ?", [(sequence,) for sequence in (*bad, *good)])
    connection.execute("DELETE FROM record WHERE sequence <= ? OR typeof(body) <> 'blob' OR typeof(hash) <> 'blob'", (at,))
    connection.executemany("INSERT INTO record (sequence, type, hash, body) VALUES (?, ?, ?, ?)", good.values())
    if at_least > sieve.at:
        sieve.holes.append(Hole(sieve.at + 1, at_least, sieve.head))
    return sieve.holes


def _groups(connection: sqlite3.Connection, base: int) -> Iterator[tuple[list[Row], list[Row]]]:
    """The rows of each sequence, with those of the next sequence if it is there."""
    group: list[Row] = []
    before: list[Row] = []
    for sequence, _, type_, hash_, body in connection.execute(ROWS, (base,)):
        if group and sequence != group[0][0]:
            if before:
                yield before, group if group[0][0] == before[0][0] + 1 else []
            before, group = group, []
        if isinstance(body, bytes) and isinstance(hash_, bytes):
            group.append((sequence, _type(body) or str(type_), hash_, body))
    if before:
        yield before, group if group and group[0][0] == before[0][0] + 1 else []
    if group:
        yield group, []


def _folded(connection: sqlite3.Connection, epoch: str) -> dict[int, tuple[int, bytes]]:
    """Ranges that were folded and are not missing: first -> (last, its hash)."""
    ranges = {}
    for table in ("record", "found"):
        for (body,) in connection.execute(f"SELECT body FROM {table} WHERE type = ?", (ROLLUP,)):  # noqa: S608  our own names
            told: dict[str, Any] = orjson.loads(body)["data"] if _type(body) == ROLLUP else {}
            if told.get("epoch") == epoch:
                ranges[told["first"]] = (told["last"], bytes.fromhex(told["h_last"]))
    return ranges


def _of(row: Row, epoch: str) -> bool:
    """Whether a row's body says it is the record of that place."""
    try:
        told = orjson.loads(row[3])
        return bool(told["id"] == f"{epoch}:{row[0]:020d}")
    except (ValueError, KeyError, TypeError):
        return False


def _type(body: bytes) -> str:
    """The type a body names; nothing if it is no record."""
    try:
        return str(orjson.loads(body)["type"])
    except (ValueError, KeyError, TypeError):
        return ""
