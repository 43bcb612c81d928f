"""A stage's result becomes a record the contract accepts."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.canonical import canonical
from agent.contract.record import UsageData
from agent.metering.record import odometer_of, usage_data
from agent.values import STAGES, Origin, Outcome, Stage, StageResult, StageTimes, StageUsage
from tests.metering.test_rating import card

COUNT = st.none() | st.integers(0, 2**50)


@st.composite
def usages(draw: st.DrawFn) -> StageUsage:
    inputs = draw(COUNT)
    cached = None if inputs is None else draw(st.none() | st.integers(0, inputs))
    rest = {name: draw(COUNT) for name in ("output_tokens", "audio_in_ms", "audio_out_ms", "characters", "characters_heard")}
    origin: Origin = draw(st.sampled_from(get_args(Origin)))
    return StageUsage(input_tokens=inputs, cached_tokens=cached, origin=origin, **rest)


def result(stage: Stage = "llm", usage: StageUsage | None = None, outcome: Outcome = "completed") -> StageResult:
    return StageResult(stage, f"{stage}_scripted", "m", outcome, usage or StageUsage(input_tokens=3), StageTimes(0, None, 5))


@given(st.sampled_from(STAGES), usages(), st.sampled_from(["completed", "interrupted", "failed"]))
def test_any_usage_makes_a_canonical_record_the_contract_accepts(stage: Stage, usage: StageUsage, outcome: Outcome) -> None:
    data = usage_data(result(stage, usage, outcome), turn_id="t", session_id="s", card=card(), tokenizer="words@1")
    UsageData.model_validate(data)
    assert canonical({"data": data})
    if usage.origin == "unknown":
        assert not {"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "amount", "audio_in_ms"} & set(data)


def test_unknown_usage_counts_once_on_the_odometer() -> None:
    assert odometer_of(result(usage=StageUsage(origin="unknown"))) == {("llm", "m", "device", "unknown"): 1}


@pytest.mark.parametrize("outcome", ["completed", "interrupted", "failed", "superseded"])
def test_the_odometer_counts_raw_quantities_whatever_the_outcome(outcome: Outcome) -> None:
    used = result(usage=StageUsage(input_tokens=10, cached_tokens=4, output_tokens=2), outcome=outcome)
    expected = {("llm", "m", "device", name): quantity for name, quantity in (("input", 6), ("cached_input", 4), ("output", 2))}
    assert odometer_of(used) == expected
