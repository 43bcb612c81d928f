"""The backlog: what has not left yet becomes batches, and acks move the cursor, but only to a record both sides hold alike.

    appended -> batched (on the disk before the first byte leaves) -> acked (head hash agreed) -> prunable

Rows of table `batch` outlive their records for a while: each holds the odometer at its last record, so neither the next batch nor a
checkpoint ever has to add up from the beginning, and it can be told what a restored backend has lost.
"""

import datetime
import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from agent.contract.ack import Ack, Standing, compare
from agent.contract.batch import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Batch, Hole, Row, build, fitting
from agent.contract.canonical import INTEGER_MAX, genesis
from agent.contract.record import type_name
from agent.metering.record import odometer_of_data
from agent.metering.rollup import odometer_of_totals
from agent.store.db import meta, put_meta
from agent.store.ledger.leaving import anchors

USAGE, ROLLUP = type_name("usage"), type_name("rollup")

Place = tuple[str, str, str, str]
"""(stage, model, placement, class)."""

BOOTS_MAX = 20
"""Boots in one batch: each brings anchors of its own, and a robot that is unplugged twice a day still fills a batch in ten days."""

WAITING = """
SELECT sequence, type, record.hash, record.body, raw.body FROM record LEFT JOIN raw USING (sequence)
WHERE sequence BETWEEN ? AND ? ORDER BY sequence LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far records have gone."""

    batched: int
    """The highest sequence that is known to have left; nothing up to it is ever folded."""
    acked: int
    """The highest sequence the backend holds, linked to the beginning, with the hash we have."""


def cursor(connection: sqlite3.Connection) -> Cursor:
    held = meta(connection)
    return Cursor(int(held.get("batched", "0")), int(held.get("acked", "0")))


def next_batch(connection: sqlite3.Connection, epoch: str, device: str) -> Batch | None:
    """The next records that never left, as a batch that is noted in the transaction that is open; None if there are none.

    Send it only after the commit.
    """
    begin, head, totals = last_batch(connection, epoch)
    rows = _of_few_boots(_of_few_bytes(connection.execute(WAITING, (begin + 1, INTEGER_MAX, BATCH_RECORDS_MAX))))
    folds = folded(connection, epoch, begin, rows)
    rows = of_one_piece(rows, begin, folds)
    if not rows:
        return None
    widest = totals + _moved(rows, folds)
    for _ in range(2):  # fewer rows have anchors nearer to them, and maybe more
        known = anchors.of_rows(connection, rows)
        sizes = [(len(row[3]), len(row[4] or b"")) for row in rows]
        rows = rows[: fitting(sizes, device=device, odometer=widest, anchors=known, holes=_holes(folds, rows))]
    totals.update(_moved(rows, folds))
    batch = build(
        device=device,
        epoch=epoch,
        h_before=_head_before(head, folds, rows),
        rows=_rows(rows),
        odometer=totals,
        anchors=known,
        holes=_holes(folds, rows),
    )
    values = (batch.last, batch.first, batch.h_last, orjson.dumps(lines(totals)).decode(), orjson.dumps(known).decode(), batch.batch_id)
    connection.execute("INSERT INTO batch (last, first, hash, odometer, anchors, batch_id) VALUES (?, ?, ?, ?, ?, ?)", values)
    put_meta(connection, batched=str(max(batch.last, cursor(connection).batched)))
    return batch


def unacked(connection: sqlite3.Connection, epoch: str, device: str, after: int, most: int) -> list[Batch]:
    """Batches that left and were not acknowledged, above a sequence, at most so many, to be sent again, byte for byte the same.

    A mark may lie below what is pruned; there is nothing of that to send.
    """
    query = "SELECT first, last, odometer, anchors FROM batch WHERE last > ? ORDER BY last LIMIT ?"
    begin = max(cursor(connection).acked, checkpoint(connection)[0], after)
    return [_again(connection, epoch, device, row) for row in connection.execute(query, (begin, most)).fetchall()]


def take(connection: sqlite3.Connection, ack: Ack, *, mark: bool) -> tuple[Standing, dict[str, Any]]:
    """Moves the cursor as far as an ack agrees with what is held here, in the transaction that is open.

    Only a mark (an answer to our own question, with its nonce) moves it back. An ack that moves nothing may still tell of later
    backups and a later time. Returns how both sides stand and what the side file is to say after the commit; nothing where the
    cursor did not move, or what it would say can't be read.
    """
    held, at = meta(connection), cursor(connection)
    if not mark and held.get("backend_id", ack.backend_id) != ack.backend_id:
        return "behind", {}  # of before a restore, or the first after it: only a mark can tell which
    standing = compare(ack, lambda sequence: _hash_at(connection, sequence), own_last=_last(connection), acked=at.acked)
    at_server = written_time(datetime.datetime.fromisoformat(ack.server_time))
    overtaken = ack.cum_ack == at.acked and at_server < held.get("server_time", "")
    if standing not in ("agreed", "behind"):
        return standing, {}
    _bury(connection, ack)  # also where it was overtaken: nobody says it twice
    if (standing == "behind" or overtaken) and not mark:
        return standing, {}
    left = max(at.batched, ack.cum_ack, *(held.last for held in ack.ranges))
    told = {"acked": ack.cum_ack, "batched": left, "durable_through": ack.durable_through}
    put_meta(connection, server_time=at_server, backend_id=ack.backend_id, **{name: str(sequence) for name, sequence in told.items()})
    connection.execute("UPDATE batch SET acked_at = NULL WHERE last > ?", (ack.cum_ack,))
    connection.execute("UPDATE batch SET acked_at = ? WHERE last <= ? AND acked_at IS NULL", (at_server, ack.cum_ack))
    if ack.cum_ack == at.acked:
        return standing, {}
    row = connection.execute("SELECT odometer FROM batch WHERE last <= ? ORDER BY last DESC LIMIT 1", (ack.cum_ack,)).fetchone()
    try:
        known = orjson.loads(row[0]) if row else []
    except orjson.JSONDecodeError:  # the disk has lost a page of it: the side file stays at what it knows, and the ack counts
        return standing, {}
    return standing, {"epoch": ack.epoch, "sequence": ack.cum_ack, "hash": ack.head_hash, "odometer": known}


