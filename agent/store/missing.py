"""What should be in a state folder and is not: a ledger that waits, one that is gone, one that ends before what is known to have left."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from agent.contract.record import type_name
from agent.store.ledger.leaving import side
from agent.store.reading import EpochReader, LedgerReader

EPOCH = type_name("epoch")

SAID = ("lost", "restored", "rolled_back", "damaged")
"""Reasons of an epoch that say themselves that something of its predecessor may be gone."""


@dataclass(frozen=True, slots=True)
class Span:
    """Records that something else stands for."""

    last: int
    h_before: str
    h_last: str
    """Empty where nobody knows it."""


Accounted = Mapping[str, Mapping[int, Span]]
"""By epoch and first sequence."""


def missing(state: Path, reader: LedgerReader, accounted: Accounted) -> str:
    """The first thing that is missing; nothing if nothing is."""
    if reader.waiting:
        return f"{', '.join(reader.waiting)} waits to be salvaged; the robot does it when it runs"
    by_name = {epoch.epoch: epoch for epoch in reader.epochs}
    told = side.read(state)
    for epoch in reader.epochs:
        if problem := _before(epoch, by_name, state, accounted) or _behind(epoch, reader, told, accounted.get(epoch.epoch, {})):
            return problem
    return ""


def _before(epoch: EpochReader, by_name: Mapping[str, EpochReader], state: Path, accounted: Accounted) -> str:
    """Whether the epoch before is here and goes as far as this one's first record says."""
    row = next(iter(epoch.rows("SELECT body FROM record WHERE type = ? ORDER BY sequence LIMIT 1", (EPOCH,))), None)
    told: dict[str, Any] = orjson.loads(row[0])["data"] if row else {}
    previous = told.get("previous", "")
    if not previous or told["reason"] in SAID:
        return ""
    if previous not in by_name:
        return "" if any(state.glob(f"ledger-{previous}*")) else f"epoch {previous}, which {epoch.epoch} follows, is not here"
    if any(not span.h_last for span in accounted.get(previous, {}).values()):
        return ""  # a gap says what is gone
    held = by_name[previous].odometer()
    lines = [((line["stage"], line["model"], line["placement"], line["class"]), line["quantity"]) for line in told.get("odometer", [])]
    if any(held[place] < quantity for place, quantity in lines):
        return f"epoch {previous} shows less than it did when {epoch.epoch} followed it: records were removed, or this is an older copy"
    return ""


def _behind(epoch: EpochReader, reader: LedgerReader, told: Mapping[str, Any], spans: Mapping[int, Span]) -> str:
    """Whether a ledger ends before what had left it, by the side file or its own batches, and no later epoch follows it."""
    (last,) = next(epoch.rows("SELECT max(sequence) FROM record"))
    last = max([last or 0, *(span.last for span in spans.values())])
    left = max(int(epoch.meta.get("batched", "0")), told["sequence"] if told.get("epoch") == epoch.epoch else 0)
    if last < left and not any(later.meta.get("previous") == epoch.epoch for later in reader.epochs):
        return f"it ends at {last}, and {left} had left: records were removed, or this is an older copy"
    return ""
