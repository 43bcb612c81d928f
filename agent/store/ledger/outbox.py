"""The outbox: events and results that wait beside the records until a broker has taken them."""

import sqlite3
from collections.abc import Iterable

from agent.ports import Posted

WAITING_MAX = 10_000
"""A robot that is offline for weeks keeps its newest; an event of last month calls nobody any more."""

TAKEN_AT_ONCE = 32
"""Handed out at a time."""

PUT = "INSERT INTO outbox (id, topic, body, created) VALUES (?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"

TRIM = "DELETE FROM outbox WHERE rowid <= (SELECT rowid FROM outbox ORDER BY rowid DESC LIMIT 1 OFFSET ?)"


def put(connection: sqlite3.Connection, posted: Iterable[Posted]) -> None:
    """In the transaction that is open."""
    connection.executemany(PUT, [(one.id, one.topic, one.body, one.created) for one in posted])
    connection.execute(TRIM, (WAITING_MAX,))


def number(connection: sqlite3.Connection, beginning: str) -> int:
    """Those that wait whose topic begins so."""
    query = "SELECT count(*) FROM outbox WHERE substr(topic, 1, ?) = ?"
    return int(connection.execute(query, (len(beginning), beginning)).fetchone()[0])


def waiting(connection: sqlite3.Connection, most: int = TAKEN_AT_ONCE, skipped: int = 0) -> list[Posted]:
    """Oldest first, without the oldest `skipped`."""
    rows = connection.execute("SELECT id, topic, body, created FROM outbox ORDER BY rowid LIMIT ? OFFSET ?", (most, skipped))
    return [Posted(str(id_), str(topic), bytes(body), str(created)) for id_, topic, body, created in rows]


def taken(connection: sqlite3.Connection, ids: Iterable[str]) -> None:
    """A broker has them."""
    connection.executemany("DELETE FROM outbox WHERE id = ?", [(one,) for one in ids])
