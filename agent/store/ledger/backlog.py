"""The backlog: what has not left yet becomes batches, and acks move the cursor, but only to a record both sides hold alike.

    appended -> batched (on the disk before the first byte leaves) -> acked (head hash agreed) -> prunable

Rows of table `batch` stay until their records are pruned: each holds the odometer at its last record, so neither the next batch
nor a checkpoint ever has to add up from the beginning.
"""

import datetime
import sqlite3
from collections import Counter
from dataclasses import dataclass
from typing import Any

import orjson

from agent.contract.ack import Ack, Standing, compare
from agent.contract.batch import BATCH_RECORDS_MAX, Batch, Hole, Row, build, fitting
from agent.contract.canonical import INTEGER_MAX, genesis
from agent.contract.record import type_name
from agent.metering.record import odometer_of_data
from agent.metering.rollup import odometer_of_totals
from agent.store.db import meta, put_meta

USAGE, ROLLUP = type_name("usage"), type_name("rollup")

Place = tuple[str, str, str, str]
"""(stage, model, placement, class)."""

WAITING = """
SELECT sequence, type, record.hash, record.body, raw.body FROM record LEFT JOIN raw USING (sequence)
WHERE sequence BETWEEN ? AND ? ORDER BY sequence LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far records have gone."""

    batched: int
    """The highest sequence that was ever put into a batch; nothing up to it is ever folded."""
    acked: int
    """The highest sequence the backend holds, linked to the beginning, with the hash we have."""


def cursor(connection: sqlite3.Connection) -> Cursor:
    held = meta(connection)
    return Cursor(int(held.get("batched", "0")), int(held.get("acked", "0")))


def next_batch(connection: sqlite3.Connection, epoch: str, device: str) -> Batch | None:
    """The next records that never left, as a batch that is noted in the transaction that is open; None if there are none.

    Send it only after the commit.
    """
    begin, head, totals = _last_batch(connection, epoch)
    rows = connection.execute(WAITING, (begin + 1, INTEGER_MAX, BATCH_RECORDS_MAX)).fetchall()
    if not rows:
        return None
    folds = _folds(connection, begin, rows)
    anchors = _anchors(connection, rows)
    widest = totals + _moved(rows, folds)
    sizes = [(len(row[3]), len(row[4] or b"")) for row in rows]
    rows = rows[: fitting(sizes, device=device, odometer=widest, anchors=anchors, holes=_holes(folds, rows))]
    totals.update(_moved(rows, folds))
    batch = build(
        device=device,
        epoch=epoch,
        h_before=_head_before(head, folds, rows),
        rows=_rows(rows),
        odometer=totals,
        anchors=anchors,
        holes=_holes(folds, rows),
    )
    values = (batch.last, batch.first, batch.h_last, orjson.dumps(lines(totals)).decode(), orjson.dumps(anchors).decode(), batch.batch_id)
    connection.execute("INSERT INTO batch (last, first, hash, odometer, anchors, batch_id) VALUES (?, ?, ?, ?, ?, ?)", values)
    put_meta(connection, batched=str(batch.last))
    return batch


def unacked(connection: sqlite3.Connection, epoch: str, device: str) -> list[Batch]:
    """Batches that left and were not acknowledged, to be sent again, byte for byte the same."""
    query = "SELECT first, last, odometer, anchors FROM batch WHERE last > ? ORDER BY last"
    return [_again(connection, epoch, device, row) for row in connection.execute(query, (cursor(connection).acked,)).fetchall()]


def take(connection: sqlite3.Connection, ack: Ack, *, mark: bool) -> tuple[Standing, dict[str, Any]]:
    """Moves the cursor as far as an ack agrees with what is held here, in the transaction that is open.

    Only a mark (an answer to our own question, with its nonce) moves it back. Returns how both sides stand and what the side file
    is to say after the commit; nothing where the cursor did not move.
    """
    at = cursor(connection)
    standing = compare(ack, lambda sequence: _hash_at(connection, sequence), own_last=_last(connection), acked=at.acked)
    if standing not in ("agreed", "behind") or (standing == "behind" and not mark) or ack.cum_ack == at.acked:
        return standing, {}
    at_server = written_time(datetime.datetime.fromisoformat(ack.server_time))
    put_meta(connection, acked=str(ack.cum_ack), server_time=at_server, durable_through=str(ack.durable_through))
    connection.execute("UPDATE batch SET acked_at = ? WHERE last <= ? AND acked_at IS NULL", (at_server, ack.cum_ack))
    for reject in ack.rejects:
        if reject.final:
            connection.execute(
                "INSERT OR IGNORE INTO deadletter (sequence, code, body) SELECT sequence, ?, body FROM record WHERE sequence = ?",
                (reject.code, reject.sequence),
            )
    row = connection.execute("SELECT odometer FROM batch WHERE last <= ? ORDER BY last DESC LIMIT 1", (ack.cum_ack,)).fetchone()
    known = orjson.loads(row[0]) if row else []
    return standing, {"epoch": ack.epoch, "sequence": ack.cum_ack, "hash": ack.head_hash, "odometer": known}


