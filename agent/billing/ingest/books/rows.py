"""Reads and writes what ingest knows of an epoch: its row, its records and holes, and what it notes beside them."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Dialect, bindparam, delete, exists, func, insert, select, update

from agent.billing.ingest.bill import Attempt, Place
from agent.billing.ingest.decide import Books, Hole, Range, unknown
from agent.billing.ingest.judge import ROLLUP, USAGE, Judged, digest_of_place, digest_of_span
from agent.billing.ledger import sqlite
from agent.billing.ledger.tables import State, anchor, epoch, finding, hole, quarantine, raw, record, unresolved
from agent.contract.batch import OdometerKey

QUARANTINED_MAX: Final = 10_000
"""Records of one device: enough for whoever looks into a clone, not enough to fill a disk (80 MiB at the most)."""


@dataclass(slots=True)
class EpochRow:
    """An epoch as the database has it."""

    id: int
    epoch: str
    books: Books
    holes: int
    durable: int
    closed_by: str | None
    odometer: Counter[OdometerKey]


def epoch_row(connection: Connection, device_id: int, name: str, now: str) -> EpochRow:
    """The row of an epoch, a new one if nobody has heard of it; other writers wait for this one."""
    found = find_epoch(connection, device_id, name)
    if found is None:
        told = {"device_id": device_id, "epoch": name, "cum": 0, "head_hash": unknown(name).head, "begun": now}
        told |= {"ranges": "[]", "holes": 0, "durable": 0, "odometer": "[]"}
        connection.execute(insert(epoch), told)
        found = find_epoch(connection, device_id, name)
        assert found is not None
    return found


EPOCH_COLUMNS = [epoch.c[name] for name in ("id", "epoch", "cum", "head_hash", "ranges", "holes", "durable", "closed_by", "odometer")]
EPOCH_OF = (
    select(*EPOCH_COLUMNS).where(epoch.c.device_id == bindparam("device_id_"), epoch.c.epoch == bindparam("epoch_")).with_for_update()
)


def find_epoch(connection: Connection, device_id: int, name: str) -> EpochRow | None:
    row = connection.execute(EPOCH_OF, {"device_id_": device_id, "epoch_": name}).first()
    if row is None:
        return None
    ranges = tuple(
        Range(first, last, bytes.fromhex(before), bytes.fromhex(after)) for first, last, before, after in orjson.loads(row.ranges)
    )
    odometer = Counter({(stage, model, at, class_): quantity for stage, model, at, class_, quantity in json.loads(row.odometer)})
    return EpochRow(row.id, row.epoch, Books(row.cum, row.head_hash, ranges), row.holes, row.durable, row.closed_by, odometer)


SAVE_EPOCH = (
    update(epoch)
    .where(epoch.c.id == bindparam("id_"))
    .values({name: bindparam(f"{name}_") for name in ("cum", "head_hash", "ranges", "odometer")})
)


def save_epoch(connection: Connection, row: EpochRow) -> None:
    """How far it is linked, and its odometer; the rest is written where it changes."""
    ranges = [[one.first, one.last, one.h_before.hex(), one.h_last.hex()] for one in row.books.ranges]
    odometer = json.dumps([[*place, quantity] for place, quantity in row.odometer.items() if quantity])
    told = {"cum_": row.books.cum, "head_hash_": row.books.head, "ranges_": orjson.dumps(ranges).decode()}
    connection.execute(SAVE_EPOCH, told | {"id_": row.id, "odometer_": odometer})


def others(connection: Connection, device_id: int, name: str) -> bool:
    """Whether the device has another epoch than this."""
    wanted = exists().where(epoch.c.device_id == device_id, epoch.c.epoch != name)
    return bool(connection.execute(select(wanted)).scalar())


HASHES = select(record.c.sequence, record.c.hash).where(
    record.c.epoch_id == bindparam("epoch_id_"), record.c.sequence.between(bindparam("first_"), bindparam("last_"))
)


def hashes(connection: Connection, epoch_id: int, first: int, last: int) -> dict[int, bytes]:
    found = connection.execute(HASHES, {"epoch_id_": epoch_id, "first_": first, "last_": last})
    return {row.sequence: row.hash for row in found}


def holes(connection: Connection, epoch_id: int, first: int, last: int | None = None) -> dict[Hole, tuple[int, int]]:
    """Holes that overlap a stretch, and the record that accounts for each: (row of its epoch, sequence)."""
    place = (hole.c.epoch_id == epoch_id) & (hole.c.last >= first)
    found = connection.execute(select(hole).where(place if last is None else place & (hole.c.first <= last)))
    return {
        Hole(row.first, row.last, row.h_before or b"", row.h_last or b"", row.kind): (row.by_epoch_id, row.by_sequence) for row in found
    }


def hole_of(one: Judged) -> Hole:
    """What a gap or a roll-up accounts for."""
    told = one.data
    before, after = (bytes.fromhex(told.get(name, "")) for name in ("h_before", "h_last"))
    return Hole(told["first"], told["last"], before, after, "rollup" if one.type == ROLLUP else "gap")


def put_hole(connection: Connection, epoch_id: int, told: Hole, by: tuple[int, int]) -> None:
    row = told._asdict() | {"epoch_id": epoch_id, "by_epoch_id": by[0], "by_sequence": by[1]}
    sqlite.insert_new(connection, hole, [row])
    connection.execute(update(epoch).where(epoch.c.id == epoch_id).values(holes=epoch.c.holes + 1))


def drop_holes(connection: Connection, epoch_id: int, first: int, last: int) -> list[dict[str, Any]]:
    """Holes that these records accounted for, `{epoch, first, last}`; those that have been crossed stay: late records are known by them."""
    place = hole.c.by_epoch_id == epoch_id, hole.c.by_sequence.between(first, last)
    named = select(epoch.c.id, epoch.c.epoch, hole.c.first, hole.c.last).join(epoch, epoch.c.id == hole.c.epoch_id)
    found = connection.execute(named.where(*place, hole.c.last > epoch.c.cum)).all()
    for one in found:
        connection.execute(delete(hole).where(*place, hole.c.epoch_id == one.id, hole.c.first == one.first, hole.c.last == one.last))
        connection.execute(update(epoch).where(epoch.c.id == one.id).values(holes=epoch.c.holes - 1))
    return [{"epoch": one.epoch, "first": one.first, "last": one.last} for one in found]


def gaps(connection: Connection, device_id: int, spans: Iterable[Mapping[str, Any]]) -> "list[tuple[int, Stored]]":
    """Stored records that account for these stretches, and the row of the epoch of each."""
    columns = (record.c.epoch_id, record.c.sequence, record.c.hash, record.c.body, record.c.time, record.c.exact)
    wanted = select(*columns).join(epoch, epoch.c.id == record.c.epoch_id).where(epoch.c.device_id == device_id)
    found = connection.execute(wanted.where(record.c.digest.in_([digest_of_span(one) for one in spans])))
    return [(of, Stored(*row)) for of, *row in found]


@dataclass(slots=True)
class Stored:
    """A record as the database has it."""

    sequence: int
    hash: bytes
    body: bytes
    time: str
    exact: int


def stored(connection: Connection, epoch_id: int, first: int, last: int, limit: int) -> list[Stored]:
    columns = (record.c.sequence, record.c.hash, record.c.body, record.c.time, record.c.exact)
    place = (record.c.epoch_id == epoch_id) & record.c.sequence.between(first, last)
    return [Stored(*row) for row in connection.execute(select(*columns).where(place).order_by(record.c.sequence).limit(limit))]


RECORD_COLUMNS: Final = tuple(column.name for column in record.columns)


def put_records(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    """Rows in the order of the table's columns."""
    if rows:
        connection.exec_driver_sql(_insert_records(connection.dialect), list(rows))


