"""A roll-up keeps the money, the figures and the odometer of what it folds."""

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.contract.canonical import canonical
from agent.contract.record import RollupTotal
from agent.metering import report
from agent.metering.record import odometer_of_data
from agent.metering.rollup import fold, odometer_of_totals
from agent.values import StageResult, StageUsage
from tests.metering.test_record import result, results, written

ROLLUP = "voxmeter.rollup.v1"


def body(one: StageResult, role: str = "billable", subject: str = "hotel", day: str | None = "2026-11-22") -> dict[str, Any]:
    placed = {"type": "voxmeter.usage.v1", "subject": subject, "bootid": "ab" * 16, "data": written(one) | {"role": role}}
    return placed if day is None else placed | {"time": f"{day}T23:59:59.999Z"}


BODIES = st.lists(
    st.builds(
        body,
        results(),
        st.sampled_from(["billable", "evidence"]),
        st.sampled_from(["hotel", "airport"]),
        st.sampled_from(["2026-11-22", "2026-11-23", None]),
    ),
    max_size=12,
)


@given(BODIES)
def test_nothing_is_lost_in_a_roll_up(bodies: list[dict[str, Any]]) -> None:
    totals = fold(bodies)
    odometer: Counter[tuple[str, str, str, str]] = Counter()
    for one in bodies:
        odometer.update(odometer_of_data(one["data"]))
    assert odometer_of_totals(totals) == odometer
    assert report.totals([{"type": ROLLUP, "data": {"totals": totals}}]) == report.totals(bodies)
    assert sum(total.get("distinct", 0) for total in totals) == len(bodies)
    for total in totals:
        assert canonical(total)
        RollupTotal.model_validate(total)


@given(BODIES)
def test_each_line_is_there_once_and_the_order_of_records_changes_nothing(bodies: list[dict[str, Any]]) -> None:
    totals = fold(bodies)
    figures = ("quantity", "records", "distinct", "amount", "billed", "unresolved")
    keys = [tuple(sorted((name, value) for name, value in total.items() if name not in figures)) for total in totals]
    assert len(set(keys)) == len(keys)
    assert fold(bodies[::-1]) == totals


def test_a_total_says_what_it_is_the_total_of() -> None:
    cloud = body(result("llm", StageUsage(input_tokens=10, cached_tokens=0, output_tokens=5)))
    assert fold([cloud, cloud, {"type": "voxmeter.epoch.v1", "data": {}}])[-1] == {
        "role": "billable",
        "subject": "hotel",
        "span": "2026-11-22",
        "rate_card": "test@1",
        "stage": "llm",
        "model": "m",
        "placement": "device",
        "class": "output",
        "priority": "standard",
        "outcome": "completed",
        "origin": "counted",
        "currency": "CNY",
        "quantity": "10",
        "records": 2,
        "amount": "0.10",
    }


def test_usage_without_figures_is_counted_as_unresolved() -> None:
    lost = body(result("tts", StageUsage(origin="unknown")), day=None)
    (total,) = fold([lost, lost, lost])
    assert (total["class"], total["quantity"], total["distinct"], total["unresolved"]) == ("unknown", "3", 3, 3)
    assert total["span"] == f"boot:{'ab' * 16}"
    assert "amount" not in total


def test_a_line_says_how_much_of_it_was_billed() -> None:
    good = body(result("llm", StageUsage(input_tokens=10, output_tokens=5)))
    short = body(result("llm", StageUsage(input_tokens=7)))
    (line,) = [total for total in fold([good, short]) if total["class"] == "input"]
    assert (line["quantity"], line["billed"], line["unresolved"], line["records"]) == ("17", "10", 1, 2)


def test_an_amount_without_its_lines_is_kept() -> None:
    bare = body(result("llm", StageUsage(input_tokens=10, output_tokens=5)))
    del bare["data"]["charges"]
    assert [total.get("amount") for total in fold([bare])] == ["0.15", None]
