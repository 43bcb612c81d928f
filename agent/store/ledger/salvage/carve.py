"""Carves records out of the bytes of a database and its log, where SQLite itself can no longer read them."""

import mmap
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import orjson

CARVED = re.compile(rb'(.{32})(\{"bootid":"[0-9a-f]{32}".{1,8192}?"type":"voxmeter\.[a-z]+\.v\d+"\})', re.DOTALL)
"""The end of a row of table record as SQLite lays it out: 32 bytes of hash, body. None is longer than a record may be."""

FOUND = "CREATE TABLE found (sequence INTEGER, type TEXT, hash BLOB, body BLOB, PRIMARY KEY (sequence, hash, body))"
"""What was carved and is not among the rows that SQLite read."""

FRAME_HEADER = 24
LOG_HEADER = 32


def carved(damaged: Path) -> Iterator[tuple[int, str, bytes, bytes]]:
    """Rows (sequence, type, hash, body) that look whole, from the file and from its log, stale ones among them."""
    for path in (damaged, damaged.with_name(damaged.name + "-wal")):
        if path.exists() and path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                for match in CARVED.finditer(content):
                    hash_, body = match.groups()
                    sequence, type_ = _place(body)
                    if sequence:
                        yield sequence, type_, hash_, body


def offer(connection: sqlite3.Connection, sequence: int, type_: str, hash_: bytes, body: bytes) -> None:
    """Keeps a carved row for the sifting, unless SQLite read the same."""
    same = connection.execute("SELECT 1 FROM record WHERE sequence = ? AND hash = ? AND body = ?", (sequence, hash_, body)).fetchone()
    if not same:
        connection.execute("INSERT OR IGNORE INTO found (sequence, type, hash, body) VALUES (?, ?, ?, ?)", (sequence, type_, hash_, body))


def _place(body: bytes) -> tuple[int, str]:
    """Its sequence and type; 0 for what is no record of ours."""
    try:
        told = orjson.loads(body)
        return (int(told["sequence"]), str(told["type"])) if told["id"].endswith(told["sequence"]) else (0, "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0, ""


def log_is_cut_inside(log: bytes, frames_read: int) -> bool:
    """Whether a log goes on after the frame at which SQLite stopped reading it, with what only later commits can have written.

    At a power cut one transaction is under way, so after the first bad frame there is at most one commit. Two mean that a frame
    which was on the disk has changed. `frames_read`: what `PRAGMA wal_checkpoint` says the log holds. Format: sqlite.org/fileformat2.
    """
    if len(log) < LOG_HEADER:
        return False
    page_size = int.from_bytes(log[8:12], "big")
    salts = log[16:24]
    commits = 0
    for at in range(LOG_HEADER + frames_read * (page_size + FRAME_HEADER), len(log) - FRAME_HEADER, page_size + FRAME_HEADER):
        if log[at + 8 : at + 16] == salts and log[at + 4 : at + 8] != bytes(4):
            commits += 1
    return commits >= 2
