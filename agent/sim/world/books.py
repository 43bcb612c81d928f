"""Both sides' books as the checks compare them: what robots appended, read from their folders, and what the backend holds and bills."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from sqlalchemy import create_engine, select

from agent.billing.access.tables import AUDIT
from agent.billing.ledger import tables
from agent.billing.ledger.totals import usage_totals
from agent.contract.record import type_name
from agent.metering import report
from agent.metering.ratecard import RateCard
from agent.metering.record import FIGURES, rated_of_data
from agent.sim.world.evidence import Body
from agent.store.reading import LedgerReader

USAGE, GAP = type_name("usage"), type_name("gap")


class Attempt(NamedTuple):
    """What is billed once, whatever happens."""

    device: str
    turn: str
    stage: str
    attempt: int


Data = Mapping[str, Any]


@dataclass(slots=True)
class Own:
    """What all robots together hold."""

    attempts: dict[Attempt, list[Data]] = field(default_factory=lambda: defaultdict(list))
    """More than one version where a clone and its original ended the same call each in its way."""
    last: dict[tuple[str, str], int] = field(default_factory=dict)
    """By device and epoch, the highest sequence that any body has."""
    reasons: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """By device, why its epochs began."""
    records: int = 0


def own(bodies: Iterable[Body]) -> Own:
    """Reads every folder."""
    held = Own()
    seen: set[tuple[str, str, bytes]] = set()
    for body in bodies:
        reader = LedgerReader(body.state)
        try:
            for text in reader.bodies():
                record = orjson.loads(text)
                if (key := (body.device, record["id"], text)) not in seen:
                    seen.add(key)
                    _put(held, body.device, record)
        finally:
            reader.close()
    return held


def _put(held: Own, device: str, record: Data) -> None:
    epoch, sequence = record["id"].split(":")
    held.records += 1
    held.last[device, epoch] = max(held.last.get((device, epoch), 0), int(sequence))
    told = record["data"]
    if record["type"] == USAGE:
        versions = held.attempts[_attempt(device, told)]
        if not any(units(told) == units(other) for other in versions):
            versions.append(told)
    elif record["type"] == type_name("epoch"):
        held.reasons[device].add(told["reason"])


def _attempt(device: str, told: Data) -> Attempt:
    return Attempt(device, told["turn_id"], told["stage"], told["attempt"])


def units(told: Data) -> tuple[Any, ...]:
    """What was used and how it ended: all that its price depends on."""
    return (told["outcome"], told["origin"], *(told.get(name) for name in FIGURES.values()))


class EpochHeld(NamedTuple):
    """What the backend holds of an epoch."""

    cum: int
    head_hash: str
    hashes: dict[int, str]
    """Of every record it stores, linked or not."""


@dataclass(slots=True)
class Billing:
    """What the backend holds."""

    epochs: dict[tuple[str, str], EpochHeld] = field(default_factory=dict)
    billed: dict[Attempt, list[Data]] = field(default_factory=lambda: defaultdict(list))
    gaps: set[tuple[str, str, int, int]] = field(default_factory=set)
    """Declared: device, epoch, first, last."""
    forks: set[str] = field(default_factory=set)
    """Devices of which it says that something else stood in the same place."""
    totals: Sequence[Data] = ()
    """Its running totals, by stage."""
    records: int = 0
    audit: Counter[tuple[str, str]] = field(default_factory=Counter)
    """What its audit log tells: (device, the code it names, else its action) -> how often."""


def billing(folder: Path) -> Billing:
    """Reads the backend's books; nobody may have them open."""
    held = Billing()
    engine = create_engine(f"sqlite:///{folder / 'billing.db'}")
    try:
        with engine.connect() as connection:
            names = dict(connection.execute(select(tables.device.c.id, tables.device.c.name)).all())
            for epoch in connection.execute(select(tables.epoch)).all():
                _put_epoch(held, connection, epoch, names[epoch.device_id])
            forks = select(tables.finding.c.device_id).where(tables.finding.c.kind == "fork")
            held.forks = {names[device] for (device,) in connection.execute(forks)}
            held.totals = usage_totals(connection, group_by=("stage",))
            for line in connection.execute(select(AUDIT)):
                told = orjson.loads(line.told)
                held.audit[line.device, str(told.get("code", line.action))] += int(told.get("count", 1))
    finally:
        engine.dispose()
    return held


def _put_epoch(held: Billing, connection: Any, epoch: Any, device: str) -> None:
    hashes = {}
    rows = connection.execute(select(tables.record).where(tables.record.c.epoch_id == epoch.id))
    for row in rows:
        held.records += 1
        hashes[row.sequence] = row.hash.hex()
        if row.type == GAP:
            told = orjson.loads(row.body)["data"]
            held.gaps.add((device, told["epoch"], told["first"], told["last"]))
        elif row.state == tables.State.BILLED and row.type == USAGE:
            told = orjson.loads(row.body)["data"]
            held.billed[_attempt(device, told)].append(told)
    held.epochs[device, epoch.epoch] = EpochHeld(epoch.cum, epoch.head_hash.hex(), hashes)


def summed(attempts: Iterable[Data]) -> list[dict[str, Any]]:
    """By stage and model: records, figures, unresolved, and the amounts as the records say them."""
    told: list[dict[str, Any]] = report.totals({"type": USAGE, "data": one} for one in attempts)["stages"]
    return told


def money(attempts: Iterable[Data], card: RateCard) -> Decimal:
    """The raw units priced anew."""
    rated = (rated_of_data(one, card) for one in attempts)
    return sum((one.amount for one in rated if one is not None), Decimal(0))
