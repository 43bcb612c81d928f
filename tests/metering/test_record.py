"""A stage's result becomes a record the contract accepts."""

from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.canonical import canonical
from agent.contract.record import UsageData
from agent.metering.ratecard import RateCard
from agent.metering.rating import plain
from agent.metering.record import odometer_of, odometer_of_data, rated_of_data, usage_data
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


@st.composite
def results(draw: st.DrawFn) -> StageResult:
    """Any stage's end, on any placement, model, priority and features, of which some have no price."""
    return replace(
        result(draw(st.sampled_from(STAGES)), draw(usages()), draw(st.sampled_from(get_args(Outcome)))),
        model=draw(st.sampled_from(["m", "n"])),
        placement=draw(st.sampled_from(["device", "cloud"])),
        attempt=draw(st.integers(1, 3)),
        priority=draw(st.sampled_from(["standard", "urgent", "unheard"])),
        features=draw(st.dictionaries(st.sampled_from(["emotion", "telepathy"]), st.integers(0, 3))),
    )


def full_card() -> RateCard:
    """Tokens on the device, sound in the cloud; one feature, one priority."""
    held = [price for price in card().model_dump(by_alias=True)["price"] if (price["stage"], price["placement"]) != ("asr", "cloud")]
    return card(
        price=[*held, {"stage": "asr", "placement": "cloud", "class": "audio", "unit_price": "0.003"}],
        audio_tokens_per_second={"asr": 10},
        feature=[{"name": "emotion", "unit_price": "0.02"}],
        priorities={"standard": 1, "urgent": "1.2"},
    )


def written(one: StageResult, **more: Any) -> dict[str, Any]:
    return usage_data(one, turn_id="t", session_id="s", card=full_card(), tokenizer="words@1", **more)


@given(results())
def test_a_record_says_enough_to_price_and_count_it_again(one: StageResult) -> None:
    """Same card, same digits; and the odometer by the record is the odometer by what was used."""
    data = written(one)
    UsageData.model_validate(data)
    assert canonical(data)
    rated = rated_of_data(data, full_card())
    assert (None if rated is None else plain(rated.amount)) == data.get("amount")
    assert odometer_of_data(data) == odometer_of(one)
    assert odometer_of_data(data | {"role": "evidence"}) == {}


def test_a_record_names_what_announced_it_and_what_it_replaces() -> None:
    before = {"epoch": "ab" * 16, "sequence": 7}
    data = written(replace(result(), features={"emotion": 2, "telepathy": 0}, priority="urgent"), intent=before, replaces=before)
    assert (data["intent"], data["replaces"], data["features"], data["priority"]) == (before, before, {"emotion": 2}, "urgent")
    assert not {"intent", "replaces", "features"} & set(written(result()))


def test_a_quantity_is_written_without_superfluous_zeros() -> None:
    heard = replace(result("asr", StageUsage(audio_in_ms=1250)), placement="cloud")
    assert written(heard)["charges"][0]["quantity"] == "12.5"
    assert written(heard)["billed_tokens"] == "12.5"
    assert written(result("asr", StageUsage(output_tokens=120)))["charges"][0]["quantity"] == "120"


def test_a_stage_nobody_has_heard_of_has_no_amount() -> None:
    assert rated_of_data(written(result()) | {"stage": "smell"}, full_card()) is None


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