def _bury(connection: sqlite3.Connection, ack: Ack) -> None:
    """Keeps what will never be billed as dead letters."""
    final = [(reject.code, reject.sequence) for reject in ack.rejects if reject.final]
    query = "INSERT OR IGNORE INTO deadletter (sequence, code, body) SELECT sequence, ?, body FROM record WHERE sequence = ?"
    connection.executemany(query, final)


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


def last_batch(connection: sqlite3.Connection, epoch: str) -> tuple[int, bytes, Counter[Place]]:
    row = connection.execute("SELECT last, hash, odometer FROM batch ORDER BY last DESC LIMIT 1").fetchone()
    return (row[0], row[1], totals_of(row[2])) if row else (0, genesis(epoch), Counter())


def folded(connection: sqlite3.Connection, epoch: str, begin: int, rows: list[Any]) -> list[dict[str, Any]]:
    """The `data` of the roll-ups, further on, that hold what is missing between these rows, in order."""
    if not rows or rows[-1][0] - begin == len(rows):
        return []
    found = connection.execute("SELECT body FROM record WHERE type = ? AND sequence > ?", (ROLLUP, begin))
    told = (orjson.loads(body)["data"] for (body,) in found)
    within = (fold for fold in told if fold["epoch"] == epoch and begin < fold["first"] <= rows[-1][0])
    return sorted(within, key=lambda fold: int(fold["first"]))


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
    for row in rows:
        if row[1] == USAGE:
            for place, quantity in odometer_of_data(row[5]["data"]).items():
                moved[place] += quantity
    for fold in folds:
        if fold["first"] < rows[-1][0]:
            moved.update(odometer_of_totals(fold["totals"]))
    return moved


def of_one_piece(rows: list[Any], begin: int, folds: list[dict[str, Any]]) -> list[Any]:
    """As many of these rows, from the first on, as follow one another or what was folded: nobody knows what others were linked to."""
    over = {fold["first"]: fold["last"] for fold in folds}
    at = begin
    for count, row in enumerate(rows):
        while at + 1 < row[0] and at + 1 in over:
            at = over[at + 1]
        if at + 1 != row[0]:
            return rows[:count]
        at = row[0]
    return rows


def checkpoint(connection: sqlite3.Connection) -> tuple[int, str, Counter[Place]]:
    """Up to where records are pruned, the hash there in hex, the odometer there."""
    written = meta(connection).get("checkpoint")
    if not written:
        return 0, "", Counter()
    told = orjson.loads(written)
    return told["sequence"], told["hash"], totals_of(orjson.dumps(told["odometer"]).decode())


def _of_few_bytes(rows: Iterable[Any]) -> list[Any]:
    """As many as a batch could hold if it held nothing else, each with its body decoded at its end: that is done once, and to no others."""
    found: list[Any] = []
    size = 0
    for row in rows:
        size += len(row[3]) + len(row[4] or b"")
        if found and size > BATCH_BYTES_MAX * 3 // 4:
            break
        found.append((*row, orjson.loads(row[3])))
    return found


def _of_few_boots(rows: list[Any]) -> list[Any]:
    """As many of these rows, from the first on, as lie in BOOTS_MAX boots."""
    boots: set[str] = set()
    for count, row in enumerate(rows):
        boots.add(anchors.moment(row)[0])
        if len(boots) > BOOTS_MAX:
            return rows[:count]
    return rows


def _rows(rows: list[Any]) -> list[Row]:
    return [Row(sequence, hash_, body, raw or None) for sequence, _, hash_, body, raw, *_ in rows]


def _again(connection: sqlite3.Connection, epoch: str, device: str, row: tuple[int, int, str, str]) -> Batch:
    first, last, odometer, known = row
    rows = connection.execute(WAITING, (first, last, BATCH_RECORDS_MAX)).fetchall()
    before = connection.execute("SELECT last, hash FROM batch WHERE last < ? ORDER BY last DESC LIMIT 1", (first,)).fetchone()
    begin, head = before or (0, genesis(epoch))
    folds = folded(connection, epoch, begin, rows)
    return build(
        device=device,
        epoch=epoch,
        h_before=_head_before(head, folds, rows),
        rows=_rows(rows),
        odometer=totals_of(odometer),
        anchors=orjson.loads(known),
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
