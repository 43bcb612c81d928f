"""Sums, explains and tabulates what a ledger holds: pure, from decoded bodies."""

import csv
import datetime
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, TextIO

from agent.contract.record import type_name
from agent.errors import BadInput
from agent.metering.ratecard import TOKEN_CLASSES
from agent.metering.rating import plain, total, trimmed
from agent.metering.record import FIGURES
from agent.metering.rollup import USAGE
from agent.metering.when import When

ROLLUP: Final = type_name("rollup")

SUMMED: Final = {field: name for field, name in FIGURES.items() if field != "characters_heard"}

FIGURES_OF: Final = {
    "input": ("input_tokens",),
    "cached_input": ("input_tokens", "cached_tokens"),
    "output": ("output_tokens",),
    "audio_in_ms": ("audio_in_ms",),
    "audio_out_ms": ("audio_out_ms",),
    "characters": ("characters",),
}
"""Which figures a roll-up's class is part of: input tokens are those that were computed and those that were cached."""

PLACE: Final = ("type", "id", "subject", "time", "earliest", "latest", "bootid", "boottimems", "clockquality")
CALL: Final = ("turn_id", "session_id", "stage", "attempt", "role", "placement", "engine", "gen_ai.request.model")
ENDED: Final = ("outcome", "origin", "priority")
MONEY: Final = ("rate_card", "billed_tokens", "amount", "currency")
FOLDED: Final = ("span", "class", "quantity", "records")
"""Columns that only lines of a roll-up fill."""

COLUMNS: Final = (*PLACE, *CALL, *ENDED, *FIGURES.values(), *MONEY, *FOLDED)


