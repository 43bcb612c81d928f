"""Folds usage records into totals that keep the money and the odometer, for a disk that has no room for each of them.

A total is `{role, subject, span, rate_card, stage, model, placement, class, priority, outcome, origin, currency, quantity, records}`
and, where the class was charged, `amount`: canonical values only, a key that is not known is absent. `span` is the record's UTC day,
or `boot:` and its boot id where it has no time. Three things make a roll-up sum to what its records summed to:

- every class a record knows has a line, if only of 0, and usage without figures has one of class `unknown`;
- `records` of a line are all that have its class; `distinct` are those of which it is the first class, so that they sum to the
  number of records, and `unresolved` are the distinct ones without an amount. Both are absent at 0;
- `billed` stands beside an amount that does not cover the whole quantity, because some of it was not resolved.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from agent.contract.record import type_name
from agent.metering.ratecard import COUNTED_CLASSES
from agent.metering.rating import EXACT, plain, total, trimmed
from agent.metering.record import UNKNOWN, quantities_of_data

USAGE: Final = type_name("usage")

KEYS: Final = (
    ("role", "role"),
    ("subject", "subject"),
    ("span", "span"),
    ("rate_card", "rate_card"),
    ("stage", "stage"),
    ("model", "gen_ai.request.model"),
    ("placement", "placement"),
    ("class", "class"),
    ("priority", "priority"),
    ("outcome", "outcome"),
    ("origin", "origin"),
    ("currency", "currency"),
)
"""What totals are grouped by, and the name of each in a record's data."""

NOTHING = Decimal(0)


@dataclass(slots=True)
class _Line:
    """One total under way."""

    quantity: Decimal = NOTHING
    records: int = 0
    distinct: int = 0
    unresolved: int = 0
    billed: Decimal = NOTHING
    amount: Decimal | None = None

    def count(self, quantity: Decimal) -> None:
        self.quantity = EXACT.add(self.quantity, quantity)

    def charge(self, quantity: Decimal, amount: Decimal) -> None:
        self.billed = EXACT.add(self.billed, quantity)
        self.amount = EXACT.add(NOTHING if self.amount is None else self.amount, amount)


def fold(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Totals of the usage records among decoded bodies, sorted by what they are grouped by."""
    lines: defaultdict[tuple[str, ...], _Line] = defaultdict(_Line)
    for record in records:
        if record["type"] == USAGE:
            _put(lines, record)
    return [_total(key, line) for key, line in sorted(lines.items(), key=lambda item: item[0])]


def _put(lines: defaultdict[tuple[str, ...], _Line], record: Mapping[str, Any]) -> None:
    data = record["data"]
    span = record["time"][:10] if "time" in record else f"boot:{record['bootid']}"
    shared = {**data, "subject": record["subject"], "span": span}

    def line(class_: str) -> _Line:
        shared["class"] = class_
        return lines[tuple(str(shared.get(name, "")) for _, name in KEYS)]

    held = quantities_of_data(data) or {UNKNOWN: 1}
    charges = data.get("charges", [])
    for class_ in {*held, *(charge["class"] for charge in charges)}:
        line(class_).records += 1
    for class_, quantity in held.items():
        line(class_).count(Decimal(quantity))
    first = line(next(iter(held)))
    first.distinct += 1
    first.unresolved += "amount" not in data
    for charge in charges:
        at, used = line(charge["class"]), Decimal(charge["quantity"])
        at.charge(used, Decimal(charge["amount"]))
        if charge["class"] not in COUNTED_CLASSES:
            at.count(used)
    rest = EXACT.subtract(Decimal(data.get("amount", "0")), total(Decimal(charge["amount"]) for charge in charges))
    if rest:  # a writer that gave its amount without its lines
        first.charge(NOTHING, rest)


def _total(key: tuple[str, ...], line: _Line) -> dict[str, Any]:
    told: dict[str, Any] = {name: value for (name, _), value in zip(KEYS, key, strict=True) if value}
    told |= {"quantity": plain(trimmed(line.quantity)), "records": line.records}
    told |= {name: count for name, count in (("distinct", line.distinct), ("unresolved", line.unresolved)) if count}
    if line.amount is not None:
        told["amount"] = plain(line.amount)
        if line.billed != line.quantity:
            told["billed"] = plain(trimmed(line.billed))
    return told


def odometer_of_totals(totals: Iterable[Mapping[str, Any]]) -> Mapping[tuple[str, str, str, str], int]:
    """What the folded records had put on the odometer: (stage, model, placement, class) -> raw quantity."""
    held: defaultdict[tuple[str, str, str, str], int] = defaultdict(int)
    for one in totals:
        quantity = int(one["quantity"]) if one["class"] in (*COUNTED_CLASSES, UNKNOWN) else 0
        if one["role"] == "billable" and quantity:
            held[one["stage"], one["model"], one["placement"], one["class"]] += quantity
    return dict(held)
