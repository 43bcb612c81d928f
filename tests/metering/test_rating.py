"""Price x usage, exactly."""

import itertools
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.metering.ratecard import RateCard, VolumeTier
from agent.metering.rating import Charge, Rated, plain, quantities, rate, rounded, tiered, total, trimmed
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
    assert (rated.billed_tokens, rated.amount) == (Decimal(10), Decimal(0))


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


def audio_card() -> RateCard:
    prices = [
        {"stage": stage, "placement": placement, "class": "audio", "unit_price": "0.01"}
        for stage in ("asr", "tts")
        for placement in ("device", "cloud")
    ]
    return card(price=prices, audio_tokens_per_second={"asr": 10, "tts": 32}, priorities={"standard": 1, "urgent": "1.2"})


@pytest.mark.parametrize(
    ("stage", "usage", "tokens", "costs"),
    [
        ("asr", StageUsage(output_tokens=7, audio_in_ms=12_000, audio_out_ms=99), "120", "1.20"),
        ("asr", StageUsage(audio_in_ms=1250), "12.5", "0.125"),
        ("asr", StageUsage(audio_in_ms=1), "0.01", "0.0001"),
        ("tts", StageUsage(audio_out_ms=1001, audio_in_ms=99, input_tokens=3), "32.032", "0.32032"),
        ("asr", StageUsage(audio_in_ms=0), "0", "0"),
    ],
)
def test_sound_is_billed_as_tokens_per_second_and_not_rounded(stage: Stage, usage: StageUsage, tokens: str, costs: str) -> None:
    rated = rate(usage, audio_card(), stage=stage, model="m", placement="device", outcome="completed")
    assert rated is not None
    assert (plain(rated.billed_tokens), plain(rated.amount)) == (tokens, costs)
    assert [plain(charge.quantity) for charge in rated.charges] == [tokens] * (tokens != "0")


def test_audio_tokens_take_outcome_and_priority_as_tokens_do() -> None:
    usage = StageUsage(audio_in_ms=1000)
    urgent = rate(usage, audio_card(), stage="asr", model="m", placement="device", outcome="completed", priority="urgent")
    failed = rate(usage, audio_card(), stage="asr", model="m", placement="device", outcome="failed", priority="urgent")
    assert urgent is not None
    assert failed is not None
    assert (plain(urgent.amount), plain(failed.amount)) == ("0.120", "0.000")


def test_sound_of_unknown_length_has_no_amount() -> None:
    usage = StageUsage(output_tokens=7)
    assert rate(usage, audio_card(), stage="asr", model="m", placement="device", outcome="completed") is None


def with_features(features: dict[str, int], outcome: Outcome = "completed", priority: str = "standard") -> Rated:
    sold = [{"name": "emotion", "unit_price": "0.02"}, {"name": "translation", "unit_price": "0.05"}]
    priced = card(feature=sold, priorities={"standard": 1, "urgent": 3})
    usage = StageUsage(output_tokens=10)
    rated = rate(usage, priced, stage="asr", model="m", placement="device", outcome=outcome, priority=priority, features=features)
    assert rated is not None
    return rated


def test_a_feature_is_its_own_line_at_two_and_a_half_times_the_priority() -> None:
    rated = with_features({"translation": 3, "emotion": 1}, priority="urgent")
    lines = [(charge.class_, *map(plain, (charge.quantity, charge.coefficient, charge.amount))) for charge in rated.charges]
    assert lines == [
        ("output", "10", "3", "0.30"),
        ("feature:emotion", "1", "7.5", "0.150"),
        ("feature:translation", "3", "7.5", "1.125"),
    ]
    assert rated.billed_tokens == 10


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_the_outcome_does_not_touch_features(outcome: Outcome) -> None:
    assert with_features({"emotion": 2}, outcome).charges[-1].amount == Decimal("0.10")