def totals(records: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Sums by (stage, model, placement, currency), and by currency, of usage and roll-ups; other records are passed over.

    `{stages: [{stage, model, placement, records, …figures, billed_tokens, amount, currency}], total: [{billed_tokens, amount,
    currency}], unresolved}`: figures are integers, None where no record had one; amounts are decimal strings. Evidence of calls
    that another party bills is no part of it, and what was issued again counts once.
    """
    rows: dict[tuple[str, ...], _Row] = {}
    once = _Once()
    for record in records:
        given = record["data"]
        if record["type"] == USAGE and given.get("role") != "evidence" and once.usage(given):
            _row_of(rows, given, given["gen_ai.request.model"]).add(given)
        elif record["type"] == ROLLUP and once.rollup(given):
            for part in given["totals"]:
                if part["role"] != "evidence":
                    _row_of(rows, part, part["model"]).add_total(part)
    told = [rows[key].told(key) for key in sorted(rows)]
    sums = [_currency_total(currency, told) for currency in sorted({row["currency"] for row in told})]
    return {"stages": told, "total": sums, "unresolved": sum(row.unresolved for row in rows.values())}


class _Once:
    """Remembers what was counted: of a usage record and the one that replaces it, and of a roll-up's copies, the first counts."""

    def __init__(self) -> None:
        self._attempts: dict[tuple[str, int], int] = {}
        self._turns: dict[str, int] = {}
        """A bit for each attempt of a turn, twice: counted, and counted from a replacing record. Ledgers have millions of turns."""
        self._rollups: set[tuple[Any, ...]] = set()

    def usage(self, given: dict[str, Any]) -> bool:
        place = 2 * self._attempts.setdefault((given["stage"], given.get("attempt", 1)), len(self._attempts))
        counted, replacing = 1 << place, 2 << place
        held = self._turns.get(given["turn_id"], 0)
        if held & (counted if "replaces" in given else replacing):
            return False
        self._turns[given["turn_id"]] = held | counted | (replacing if "replaces" in given else 0)
        return True

    def rollup(self, given: dict[str, Any]) -> bool:
        range_ = (given.get("epoch"), given.get("first"), given.get("last"))
        fresh = range_ not in self._rollups
        if None not in range_:
            self._rollups.add(range_)
        return fresh


@dataclass(slots=True)
class _Row:
    """One sum under way."""

    records: int = 0
    unresolved: int = 0
    figures: dict[str, int | None] = field(default_factory=lambda: dict.fromkeys(SUMMED))
    billed_tokens: Decimal = Decimal(0)
    amount: Decimal = Decimal(0)

    def add(self, given: dict[str, Any]) -> None:
        """A usage record."""
        self.records += 1
        self.unresolved += "amount" not in given
        for name, key in SUMMED.items():
            if key in given:
                self._count(name, given[key])
        self._charge(given.get("billed_tokens", "0"), given.get("amount", "0"))

    def add_total(self, part: dict[str, Any]) -> None:
        """One line of a roll-up."""
        self.records += part.get("distinct", 0)
        self.unresolved += part.get("unresolved", 0)
        for name in FIGURES_OF.get(part["class"], ()):
            self._count(name, int(part["quantity"]))
        if "amount" in part:
            billed = part.get("billed", part["quantity"]) if part["class"] in TOKEN_CLASSES else "0"
            self._charge(billed, part["amount"])

    def _count(self, name: str, quantity: int) -> None:
        self.figures[name] = (self.figures[name] or 0) + quantity

    def _charge(self, tokens: str, amount: str) -> None:
        self.billed_tokens = total((self.billed_tokens, Decimal(tokens)))
        self.amount = total((self.amount, Decimal(amount)))

    def told(self, key: tuple[str, ...]) -> dict[str, Any]:
        stage, model, placement, currency = key
        named = {"stage": stage, "model": model, "placement": placement, "records": self.records} | self.figures
        return named | {"billed_tokens": plain(trimmed(self.billed_tokens)), "amount": plain(self.amount), "currency": currency}


def _row_of(rows: dict[tuple[str, ...], _Row], given: dict[str, Any], model: str) -> _Row:
    return rows.setdefault((given["stage"], model, given["placement"], given.get("currency", "")), _Row())


def _currency_total(currency: str, told: list[dict[str, Any]]) -> dict[str, str]:
    rows = [row for row in told if row["currency"] == currency]
    billed = trimmed(total(Decimal(row["billed_tokens"]) for row in rows))
    return {"billed_tokens": plain(billed), "amount": plain(total(Decimal(row["amount"]) for row in rows)), "currency": currency}


def explain(records: Iterable[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    """How each usage record of a sequence or a turn was priced. Raises BadInput if there is none."""
    found = [_explained(record) for record in _chosen(records, what)]
    if not found:
        raise BadInput(f"no usage record has the sequence or turn_id {what!r}", "see: voxmeter usage list")
    return found


def _chosen(records: Iterable[dict[str, Any]], what: str) -> Iterator[dict[str, Any]]:
    sequence = what.lstrip("0") if what.isdecimal() else None
    for record in records:
        if record["type"] == USAGE and (record["sequence"].lstrip("0") == sequence or record["data"]["turn_id"] == what):
            yield record


def _explained(record: dict[str, Any]) -> dict[str, Any]:
    given = record["data"]
    told = {
        "sequence": int(record["sequence"]),
        "turn_id": given["turn_id"],
        "stage": given["stage"],
        "model": given["gen_ai.request.model"],
        "placement": given["placement"],
        "outcome": given["outcome"],
        "origin": given["origin"],
        "rate_card": given.get("rate_card"),
        "charges": given.get("charges", []),
        "billed_tokens": given.get("billed_tokens"),
        "amount": given.get("amount"),
        "currency": given.get("currency"),
    }
    return told | {"says": _says(told)}


def _says(told: dict[str, Any]) -> str:
    if told["amount"] is None:
        return f"no amount: its figures are {told['origin']}, or rate card {told['rate_card']} has no price for them"
    terms = [f"{c['quantity']} x {c['unit_price']} x {c['coefficient']}" for c in told["charges"]]
    return f"{' + '.join(terms) or 'nothing'} = {told['amount']} {told['currency']} by rate card {told['rate_card']}"


def export_csv(records: Iterable[tuple[dict[str, Any], When]], stream: TextIO) -> None:
    """A table for a spreadsheet: a row for each usage record, and for each line of a roll-up, so that amounts add up.

    Figures nobody knows stay empty. `earliest` and `latest` bound when it was; a record that carries a time has it in `time` as well.
    """
    writer = csv.DictWriter(stream, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for record, when in records:
        writer.writerows(_csv_rows(record | {"earliest": spoken(when.earliest), "latest": spoken(when.latest)}))


def spoken(moment: datetime.datetime | None) -> str:
    """RFC 3339 in UTC, to the second; nothing where nothing bounds it."""
    return "" if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _csv_rows(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A usage record with all it says, or the lines of a roll-up; nothing for records that bill nothing."""
    short = record["type"].split(".")[1]
    place = record | {"type": short}
    told = record["data"]
    if short == "usage":
        yield {key: value for key, value in (told | place).items() if key != "data"}
    elif short == "rollup":
        for line in told["totals"]:
            yield place | line | {"gen_ai.request.model": line["model"], "data": ""}