@cache
def _insert_records(dialect: Dialect) -> str:
    return str(insert(record).compile(dialect=dialect))


SET_STATE = (
    update(record)
    .where(record.c.epoch_id == bindparam("epoch_id_"), record.c.sequence == bindparam("sequence_"))
    .values(state=bindparam("state_"))
)


def set_states(connection: Connection, epoch_id: int, states: Mapping[int, State]) -> None:
    if states:
        rows = [{"epoch_id_": epoch_id, "sequence_": sequence, "state_": int(state)} for sequence, state in states.items()]
        connection.execute(SET_STATE, rows)


def put_raw(connection: Connection, epoch_id: int, lines: Iterable[tuple[int, bytes]]) -> None:
    sqlite.insert_new(connection, raw, [{"epoch_id": epoch_id, "sequence": sequence, "body": body} for sequence, body in lines])


def put_anchors(connection: Connection, device_id: int, anchors: Iterable[tuple[str, int, str, str]]) -> None:
    names = ("bootid", "boottimems", "time", "quality")
    sqlite.insert_new(connection, anchor, [{"device_id": device_id} | dict(zip(names, one, strict=True)) for one in anchors])


def anchors(connection: Connection, device_id: int, boots: Iterable[str]) -> list[Any]:
    """(boot id, boot time, time, quality) of what is known of these boots."""
    columns = (anchor.c.bootid, anchor.c.boottimems, anchor.c.time, anchor.c.quality)
    return list(connection.execute(select(*columns).where(anchor.c.device_id == device_id, anchor.c.bootid.in_(list(boots)))))


def billed_attempts(connection: Connection, device_id: int, turns: Iterable[str]) -> set[Attempt]:
    """Attempts of these turns that a record of the device is billed for."""
    columns = (record.c.turn_id, record.c.stage, record.c.attempt)
    wanted = select(*columns).join(epoch, epoch.c.id == record.c.epoch_id)
    wanted = wanted.where(record.c.turn_id.in_(list(turns)), record.c.state == int(State.BILLED), epoch.c.device_id == device_id)
    return {(turn, stage, attempt) for turn, stage, attempt in connection.execute(wanted)}


