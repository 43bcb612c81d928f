"""The books as a table for a spreadsheet: a row for each usage record, and for each line of a roll-up, so that amounts add up."""

import csv
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from agent.metering.record import FIGURES

PLACE = ("type", "id", "subject", "time", "bootid", "boottimems", "clockquality")

NAMED = (
    "turn_id",
    "session_id",
    "stage",
    "attempt",
    "role",
    "placement",
    "engine",
    "gen_ai.request.model",
    "outcome",
    "origin",
    "priority",
)

MONEY = ("rate_card", "billed_tokens", "amount", "currency")

FOLDED = ("span", "class", "quantity", "records")
"""Columns that only lines of a roll-up fill."""

COLUMNS = (*PLACE, *NAMED, *FIGURES.values(), *MONEY, *FOLDED)


def export_csv(records: Iterable[dict[str, Any]], stream: TextIO) -> None:
    """Writes a header and the rows; figures nobody knows stay empty."""
    writer = csv.DictWriter(stream, COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerows(_rows(record))


def _rows(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A usage record with all it says, or the lines of a roll-up; nothing for records that bill nothing."""
    short = record["type"].split(".")[1]
    place = record | {"type": short}
    told = record["data"]
    if short == "usage":
        yield {key: value for key, value in (told | place).items() if key != "data"}
    elif short == "rollup":
        for line in told["totals"]:
            yield place | line | {"gen_ai.request.model": line["model"], "data": ""}
