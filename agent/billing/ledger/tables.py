"""The tables of the backend's books, in SQLAlchemy Core: what SQLite holds now and PostgreSQL can hold later.

Times are RFC 3339 UTC in one form, so that later sorts after earlier. Amounts are decimal strings: no database rounds them.
"""

from enum import IntEnum
from typing import Final

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, MetaData, Table, Text, UniqueConstraint

METADATA: Final = MetaData()
"""Every table of the backend's database; other rooms of billing may add theirs before the Store is opened."""


class State(IntEnum):
    """Where a stored record stands."""

    HELD = 0
    """In a range beyond a gap: not linked, not billed."""
    BILLED = 1
    """Linked, and its quantities are in `total`."""
    PLAIN = 2
    """Linked; there is nothing to bill in it."""
    AGAIN = 3
    """Linked; the same attempt, or the same correction, is billed by another record."""
    INVALID = 4
    """Linked; it makes no sense, so it is never billed and stands in `unresolved`."""


device = Table(
    "device",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("registered", Text, nullable=False),
    UniqueConstraint("tenant", "name"),
)

usage_key = Table(
    "usage_key",
    METADATA,
    Column("key_id", Text, primary_key=True),
    Column("device_id", ForeignKey("device.id"), nullable=False, index=True),
    Column("public", LargeBinary, nullable=False),
    Column("since", Text, nullable=False),
    Column("used", Text),  # when it first signed a batch
    Column("retired", Text),  # when the record that names its successor was linked
    Column("successor", Text),  # key id
)

epoch = Table(
    "epoch",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("device_id", ForeignKey("device.id"), nullable=False),
    Column("epoch", Text, nullable=False),
    Column("cum", Integer, nullable=False),  # the highest sequence linked to the beginning
    Column("head_hash", LargeBinary, nullable=False),  # h(cum)
    Column("ranges", Text, nullable=False),  # JSON: [[first, last, h_before, h_last], ...] stored beyond a gap
    Column("holes", Integer, nullable=False),  # rows of `hole`
    Column("durable", Integer, nullable=False),  # up to here backups have it
    Column("closed_by", Text),  # the epoch that follows this one, or issued its records again
    Column("odometer", Text, nullable=False),  # JSON: [[stage, model, placement, class, quantity], ...] at cum, as reckoned here
    Column("begun", Text, nullable=False),
    UniqueConstraint("device_id", "epoch"),
)
"""One row is all that is needed to recognise duplicates, beyond the records themselves."""

hole = Table(
    "hole",
    METADATA,
    Column("epoch_id", ForeignKey("epoch.id"), primary_key=True),
    Column("first", Integer, primary_key=True),
    Column("last", Integer, primary_key=True),
    Column("kind", Text, nullable=False),  # gap or rollup
    Column("h_before", LargeBinary),
    Column("h_last", LargeBinary),
    Column("by_epoch_id", Integer, nullable=False),
    Column("by_sequence", Integer, nullable=False),  # the record that accounts for it
)
"""What a stored `gap` or `rollup` accounts for; it may be of another epoch than the record."""

record = Table(
    "record",
    METADATA,
    Column("epoch_id", ForeignKey("epoch.id"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("hash", LargeBinary, nullable=False),
    Column("type", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("received", Text, nullable=False),
    Column("time", Text, nullable=False),  # when it was, as a bill takes it; its first ten characters are the day
    Column("exact", Integer, nullable=False),  # 0: the time is only a bound, or the time of receipt
    Column("turn_id", Text),
    Column("stage", Text),
    Column("attempt", Integer),
    Column("digest", LargeBinary),  # of what is looked up by what it says: adjusts, rollups, gaps, keys, usage that replaces
    Column("state", Integer, nullable=False),
)
Index("record_turn", record.c.turn_id, sqlite_where=record.c.turn_id.is_not(None), postgresql_where=record.c.turn_id.is_not(None))
Index("record_digest", record.c.digest, sqlite_where=record.c.digest.is_not(None), postgresql_where=record.c.digest.is_not(None))

raw = Table(
    "raw",
    METADATA,
    Column("epoch_id", ForeignKey("epoch.id"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

anchor = Table(
    "anchor",
    METADATA,
    Column("device_id", ForeignKey("device.id"), primary_key=True),
    Column("bootid", Text, primary_key=True),
    Column("boottimems", Integer, primary_key=True),
    Column("time", Text, nullable=False),
    Column("quality", Text, nullable=False),
)

total = Table(
    "total",
    METADATA,
    Column("device_id", ForeignKey("device.id"), primary_key=True),
    Column("day", Text, primary_key=True),
    Column("line", LargeBinary, primary_key=True),  # digest of the names that follow
    Column("role", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("rate_card", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("placement", Text, nullable=False),
    Column("class", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("quantity", Text, nullable=False),
    Column("records", Integer, nullable=False),
    Column("distinct", Integer, nullable=False),
    Column("unresolved", Integer, nullable=False),
    Column("billed", Text, nullable=False),
    Column("amount", Text),  # absent where no record of the line had one
)
"""Running totals of what is billed, as `metering.rollup.fold` makes them, with the day in place of the span."""

unresolved = Table(
    "unresolved",
    METADATA,
    Column("device_id", ForeignKey("device.id"), primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("why", Text, nullable=False),
    Column("told", Text, nullable=False),  # JSON
    Column("time", Text, nullable=False),
)
"""Records that stand on a statement without an amount."""

finding = Table(
    "finding",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("device_id", ForeignKey("device.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("epoch", Text, nullable=False),
    Column("sequence", Integer, nullable=False),  # 0 where it is of no record
    Column("told", Text, nullable=False),  # JSON
    Column("time", Text, nullable=False),
    UniqueConstraint("device_id", "kind", "epoch", "sequence"),
)
"""What somebody should look at; the same thing is found once."""

quarantine = Table(
    "quarantine",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("device_id", ForeignKey("device.id"), nullable=False),
    Column("epoch", Text, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("time", Text, nullable=False),
    UniqueConstraint("device_id", "epoch", "sequence", "hash"),
)
"""Records that contradict what is held: kept for whoever looks into it, not held in the sense of an ack."""

meta = Table("meta", METADATA, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))