def billed_digests(connection: Connection, device_id: int, epoch_id: int, digests: Iterable[bytes]) -> set[bytes]:
    """Of these corrections and roll-ups, those that stand in another epoch of the device and are billed there."""
    wanted = select(record.c.digest).join(epoch, epoch.c.id == record.c.epoch_id)
    wanted = wanted.where(record.c.digest.in_(list(digests)), record.c.state == int(State.BILLED))
    return set(connection.execute(wanted.where(epoch.c.device_id == device_id, record.c.epoch_id != epoch_id)).scalars())


def billed_between(connection: Connection, epoch_id: int, first: int, last: int) -> bool:
    place = (record.c.epoch_id == epoch_id) & record.c.sequence.between(first, last)
    return bool(connection.execute(select(exists().where(place & (record.c.state == int(State.BILLED))))).scalar())


OF_DEVICE = select(record.c.hash, record.c.body, record.c.time, record.c.state).join(epoch, epoch.c.id == record.c.epoch_id)


def find_record(connection: Connection, device_id: int, name: str, sequence: int) -> Any:
    """(hash, body, time, state) of a record of a device, or None."""
    return connection.execute(OF_DEVICE.where(epoch.c.device_id == device_id, epoch.c.epoch == name, record.c.sequence == sequence)).first()


def find_reissued(connection: Connection, device_id: int, name: str, sequence: int) -> Any:
    """The same of a linked usage record that was issued again for the one in this place."""
    wanted = OF_DEVICE.where(epoch.c.device_id == device_id, record.c.digest == digest_of_place(name, sequence), record.c.type == USAGE)
    return connection.execute(wanted.where(record.c.state != int(State.HELD)).order_by(record.c.state)).first()


def find_billed(connection: Connection, device_id: int, attempt: Attempt) -> Any:
    """The same of the usage record that an attempt is billed by."""
    turn, stage, number = attempt
    wanted = OF_DEVICE.where(record.c.turn_id == turn, record.c.stage == stage, record.c.attempt == number)
    return connection.execute(wanted.where(record.c.state == int(State.BILLED), epoch.c.device_id == device_id)).first()


def body_of(connection: Connection, epoch_id: int, sequence: int) -> bytes:
    wanted = select(record.c.body).where(record.c.epoch_id == epoch_id, record.c.sequence == sequence)
    return bytes(connection.execute(wanted).scalar() or b"")


def find(connection: Connection, device_id: int, place: tuple[str, int], kind: str, told: str, now: str) -> None:  # noqa: PLR0917  a row
    """Notes a finding at (epoch, sequence), unless it has been found before; `told` is JSON."""
    row = {"device_id": device_id, "kind": kind, "epoch": place[0], "sequence": place[1], "told": told, "time": now}
    sqlite.insert_new(connection, finding, [row])


def findings(connection: Connection, device_id: int, kind: str, limit: int) -> list[tuple[str, int, dict[str, Any]]]:
    """(epoch, sequence, told) of a device's findings of a kind, the oldest first."""
    found = connection.execute(FINDINGS, {"device_id_": device_id, "kind_": kind, "limit_": limit})
    return [(one.epoch, one.sequence, json.loads(one.told)) for one in found]


FINDINGS = (
    select(finding.c.epoch, finding.c.sequence, finding.c.told)
    .where(finding.c.device_id == bindparam("device_id_"), finding.c.kind == bindparam("kind_"))
    .order_by(finding.c.id)
    .limit(bindparam("limit_"))
)


def forget(connection: Connection, device_id: int, place: Place, kind: str) -> None:
    """What was found or stood unresolved at (epoch, sequence) is so no more."""
    for table in (finding, unresolved):
        of = (table.c.device_id == device_id) & (table.c.epoch == place[0]) & (table.c.sequence == place[1])
        connection.execute(delete(table).where(of & (finding.c.kind == kind if table is finding else unresolved.c.why == kind)))


def put_unresolved(connection: Connection, rows: Iterable[dict[str, Any]]) -> None:
    sqlite.insert_new(connection, unresolved, list(rows))


def put_in_quarantine(connection: Connection, device_id: int, name: str, records: Iterable[tuple[int, bytes, bytes]], now: str) -> None:
    """As many of these (sequence, hash, body) as the device has room for."""
    (held,) = connection.execute(select(func.count()).where(quarantine.c.device_id == device_id)).one()
    rows = [
        {"device_id": device_id, "epoch": name, "sequence": sequence, "hash": hash_, "body": body, "time": now}
        for sequence, hash_, body in records
    ]
    sqlite.insert_new(connection, quarantine, rows[: max(QUARANTINED_MAX - held, 0)])


def drop_records(connection: Connection, epoch_id: int, first: int, last: int) -> None:
    for table in (raw, record):
        connection.execute(delete(table).where(table.c.epoch_id == epoch_id, table.c.sequence.between(first, last)))


def close(connection: Connection, device_id: int, name: str, by: str) -> str:
    """Notes which epoch follows another, unless one does already; returns which does."""
    place = (epoch.c.device_id == device_id) & (epoch.c.epoch == name)
    connection.execute(update(epoch).where(place, epoch.c.closed_by.is_(None)).values(closed_by=by))
    return str(connection.execute(select(epoch.c.closed_by).where(place)).scalar())
