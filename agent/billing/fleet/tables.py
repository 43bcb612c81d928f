"""The tables of the fleet: what robots told besides their books, what stands alarmed, and what a webhook has not taken yet."""

from typing import Final

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, UniqueConstraint

from agent.billing.ledger.tables import METADATA

EVENT: Final = Table(
    "event",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("device_id", ForeignKey("device.id"), nullable=False),
    Column("name", Text, nullable=False),  # `handoff`, `alarm`, `refused`, …; `result` of a command's final result
    Column("body", Text, nullable=False),  # JSON, keys sorted
    Column("digest", LargeBinary, nullable=False),  # of name and body
    Column("received", Text, nullable=False),
    UniqueConstraint("device_id", "digest"),
)
Index("event_device", EVENT.c.device_id, EVENT.c.id)
"""The same bytes of the same robot are one event, however often they come."""

SEEN: Final = Table(
    "seen",
    METADATA,
    Column("device_id", ForeignKey("device.id"), primary_key=True),
    Column("birth", Text, nullable=False),  # JSON, as it came last; empty: never
    Column("presence", Text, nullable=False),
    Column("telemetry", Text, nullable=False),
    Column("reported", Integer, nullable=False),  # version of the twin it reported last; -1: never
    Column("heard", Text, nullable=False),  # when anything was heard of it last; empty: never
    Column("span_s", Integer, nullable=False),  # how long it is usually silent at the most
)
"""How a robot was when it was last heard of: one row each."""

UNTOLD: Final = Table(
    "untold",
    METADATA,
    Column("device_id", ForeignKey("device.id"), primary_key=True),
    Column("action", Text, primary_key=True),
    Column("code", Text, primary_key=True),
    Column("count", Integer, nullable=False),
)
"""What belongs on the audit log and found no room there yet; the next line of its kind says how many there were."""

ALARM: Final = Table(
    "alarm",
    METADATA,
    Column("device_id", ForeignKey("device.id"), primary_key=True),
    Column("by", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("since", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("facts", Text, nullable=False),  # JSON
    Column("changed", Text, nullable=False),
)
"""How each alarm of each robot stands."""

NOTICED: Final = Table(
    "noticed",
    METADATA,
    Column("device_id", ForeignKey("device.id"), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("sequence", Integer, primary_key=True),
)
"""Findings of the ingest that an alarm was raised for."""

WEBHOOK: Final = Table(
    "webhook",
    METADATA,
    Column("n", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("body", LargeBinary, nullable=False),
    Column("created", Text, nullable=False),
    Column("tries", Integer, nullable=False),
)
"""Alarms that whoever listens has not taken yet."""