def written_time(moment: datetime.datetime) -> str:
    """RFC 3339 in one form, so that later sorts after earlier."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def lines(totals: Counter[Place]) -> list[dict[str, Any]]:
    """An odometer as it is written."""
    keys = ("stage", "model", "placement", "class")
    return [dict(zip(keys, place, strict=True)) | {"quantity": quantity} for place, quantity in sorted(totals.items()) if quantity]


def totals_of(written: str) -> Counter[Place]:
    """The same, read."""
    return Counter({(line["stage"], line["model"], line["placement"], line["class"]): line["quantity"] for line in orjson.loads(written)})


def _last_batch(connection: sqlite3.Connection, epoch: str) -> tuple[int, bytes, Counter[Place]]:
    row = connection.execute("SELECT last, hash, odometer FROM batch ORDER BY last DESC LIMIT 1").fetchone()
    return (row[0], row[1], totals_of(row[2])) if row else (0, genesis(epoch), Counter())


def _folds(connection: sqlite3.Connection, begin: int, rows: list[Any]) -> list[dict[str, Any]]:
    """The `data` of the roll-ups, further on, that hold what is missing between these rows, in order."""
    if rows[-1][0] - begin == len(rows):
        return []
    found = connection.execute("SELECT body FROM record WHERE type = ? AND sequence > ?", (ROLLUP, begin))
    told = (orjson.loads(body)["data"] for (body,) in found)
    return sorted((fold for fold in told if begin < fold["first"] <= rows[-1][0]), key=lambda fold: int(fold["first"]))


def _holes(folds: list[dict[str, Any]], rows: list[Any]) -> list[Hole]:
    """Those inside a batch of these rows; what is missing before its first record is behind its `h_before`."""
    inside = [fold for fold in folds if rows[0][0] < fold["first"] < rows[-1][0]]
    return [Hole(first=fold["first"], last=fold["last"], h_before=fold["h_before"], h_last=fold["h_last"]) for fold in inside]


def _head_before(head: bytes, folds: list[dict[str, Any]], rows: list[Any]) -> bytes:
    before = [fold for fold in folds if fold["first"] < rows[0][0]]
    return bytes.fromhex(before[-1]["h_last"]) if before else head


def _moved(rows: list[Any], folds: list[dict[str, Any]]) -> Counter[Place]:
    """What the odometer advanced by over these records and over what was folded before and between them."""
    moved: Counter[Place] = Counter()
    for _, type_, _, body, _ in rows:
        if type_ == USAGE:
            moved.update(odometer_of_data(orjson.loads(body)["data"]))
    for fold in folds:
        if fold["first"] < rows[-1][0]:
            moved.update(odometer_of_totals(fold["totals"]))
    return moved


def _anchors(connection: sqlite3.Connection, rows: list[Any]) -> list[dict[str, str]]:
    """What is known now of the time of the boots in these records."""
    boots = sorted({orjson.loads(row[3])["bootid"] for row in rows})
    query = "SELECT bootid, boottimems, time, quality FROM anchor WHERE bootid = ? ORDER BY boottimems"
    found = [row for boot in boots for row in connection.execute(query, (boot,))]
    return [{"bootid": boot, "boottimems": str(at), "time": time, "quality": quality} for boot, at, time, quality in found]


def _rows(rows: list[Any]) -> list[Row]:
    return [Row(sequence, hash_, body, raw or None) for sequence, _, hash_, body, raw in rows]


def _again(connection: sqlite3.Connection, epoch: str, device: str, row: tuple[int, int, str, str]) -> Batch:
    first, last, odometer, anchors = row
    rows = connection.execute(WAITING, (first, last, BATCH_RECORDS_MAX)).fetchall()
    before = connection.execute("SELECT last, hash FROM batch WHERE last < ? ORDER BY last DESC LIMIT 1", (first,)).fetchone()
    begin, head = before or (0, genesis(epoch))
    folds = _folds(connection, begin, rows)
    return build(
        device=device,
        epoch=epoch,
        h_before=_head_before(head, folds, rows),
        rows=_rows(rows),
        odometer=totals_of(odometer),
        anchors=orjson.loads(anchors),
        holes=_holes(folds, rows),
    )


def _hash_at(connection: sqlite3.Connection, sequence: int) -> bytes | None:
    """Our hash at a sequence; None where it is pruned, folded or not yet there."""
    row = connection.execute("SELECT hash FROM record WHERE sequence = ?", (sequence,)).fetchone()
    row = row or connection.execute("SELECT hash FROM batch WHERE last = ?", (sequence,)).fetchone()
    return row[0] if row else None


def _last(connection: sqlite3.Connection) -> int:
    (last,) = connection.execute("SELECT max(sequence) FROM record").fetchone()
    return last or 0
