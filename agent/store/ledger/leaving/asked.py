"""What may be asked about what has left an epoch: what waits, what is missing in between, what the backend has lost, which key it holds."""

import sqlite3
from collections import Counter
from typing import Any

import orjson

from agent.contract.ack import Ack
from agent.contract.canonical import INTEGER_MAX
from agent.contract.record import RecordType, type_name
from agent.contract.signing import SigningKey, encode
from agent.store.ledger.leaving.backlog import WAITING, Place, checkpoint, cursor, folded, lines, of_one_piece, totals_of

ODOMETER_LINES_MAX = 40
"""Of what a gap says was in it: what fits a record."""

KEY = type_name("key")


def has_hole(connection: sqlite3.Connection, epoch: str) -> bool:
    """Whether records are missing above what is acked, with nothing that stands for them."""
    begin = max(cursor(connection).acked, checkpoint(connection)[0])
    (last,), (held,) = (
        connection.execute(query, (begin,)).fetchone()
        for query in ("SELECT max(sequence) FROM record WHERE sequence > ?", "SELECT count(*) FROM record WHERE sequence > ?")
    )
    if not held or last - begin == held:
        return False
    rows = connection.execute(WAITING, (begin + 1, INTEGER_MAX, INTEGER_MAX)).fetchall()
    return len(of_one_piece(rows, begin, folded(connection, epoch, begin, rows))) < len(rows)


def lost(connection: sqlite3.Connection, ack: Ack) -> dict[str, Any]:
    """The `data` of a gap for what the backend has lost and this ledger has pruned; empty where nothing is."""
    begin, (end, hash_, odometer) = ack.cum_ack, checkpoint(connection)
    if begin >= end:
        return {}
    told = {"epoch": ack.epoch, "first": begin + 1, "last": end, "h_before": ack.head_hash, "h_last": hash_}
    row = connection.execute("SELECT odometer FROM batch WHERE last = ?", (begin,)).fetchone()
    before = totals_of(row[0]) if row else Counter() if begin == 0 else None
    totals = [] if before is None else lines(_less(odometer, before))
    known = {"totals": totals} if 0 < len(totals) <= ODOMETER_LINES_MAX else {}  # more do not fit a record
    return told | {"reason": "the backend lost it after it was pruned here"} | known


def declared(connection: sqlite3.Connection, type_: RecordType, told: dict[str, Any]) -> bool:
    """Whether a record that says so stands on these books already."""
    bodies = connection.execute("SELECT body FROM record WHERE type = ?", (type_name(type_),))
    return any(told.items() <= orjson.loads(body)["data"].items() for (body,) in bodies)


def waits(connection: sqlite3.Connection) -> bool:
    """Whether something is not acknowledged."""
    (last,) = connection.execute("SELECT max(sequence) FROM record").fetchone()
    return bool(cursor(connection).acked < (last or 0))


def key_acked(connection: sqlite3.Connection, key: SigningKey) -> bool:
    """Whether the backend holds the record of this epoch that names a key as the next."""
    acked = cursor(connection).acked
    bodies = connection.execute("SELECT body FROM record WHERE type = ? AND sequence <= ?", (KEY, acked))
    return any(orjson.loads(body)["data"]["new"] == encode(key.public) for (body,) in bodies)


def _less(totals: Counter[Place], others: Counter[Place]) -> Counter[Place]:
    difference = Counter(totals)
    difference.subtract(others)
    return difference