def test_a_feature_without_a_price_is_unresolved_and_one_without_a_use_is_nothing() -> None:
    usage = StageUsage(output_tokens=10)
    rated = rate(usage, card(), stage="asr", model="m", placement="device", outcome="completed", features={"emotion": 1})
    assert rated is None
    assert [charge.class_ for charge in with_features({"telepathy": 0}).charges] == ["output"]


def tiers(*steps: tuple[int, str]) -> tuple[VolumeTier, ...]:
    line = {"stage": "llm", "placement": "device", "class": "output"}
    return tuple(VolumeTier.model_validate(line | {"over": over, "unit_price": price}) for over, price in steps)


def lines(charges: list[Charge]) -> list[tuple[str, str]]:
    return [(plain(charge.quantity), plain(charge.unit_price)) for charge in charges]


def test_units_beyond_a_tier_cost_its_price() -> None:
    charge = Charge("output", Decimal(250), Decimal("0.01"), Decimal(1))
    split = tiered(charge, tiers((1000, "0.008"), (1100, "0.005")), used=Decimal(900))
    assert lines(split) == [("100", "0.01"), ("100", "0.008"), ("50", "0.005")]
    assert tiered(charge, (), Decimal(900)) == [charge]
    assert tiered(charge, tiers((1000, "0.008")), Decimal(750)) == [charge]
    assert [plain(part.unit_price) for part in tiered(charge, tiers((1000, "0.008")), Decimal(1000))] == ["0.008"]


def test_an_adjustment_gives_back_the_units_counted_last() -> None:
    charge = Charge("output", Decimal(-150), Decimal("0.01"), Decimal(1))
    split = tiered(charge, tiers((1000, "0.008")), used=Decimal(1100))
    assert lines(split) == [("-100", "0.008"), ("-50", "0.01")]


STEPS = st.lists(st.tuples(st.integers(1, 5000), PRICE), max_size=4, unique_by=lambda step: step[0]).map(sorted)
QUANTITY = st.decimals(-3000, 3000, places=3)


@given(STEPS, st.integers(0, 5000), st.lists(QUANTITY, min_size=1, max_size=8))
def test_rating_in_pieces_is_rating_at_once(steps: list[tuple[int, Decimal]], used: int, pieces: list[Decimal]) -> None:
    levels = tiers(*((over, plain(price)) for over, price in steps))
    line = Charge("output", Decimal(0), Decimal("0.01"), Decimal("1.2"))

    def split(quantity: Decimal, before: Decimal) -> list[Charge]:
        return tiered(Charge(line.class_, quantity, line.unit_price, line.coefficient), levels, before)

    before = itertools.accumulate(pieces, initial=Decimal(used))
    parts = [split(quantity, at) for quantity, at in zip(pieces, before, strict=False)]
    assert [sum(part.quantity for part in one) for one in parts] == pieces
    at_once = split(sum(pieces, Decimal(0)), Decimal(used))
    assert total(part.amount for one in parts for part in one) == total(part.amount for part in at_once)


@pytest.mark.parametrize(
    ("amount_", "currency", "paid"),
    [
        ("2.005", "CNY", "2.00"),
        ("2.015", "CNY", "2.02"),
        ("2.0050000001", "CNY", "2.01"),
        ("0.125", "IDR", "0.12"),
        ("0.5", "JPY", "0"),
        ("1.5", "KRW", "2"),
        ("1.0005", "KWD", "1.000"),
        ("-0.001", "CNY", "0.00"),
        ("7", "XTS", "7.00"),
        ("9" * 60 + ".995", "CNY", "1" + "0" * 60 + ".00"),
    ],
)
def test_totals_are_rounded_half_even_to_the_minor_unit(amount_: str, currency: str, paid: str) -> None:
    assert plain(rounded(Decimal(amount_), currency)) == paid


@given(st.decimals(-(10**20), 10**20, places=9))
def test_a_trimmed_number_is_the_same_number_and_one_text(number: Decimal) -> None:
    text = plain(trimmed(number))
    assert trimmed(number) == number
    assert text == plain(trimmed(Decimal(f"{number:.12f}")))
    assert "." not in text or text[-1] not in "0."
