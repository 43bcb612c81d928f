"""Sums and explanations of usage records."""

from typing import Any

import pytest

from agent.errors import BadInput
from agent.metering import report


def record(sequence: int, **data: Any) -> dict[str, Any]:
    given = {
        "stage": "llm",
        "turn_id": "t1",
        "gen_ai.request.model": "m",
        "placement": "device",
        "outcome": "completed",
        "origin": "counted",
    }
    charges = [{"class": "input", "quantity": "3", "unit_price": "0.01", "coefficient": "1", "amount": "0.03"}]
    money = {"currency": "CNY", "charges": charges, "billed_tokens": "3", "amount": "0.03", "rate_card": "c@1"}
    return {"type": "voxmeter.usage.v1", "sequence": f"{sequence:020d}", "data": given | money | {"gen_ai.usage.input_tokens": 3} | data}


def test_totals_by_stage_and_currency() -> None:
    unknown = record(4, stage="tts", origin="unknown")
    for name in ("amount", "billed_tokens", "charges", "gen_ai.usage.input_tokens"):
        del unknown["data"][name]
    summed = report.totals([record(2), record(3), unknown])
    assert [row["stage"] for row in summed["stages"]] == ["llm", "tts"]
    assert summed["stages"][0]["input_tokens"] == 6
    assert summed["stages"][1]["input_tokens"] is None
    assert summed["total"] == [{"billed_tokens": "6", "amount": "0.06", "currency": "CNY"}]
    assert summed["unresolved"] == 1


def test_nothing_sums_to_nothing() -> None:
    assert report.totals([]) == {"stages": [], "total": [], "unresolved": 0}


@pytest.mark.parametrize(("what", "found"), [("2", [2]), ("t1", [2, 3])])
def test_explain_by_sequence_or_turn(what: str, found: list[int]) -> None:
    told = report.explain([record(2), record(3)], what)
    assert [one["sequence"] for one in told] == found
    assert told[0]["says"] == "3 x 0.01 x 1 = 0.03 CNY by rate card c@1"


def test_explain_what_is_not_there() -> None:
    with pytest.raises(BadInput, match="voxmeter usage list"):
        report.explain([record(2)], "9")


def replaced(sequence: int, **data: Any) -> dict[str, Any]:
    return record(sequence, attempt=1, replaces={"epoch": "ab" * 16, "sequence": 2}, **data)


def test_what_was_issued_again_counts_once_whichever_is_held_first() -> None:
    first, other = record(2, attempt=1), record(3, attempt=2)
    assert report.totals([first, other, replaced(9)])["total"][0]["amount"] == "0.06"
    assert report.totals([replaced(9), first, replaced(9)])["total"][0]["amount"] == "0.03"
    assert report.totals([replaced(9), replaced(9, stage="tts"), replaced(9, turn_id="t2")])["total"][0]["amount"] == "0.09"


def test_ordinary_records_count_each() -> None:
    assert report.totals([record(2), record(2)])["total"][0]["amount"] == "0.06"


def test_other_records_and_evidence_are_no_part_of_the_sum() -> None:
    others = [{"type": f"voxmeter.{name}.v1", "sequence": "1", "data": {"reason": "first"}} for name in ("epoch", "intent", "gap")]
    assert report.totals([*others, record(2, role="evidence")]) == report.totals([])


def test_a_roll_up_that_is_held_twice_counts_once() -> None:
    line = {"role": "billable", "stage": "llm", "model": "m", "placement": "device", "class": "output", "currency": "CNY"}
    totals = [line | {"quantity": "5", "records": 2, "distinct": 2, "amount": "0.05"}]
    data = {"epoch": "ab" * 16, "first": 3, "last": 9, "totals": totals}
    rollup = {"type": "voxmeter.rollup.v1", "sequence": "10", "data": data}
    summed = report.totals([rollup, record(2), rollup])
    assert summed["total"] == [{"billed_tokens": "8", "amount": "0.08", "currency": "CNY"}]
    assert summed["stages"][0]["records"] == 3
