"""Tells from the files what of the books has not been acknowledged, whoever owns them."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import orjson

from agent.contract.canonical import INTEGER_MAX
from agent.store.ledger.leaving.earlier import CLOSED
from agent.store.reading import EpochReader, LedgerReader


def waiting(state: Path) -> dict[str, Any]:
    """`{records, oldest, last_ack, dead_letters, epochs: [{epoch, acked, last, records}]}`; the present epoch is the last.

    `oldest`: when the oldest waiting record was made, as far as it says; `last_ack`: the backend's time of its last word. Raises
    BadInput if there is no ledger, LedgerDamaged for one that can't be read.
    """
    reader = LedgerReader(state)
    try:
        epochs = [_epoch(epoch) for epoch in reader.epochs if CLOSED not in epoch.meta]
        oldest = next((time for epoch in reader.epochs if CLOSED not in epoch.meta and (time := _oldest(epoch))), None)
        acks = [time for epoch in reader.epochs if (time := epoch.meta.get("server_time"))]
        dead = sum(count for epoch in reader.epochs for (count,) in _counted(epoch, "deadletter"))
    finally:
        reader.close()
    told = [one for one in epochs[:-1] if one["records"]] + epochs[-1:]
    records = sum(one["records"] for one in told)
    return {"records": records, "oldest": oldest, "last_ack": max(acks, default=None), "dead_letters": dead, "epochs": told}


def messages(state: Path) -> int:
    """How many events and results wait in the outbox. Raises as `waiting`."""
    reader = LedgerReader(state)
    try:
        return sum(count for epoch in reader.epochs[-1:] for (count,) in _counted(epoch, "outbox"))
    finally:
        reader.close()


def age_s(oldest: str | None, now: datetime.datetime) -> float | None:
    """How long the oldest waiting record has waited, in seconds."""
    return None if oldest is None else (now - datetime.datetime.fromisoformat(oldest)).total_seconds()


def _epoch(epoch: EpochReader) -> dict[str, Any]:
    acked = _acked(epoch.meta)
    ((last,),) = epoch.rows("SELECT max(sequence) FROM record")
    ((records,),) = epoch.rows("SELECT count(*) FROM record WHERE sequence > ?", (acked,))
    return {"epoch": epoch.epoch, "acked": acked, "last": last or 0, "records": records}


def _oldest(epoch: EpochReader) -> str | None:
    query = "SELECT body FROM record WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT 1"
    for (body,) in epoch.rows(query, (_acked(epoch.meta), INTEGER_MAX)):
        time: str | None = orjson.loads(body).get("time")
        return time
    return None


def _acked(held: Mapping[str, str]) -> int:
    return int(held.get("acked", "0"))


def _counted(epoch: EpochReader, table: Literal["deadletter", "outbox"]) -> list[tuple[int]]:
    """Rows of a table that a ledger may not have."""
    if any(epoch.rows("SELECT 1 FROM sqlite_master WHERE name = ?", (table,))):
        return list(epoch.rows(f"SELECT count(*) FROM {table}"))  # noqa: S608  one of two names
    return []
