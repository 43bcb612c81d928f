"""Running totals of what is billed: adds the lines of a batch, and sums them for whoever asks by device, stage, model or day."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, select

from agent.billing.ledger import sqlite
from agent.billing.ledger.tables import device, total
from agent.errors import BadInput
from agent.metering.ratecard import COUNTED_CLASSES, TOKEN_CLASSES
from agent.metering.rating import EXACT, plain, trimmed
from agent.metering.record import UNKNOWN
from agent.metering.rollup import KEYS

NAMES: Final = tuple(name for name, _ in KEYS if name != "span")
"""What a line is keyed by besides device and day."""

GROUPS: Final = ("tenant", "device", "day", *NAMES)
"""What totals can be grouped by."""

COUNTS: Final = (*COUNTED_CLASSES, UNKNOWN)
"""Classes whose quantities are whole numbers."""

NOTHING = Decimal(0)

Line = Mapping[str, Any]
"""As `metering.rollup.fold` writes them, `span` being the day; quantities may be negative."""


def add(connection: Connection, device_id: int, lines: Iterable[Line]) -> None:
    """Adds lines to a device's totals."""
    added: dict[tuple[str, bytes], dict[str, Any]] = {}
    for line in lines:
        names = {name: str(line.get(name, "")) for name in NAMES}
        key = (line["span"], hashlib.blake2b("\0".join(names.values()).encode(), digest_size=16).digest())
        if key in added:
            _sum(added[key], _figures(line))
        else:
            added[key] = {"device_id": device_id, "day": key[0], "line": key[1]} | names | _figures(line)
    for day in {day for day, _ in added}:
        wanted = [row for (of, _), row in added.items() if of == day]
        _merge(connection, device_id, day, wanted)


def _merge(connection: Connection, device_id: int, day: str, rows: list[dict[str, Any]]) -> None:
    place = {"device_id_": device_id, "day_": day, "lines_": [row["line"] for row in rows]}
    held = {one.line: one._mapping for one in connection.execute(HELD, place)}
    for row in rows:
        if row["line"] in held:
            _sum(row, held[row["line"]])
    sqlite.put(connection, total, rows)


FIGURE_COLUMNS = [total.c[name] for name in ("line", "quantity", "records", "distinct", "unresolved", "billed", "amount")]

HELD = (
    select(*FIGURE_COLUMNS)
    .where(total.c.device_id == bindparam("device_id_"), total.c.day == bindparam("day_"))
    .where(total.c.line.in_(bindparam("lines_", expanding=True)))
    .with_for_update()
)


def _figures(line: Line) -> dict[str, Any]:
    amount = line.get("amount")
    return {
        "quantity": line["quantity"],
        "records": line.get("records", 0),
        "distinct": line.get("distinct", 0),
        "unresolved": line.get("unresolved", 0),
        "billed": "0" if amount is None else line.get("billed", line["quantity"]),
        "amount": amount,
    }


def _sum(row: dict[str, Any], other: Mapping[Any, Any]) -> None:
    for name in ("records", "distinct", "unresolved"):
        row[name] += other[name]
    for name in ("quantity", "billed"):
        row[name] = _added(row[name], other[name])
    if row["amount"] is None or other["amount"] is None:
        row["amount"] = other["amount"] if row["amount"] is None else row["amount"]
    else:
        row["amount"] = _added(row["amount"], other["amount"])


def _added(one: str, other: str) -> str:
    return plain(EXACT.add(Decimal(one), Decimal(other)))


def usage_totals(
    connection: Connection,
    *,
    tenant: str | None = None,
    device: str | None = None,
    stage: str | None = None,
    model: str | None = None,
    first_day: str | None = None,
    last_day: str | None = None,
    group_by: Sequence[str] = ("device", "stage", "model", "day"),
) -> list[dict[str, Any]]:
    """Sums of what is billed, one for each group and currency, sorted by both; days are `YYYY-MM-DD` in UTC, both inclusive.

    `{…group, currency, records, unresolved, quantities: {class: integer, or decimal string where parts of a unit are billed},
    billed_tokens, amount}`, the last two decimal strings; amounts are the devices' estimates. Raises BadInput for an unknown group.
    """
    if strange := set(group_by) - set(GROUPS):
        raise BadInput(f"usage can't be grouped by {min(strange)!r}", f"use {', '.join(GROUPS)}")
    filters = {"tenant": tenant, "device": device, "stage": stage, "model": model}
    sums: dict[tuple[str, ...], _Sum] = {}
    for row in connection.execute(_wanted({name: value for name, value in filters.items() if value is not None}, first_day, last_day)):
        line = row._mapping
        key = tuple(line[name] for name in dict.fromkeys((*group_by, "currency")))
        sums.setdefault(key, _Sum()).add(line)
    names = tuple(dict.fromkeys((*group_by, "currency")))
    return [dict(zip(names, key, strict=True)) | sums[key].told() for key in sorted(sums)]


def _wanted(filters: Mapping[str, str], first_day: str | None, last_day: str | None) -> Select[Any]:
    named = {"tenant": device.c.tenant, "device": device.c.name} | {name: total.c[name] for name in (*NAMES, "day")}
    figures = [column for column in FIGURE_COLUMNS if column.name != "line"]
    wanted = select(*(column.label(name) for name, column in named.items()), *figures).join_from(total, device)
    for name, value in filters.items():
        wanted = wanted.where(named[name] == value)
    if first_day is not None:
        wanted = wanted.where(total.c.day >= first_day)
    return wanted if last_day is None else wanted.where(total.c.day <= last_day)


class _Sum:
    """One group under way."""

    __slots__ = ("amount", "billed", "quantities", "records", "unresolved")

    def __init__(self) -> None:
        self.records = self.unresolved = 0
        self.billed = self.amount = NOTHING
        self.quantities: dict[str, Decimal] = {}

    def add(self, line: Mapping[Any, Any]) -> None:
        class_ = line["class"]
        self.records += line["distinct"]
        self.unresolved += line["unresolved"]
        self.quantities[class_] = EXACT.add(self.quantities.get(class_, NOTHING), Decimal(line["quantity"]))
        if class_ in TOKEN_CLASSES:
            self.billed = EXACT.add(self.billed, Decimal(line["billed"]))
        if line["amount"] is not None:
            self.amount = EXACT.add(self.amount, Decimal(line["amount"]))

    def told(self) -> dict[str, Any]:
        quantities = {
            class_: int(quantity) if class_ in COUNTS else plain(trimmed(quantity)) for class_, quantity in sorted(self.quantities.items())
        }
        told = {"records": self.records, "unresolved": self.unresolved, "quantities": quantities}
        return told | {"billed_tokens": plain(trimmed(self.billed)), "amount": plain(self.amount)}
