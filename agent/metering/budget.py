"""Adds up what was spent by day, and decides how much of a limit that is: pure, from the records as they are.

Amounts are the robot's own estimates. A record belongs to the day of its time in the account's time zone; one that doesn't know its
time counts for the day it is read, so that an alarm comes rather too early. What is evidence of a call that somebody else bills is
not counted, and of two records of one attempt (`replaces`) only the first.
"""

import datetime
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from agent.contract.record import type_name
from agent.errors import BadInput
from agent.metering.rating import EXACT

USAGE: Final = type_name("usage")

DAYS_KEPT: Final = 62
"""This month and the one before."""

Period = Literal["day", "month"]


@dataclass(frozen=True, slots=True)
class Limit:
    """What may be spent."""

    amount: Decimal
    """Above 0, in `currency`."""
    period: Period
    currency: str


@dataclass(frozen=True, slots=True)
class Used:
    """How much of a limit is spent."""

    limit: Limit
    spent: Decimal
    span: str
    """The day or the month, `2026-11-27` or `2026-11`."""

    @property
    def currency(self) -> str:
        return self.limit.currency

    @property
    def share(self) -> Decimal:
        return self.spent / self.limit.amount


def limit_of(amount: str, period: str, currency: str) -> Limit | None:
    """As the command `budget.set` gives it; None for an empty amount. Raises BadInput."""
    if not amount:
        return None
    try:
        value = Decimal(amount)
    except InvalidOperation as error:
        raise BadInput(f"{amount[:40]!r} is no amount", "give a decimal such as 12.50") from error
    if not value.is_finite() or value <= 0:
        raise BadInput(f"a budget of {amount[:40]} means nothing", "give an amount above 0, or none to have no budget")
    if period == "day":
        return Limit(value, "day", currency)
    if period == "month":
        return Limit(value, "month", currency)
    raise BadInput(f"{period[:40]!r} is no period", "give day or month")


class Spending:
    """What was spent by day and currency, and how far each epoch was read."""

    def __init__(self, time_zone: str, remembered: Mapping[str, Any] | None = None) -> None:
        """`remembered`: what `told` gave before a restart; what can't be read is forgotten. Raises BadInput for no time zone."""
        try:
            self._zone = ZoneInfo(time_zone)
        except (KeyError, ValueError, OSError) as error:
            raise BadInput(f"{time_zone[:100]!r} is no time zone", "set [billing] time_zone, such as Asia/Shanghai") from error
        self._days: dict[str, dict[str, Decimal]] = {}
        self.read: dict[str, int] = {}
        """By epoch: the highest sequence that was added."""
        if remembered:
            with suppress(ValueError, TypeError, AttributeError, InvalidOperation, KeyError):
                days = {day: {name: Decimal(held) for name, held in sums.items()} for day, sums in remembered["days"].items()}
                self._days, self.read = days, {str(epoch): int(sequence) for epoch, sequence in remembered["read"].items()}

    def told(self) -> dict[str, Any]:
        """Plain values."""
        return {"days": {day: {name: str(held) for name, held in sums.items()} for day, sums in self._days.items()}, "read": self.read}

    def add(self, epoch: str, sequence: int, record: Mapping[str, Any], now: datetime.datetime) -> None:
        """A record, decoded, in the order of its epoch. `now`: UTC."""
        self.read[epoch] = max(sequence, self.read.get(epoch, 0))
        given = record["data"]
        if record["type"] != USAGE or given.get("role") == "evidence" or "amount" not in given or "replaces" in given:
            return
        sums = self._days.setdefault(self.day(_moment(record.get("time"), now)), {})
        currency = str(given.get("currency", ""))
        sums[currency] = EXACT.add(sums.get(currency, Decimal(0)), Decimal(given["amount"]))
        for day in sorted(self._days)[:-DAYS_KEPT]:
            del self._days[day]

    def keep(self, epochs: set[str]) -> None:
        """Forgets how far others were read: they are gone."""
        self.read = {epoch: at for epoch, at in self.read.items() if epoch in epochs}

    def day(self, moment: datetime.datetime) -> str:
        """In the account's time zone."""
        return moment.astimezone(self._zone).date().isoformat()

    def used(self, limit: Limit, now: datetime.datetime) -> Used:
        """Of the day or month it is now."""
        day = self.day(now)
        span = day if limit.period == "day" else day[:7]
        spent = Decimal(0)
        for at, sums in self._days.items():
            if at.startswith(span):
                spent = EXACT.add(spent, sums.get(limit.currency, Decimal(0)))
        return Used(limit, spent, span)


def _moment(time: str | None, now: datetime.datetime) -> datetime.datetime:
    with suppress(ValueError, TypeError):
        moment = datetime.datetime.fromisoformat(time or "")
        if moment.tzinfo is not None and moment <= now + datetime.timedelta(days=1):
            return moment
    return now
