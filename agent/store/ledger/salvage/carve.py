"""Carves records out of the bytes of a database and its log, where SQLite itself can no longer read them."""

import mmap
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import orjson

from agent.contract.canonical import BODY_BYTES_MAX

BEGIN = re.compile(rb'\{"bootid":"[0-9a-f]{32}"')
"""How a body begins. In a row of table record SQLite puts the hash right before it."""

END = re.compile(rb'"type":"voxmeter\.[a-z]+\.v\d+"\}')

HASH_BYTES = 32

ID = re.compile(rb'"id":"([0-9a-f]{32}):(\d{20})"')
PLACED = re.compile(rb'"sequence":"(\d{20})","source":"urn:voxmeter:[^"]{1,500}:([0-9a-f]{32})"')
"""The two places of a body that say which record it is."""

ASKED_MAX = 9
"""Bodies that are asked which epoch they are of: one or two may be damaged."""

FOUND = "CREATE TABLE found (sequence INTEGER, type TEXT, hash BLOB, body BLOB, UNIQUE (sequence, hash, body))"
"""What was carved and is not among the rows that SQLite read."""


def carved(damaged: Path) -> Iterator[tuple[int, str, bytes, bytes]]:
    """Rows (sequence, type, hash, body) that look whole, from the file and from its log, stale ones among them."""
    for content in _contents(damaged):
        for begin in BEGIN.finditer(content):
            at = begin.start()
            end = END.search(content, at, at + BODY_BYTES_MAX)
            if end and at >= HASH_BYTES:
                body = content[at : end.end()]
                sequence, type_ = place_of(body)
                if sequence:
                    yield sequence, type_, content[at - HASH_BYTES : at], body


def offer(connection: sqlite3.Connection, sequence: int, type_: str, hash_: bytes, body: bytes) -> None:
    """Keeps a carved row for the sifting, unless SQLite read the same."""
    same = connection.execute("SELECT 1 FROM record WHERE sequence = ? AND hash = ? AND body = ?", (sequence, hash_, body)).fetchone()
    if not same:
        connection.execute("INSERT OR IGNORE INTO found (sequence, type, hash, body) VALUES (?, ?, ?, ?)", (sequence, type_, hash_, body))


def named(damaged: Path, epoch: str) -> Counter[int]:
    """Sequences of an epoch that any piece of a body in the file or its log names, with how many of a body's two places do."""
    by_id: set[int] = set()
    by_place: set[int] = set()
    for content in _contents(damaged):
        by_id.update(int(match[2]) for match in ID.finditer(content) if match[1] == epoch.encode())
        by_place.update(int(match[1]) for match in PLACED.finditer(content) if match[2] == epoch.encode())
    return Counter((*by_id, *by_place))


def epoch_in(damaged: Path) -> str:
    """The epoch that the first bodies in a file, else in its log, are of; nothing if there is none."""
    for content in _contents(damaged):
        names = Counter(match[1] for match in islice(ID.finditer(content), ASKED_MAX))
        if names:
            return names.most_common(1)[0][0].decode()
    return ""


def _contents(damaged: Path) -> Iterator[mmap.mmap]:
    for path in (damaged, damaged.with_name(damaged.name + "-wal")):
        if path.is_file() and path.stat().st_size:
            with _mapped(path) as content:
                yield content


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        yield content


def place_of(body: bytes) -> tuple[int, str]:
    """Its sequence and type; 0 for what is no record of ours."""
    try:
        told = orjson.loads(body)
        return (int(told["sequence"]), str(told["type"])) if told["id"].endswith(told["sequence"]) else (0, "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0, ""
