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
    return {"sequence": f"{sequence:020d}", "data": given | money | {"gen_ai.usage.input_tokens": 3} | data}


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
