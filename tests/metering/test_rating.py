"""Price x usage, exactly."""

from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metering.ratecard import RateCard
from agent.metering.rating import plain, quantities, rate, total
from agent.values import Outcome, Placement, Stage, StageUsage

COUNT = st.integers(0, 2**40)
PRICE = st.decimals(0, 1000, places=12)


def card(**changes: object) -> RateCard:
    classes = [("asr", "output"), ("llm", "input"), ("llm", "cached_input"), ("llm", "output"), ("tts", "input")]
    prices = [
        {"stage": stage, "placement": placement, "class": name, "unit_price": Decimal("0.01")}
        for stage, name in classes
        for placement in ("device", "cloud")
    ]
    held: dict[str, object] = {
        "id": "test",
        "version": "1",
        "currency": "CNY",
        "effective_from": "2026-01-01",
        "tokenizer": "words",
        "price": prices,
    }
    return RateCard.model_validate(held | changes)


def amount(
    stage: Stage, usage: StageUsage, outcome: Outcome = "completed", priority: str = "standard", where: Placement = "device"
) -> Decimal:
    priced = card(priorities={"standard": 1, "urgent": Decimal("2.5")})
    rated = rate(usage, priced, stage=stage, model="m", placement=where, outcome=outcome, priority=priority)
    assert rated is not None
    return rated.amount


def test_50_and_120_and_30_tokens_at_one_fen_are_two_yuan() -> None:
    amounts = [
        amount("asr", StageUsage(output_tokens=50)),
        amount("llm", StageUsage(input_tokens=100, cached_tokens=0, output_tokens=20)),
        amount("tts", StageUsage(input_tokens=30)),
    ]
    assert plain(total(amounts)) == "2.00"


def test_cached_input_is_a_subset_priced_apart() -> None:
    assert quantities(StageUsage(input_tokens=100, cached_tokens=40, output_tokens=5)) == {"input": 60, "cached_input": 40, "output": 5}


def test_unknown_is_never_zero() -> None:
    usage = StageUsage(input_tokens=0, output_tokens=0, origin="unknown")
    assert quantities(usage) == {}
    assert rate(usage, card(), stage="llm", model="m", placement="device", outcome="failed") is None


@pytest.mark.parametrize(
    ("outcome", "where", "expected"),
    [
        ("completed", "device", "0.10"),
        ("interrupted", "device", "0.10"),
        ("cut_off", "device", "0.10"),
        ("superseded", "device", "0.00"),
        ("superseded", "cloud", "0.10"),
        ("failed", "device", "0.00"),
        ("failed", "cloud", "0.10"),
    ],
)
def test_outcomes_multiply_token_lines(outcome: Outcome, where: Placement, expected: str) -> None:
    assert plain(amount("asr", StageUsage(output_tokens=10), outcome, where=where)) == expected


def test_every_outcome_has_a_coefficient() -> None:
    for outcome in get_args(Outcome):
        for where in get_args(Placement):
            amount("asr", StageUsage(output_tokens=1), outcome, where=where)


def test_priorities_multiply_and_an_unknown_one_is_unresolved() -> None:
    assert plain(amount("asr", StageUsage(output_tokens=10), priority="urgent")) == "0.250"
    usage = StageUsage(output_tokens=10)
    assert rate(usage, card(), stage="asr", model="m", placement="device", outcome="completed", priority="vip") is None


def test_billed_tokens_are_without_coefficients() -> None:
    rated = rate(StageUsage(output_tokens=10), card(), stage="asr", model="m", placement="device", outcome="failed")
    assert rated is not None
    assert (rated.billed_tokens, rated.amount) == (10, Decimal(0))


@given(COUNT, COUNT, COUNT, PRICE)
def test_an_amount_is_the_exact_sum_of_its_lines(fresh: int, cached: int, output: int, price: Decimal) -> None:
    priced = [entry | {"unit_price": price} for entry in card().model_dump(by_alias=True)["price"]]
    usage = StageUsage(input_tokens=fresh + cached, cached_tokens=cached, output_tokens=output)
    rated = rate(usage, card(price=priced), stage="llm", model="m", placement="device", outcome="completed")
    assert rated is not None
    scaled = price.scaleb(12).to_integral_value()
    assert rated.amount.scaleb(12) == (fresh + cached + output) * scaled
    assert rated.billed_tokens == fresh + cached + output


@pytest.mark.parametrize("outcome", ["failed", "superseded"])
def test_our_own_failures_cost_nothing_whatever_the_card_prices(outcome: Outcome) -> None:
    prices = [{"stage": "tts", "placement": "device", "class": "characters", "unit_price": "0.01"}]
    rated = rate(StageUsage(characters=100), card(price=prices), stage="tts", model="m", placement="device", outcome=outcome)
    assert rated is not None
    assert rated.amount == 0


@pytest.mark.parametrize(
    ("stage", "usage"),
    [
        ("asr", StageUsage(audio_in_ms=5000)),
        ("llm", StageUsage(input_tokens=5)),
        ("llm", StageUsage(output_tokens=5)),
        ("tts", StageUsage()),
    ],
)
def test_a_usage_that_lacks_what_it_is_billed_by_has_no_amount(stage: Stage, usage: StageUsage) -> None:
    assert rate(usage, card(), stage=stage, model="m", placement="device", outcome="interrupted") is None
