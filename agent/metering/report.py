"""Sums and explains usage records: pure, from decoded bodies."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from agent.errors import BadInput
from agent.metering.rating import EXACT, plain
from agent.metering.record import FIGURES

SUMMED = {field: name for field, name in FIGURES.items() if field != "characters_heard"}


def totals(records: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Sums by (stage, model, placement, currency), and by currency.

    `{stages: [{stage, model, placement, records, …figures, billed_tokens, amount, currency}], total: [{billed_tokens, amount,
    currency}], unresolved}`: figures are integers, None where no record had one; amounts are decimal strings.
    """
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    unresolved = 0
    for record in records:
        given = record["data"]
        key = (given["stage"], given["gen_ai.request.model"], given["placement"], given.get("currency", ""))
        row = rows.setdefault(key, _empty(key))
        unresolved += "amount" not in given
        _add(row, given)
    stages = [_row(row) for row in rows.values()]
    currencies = sorted({row["currency"] for row in rows.values()})
    sums = [_currency_total(currency, [row for row in rows.values() if row["currency"] == currency]) for currency in currencies]
    return {"stages": stages, "total": sums, "unresolved": unresolved}


def _empty(key: tuple[str, ...]) -> dict[str, Any]:
    stage, model, placement, currency = key
    figures: dict[str, int | None] = dict.fromkeys(SUMMED)
    named = {"stage": stage, "model": model, "placement": placement, "records": 0}
    return named | figures | {"billed_tokens": Decimal(0), "amount": Decimal(0), "currency": currency}


def _add(row: dict[str, Any], given: dict[str, Any]) -> None:
    row["records"] += 1
    for field, name in SUMMED.items():
        if name in given:
            row[field] = (row[field] or 0) + given[name]
    for field in ("billed_tokens", "amount"):
        row[field] = EXACT.add(row[field], Decimal(given.get(field, "0")))


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"billed_tokens": plain(row["billed_tokens"]), "amount": plain(row["amount"])}


def _currency_total(currency: str, rows: list[dict[str, Any]]) -> dict[str, str]:
    def sum_of(field: str) -> str:
        result = Decimal(0)
        for row in rows:
            result = EXACT.add(result, row[field])
        return plain(result)

    return {"billed_tokens": sum_of("billed_tokens"), "amount": sum_of("amount"), "currency": currency}


def explain(records: Iterable[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    """How each usage record of a sequence or a turn was priced. Raises BadInput if there is none."""
    found = [_explained(record) for record in _chosen(records, what)]
    if not found:
        raise BadInput(f"no usage record has the sequence or turn_id {what!r}", "see: voxmeter usage list")
    return found


def _chosen(records: Iterable[dict[str, Any]], what: str) -> Iterator[dict[str, Any]]:
    sequence = what.lstrip("0") if what.isdecimal() else None
    for record in records:
        if record["sequence"].lstrip("0") == sequence or record["data"]["turn_id"] == what:
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
