"""Budgets: what was spent by day and month in the account's time zone, whatever the records are like, and over restarts."""

import datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest

from agent.errors import BadInput
from agent.metering.budget import DAYS_KEPT, Limit, Spending, limit_of

NOON = datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.UTC)
DAY, MONTH = Limit(Decimal(10), "day", "CNY"), Limit(Decimal(100), "month", "CNY")


def record(amount: str | None = "1.25", time: str | None = "2026-11-30T10:00:00Z", **given: Any) -> dict[str, Any]:
    told = {"currency": "CNY", "role": "billable"} | ({} if amount is None else {"amount": amount}) | given
    return {"type": "voxmeter.usage.v1", "data": told} | ({} if time is None else {"time": time})


def spending(*records: dict[str, Any], zone: str = "Asia/Shanghai") -> Spending:
    found = Spending(zone)
    for number, one in enumerate(records, 1):
        found.add("e", number, one, NOON)
    return found


def spent(found: Spending, limit: Limit = DAY, now: datetime.datetime = NOON) -> str:
    return str(found.used(limit, now).spent)


def test_a_day_is_the_accounts_and_a_month_its_days() -> None:
    found = spending(
        record("1"), record("2", "2026-11-29T15:59:59Z"), record("4", "2026-11-29T16:00:00Z"), record("8", "2026-10-31T20:00:00Z")
    )
    assert spent(found) == "5"
    assert spent(found, MONTH) == "15"
    assert spent(found, DAY, NOON + datetime.timedelta(hours=4)) == "0"
    assert spent(found, MONTH, NOON + datetime.timedelta(hours=4)) == "0"
    used = found.used(MONTH, NOON)
    assert (used.share, used.span, used.currency) == (Decimal("0.15"), "2026-11", "CNY")


@pytest.mark.parametrize(
    "other",
    [
        record(role="evidence"),
        record(None),
        record(currency="EUR"),
        record(replaces={"epoch": "e" * 32, "sequence": 1}),
        {"type": "voxmeter.epoch.v1", "data": {"reason": "first"}},
    ],
)
def test_what_this_robot_does_not_owe_is_not_counted(other: dict[str, Any]) -> None:
    assert spent(spending(record("1"), other)) == "1"


@pytest.mark.parametrize("time", [None, "2031-01-01T00:00:00Z", "rubbish", "2026-11-30T10:00:00"])
def test_who_does_not_know_the_time_counts_today(time: str | None) -> None:
    assert spent(spending(record("3", time))) == "3"


def test_sums_are_exact_and_outlive_a_restart() -> None:
    found = spending(*[record("0.1")] * 1000)
    again = Spending("Asia/Shanghai", orjson.loads(orjson.dumps(found.told())))
    assert (spent(again), again.read) == ("100.0", {"e": 1000})
    again.add("f", 1, record("0.5"), NOON)
    again.keep({"f"})
    assert (spent(again), again.read) == ("100.5", {"f": 1})


@pytest.mark.parametrize("remembered", [{}, {"days": 5, "read": {}}, {"days": {"d": {"CNY": "x"}}, "read": {}}, {"days": {}}])
def test_what_was_remembered_wrongly_is_forgotten(remembered: dict[str, Any]) -> None:
    found = Spending("UTC", remembered)
    assert (spent(found), found.read) == ("0", {})


def test_old_days_go() -> None:
    found = Spending("UTC")
    for number in range(100):
        day = NOON - datetime.timedelta(days=100 - number)
        found.add("e", number, record("1", day.isoformat()), NOON)
    assert len(found.told()["days"]) == DAYS_KEPT


def test_a_limit_is_above_nothing_and_of_a_day_or_a_month() -> None:
    assert limit_of("", "day", "CNY") is None
    assert limit_of("12.5", "day", "CNY") == Limit(Decimal("12.5"), "day", "CNY")
    for amount, period in (("0", "day"), ("-1", "day"), ("x", "month"), ("NaN", "day"), ("Infinity", "day"), ("1", "year")):
        with pytest.raises(BadInput):
            limit_of(amount, period, "CNY")


def test_no_time_zone() -> None:
    with pytest.raises(BadInput, match="no time zone"):
        Spending("Mars/Olympus")
