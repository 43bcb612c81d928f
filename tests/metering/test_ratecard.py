"""A card that could misprice is refused whole, in one line."""

from decimal import Decimal
from pathlib import Path

import pytest

from agent.errors import BadRateCard
from agent.metering import ratecard
from agent.shipped import shipped

HEAD = 'id = "t"\nversion = "1"\ncurrency = "CNY"\neffective_from = 2026-01-01\ntokenizer = "words"\n'


def price(stage: str = "asr", class_: str = "output", unit_price: str = "0.01", model: str = "*", placement: str = "device") -> str:
    return f'[[price]]\nstage = "{stage}"\nmodel = "{model}"\nplacement = "{placement}"\nclass = "{class_}"\nunit_price = {unit_price}\n'


def tier(over: str = "100", class_: str = "output", model: str = "*", unit_price: str = "0.005") -> str:
    return price(class_=class_, model=model, unit_price=unit_price).replace("[[price]]", "[[volume_tier]]") + f"over = {over}\n"


def feature(name: str = "emotion", unit_price: str = "0.02") -> str:
    return f'[[feature]]\nname = "{name}"\nunit_price = {unit_price}\n'


def audio(asr: str = "10") -> str:
    return f"[audio_tokens_per_second]\nasr = {asr}\n"


@pytest.mark.parametrize("path", sorted((shipped("device_profiles") / "rate_cards").glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_cards_are_whole(path: Path) -> None:
    assert ratecard.read(path).currency == "CNY"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEAD + price(unit_price="-0.01"), "greater than or equal to 0"),
        (HEAD + price(unit_price="nan"), "finite"),
        (HEAD + price(unit_price='"1e400"'), "digits"),
        (HEAD + price() + price(), "two prices for asr output of * on device"),
        (HEAD + price("llm", "input") + price("llm", "output"), "no price for llm cached_input"),
        (HEAD + price(model="only-this"), "no price for asr output or audio_in_ms or audio of every model on device"),
        (HEAD + price().replace("unit_price = 0.01\n", ""), "price.1.unit_price: Field required"),
        (HEAD, "price: Field required"),
        (HEAD + price(class_="vibes"), "class"),
        (HEAD + price(stage="dance"), "stage"),
        (HEAD.replace('"CNY"', '"yuan"') + price(), "currency"),
        (HEAD + "colour = 1\n" + price(), "colour: Extra inputs are not permitted"),
        (HEAD + "[[price]\n", "not TOML"),
        ("\x00", "not TOML"),
        (HEAD + "[priorities]\nurgent = 2\n" + price(), "priorities have no standard"),
        (HEAD + f"[priorities]\nstandard = 1.{'0' * 90}1\n" + price(), "priorities.standard"),
        (HEAD + "[priorities]\nstandard = 1.5\n" + price(), "priorities.standard is 1.5; it must be 1"),
        (HEAD + "[priorities]\nstandard = 1\nurgent = 1.1\n" + price(), "priorities.urgent is 1.1; a named priority is from 1.2 to 3.0"),
        (HEAD + "[priorities]\nstandard = 1\nurgent = 3.1\n" + price(), "priorities.urgent is 3.1"),
        (HEAD + "[priorities]\nstandard = true\n" + price(), "priorities.standard: a number is wanted"),
        (HEAD + price(unit_price="true"), "price.1.unit_price: a number is wanted"),
        (HEAD + "feature_coefficient = 0.5\n" + price(), "feature_coefficient"),
        (HEAD + price() + feature() + feature(), "two prices for feature emotion"),
        (HEAD + price() + feature("no spaces"), "feature.1.name"),
        (HEAD + price() + feature(unit_price="-1"), "feature.1.unit_price"),
        (HEAD + price(class_="audio"), "asr audio has a price and no rate"),
        (HEAD + audio() + price(), "audio_tokens_per_second.asr has no price"),
        (HEAD + audio("0") + price(class_="audio"), "audio_tokens_per_second.asr: Input should be greater than 0"),
        (HEAD + audio().replace("asr", "llm") + price(), "audio_tokens_per_second.llm"),
        (HEAD + "".join(price("llm", name) for name in ("input", "cached_input", "output", "audio")), "llm has no sound to price"),
        (HEAD + price() + tier() + tier(), "volume tiers for asr output of * on device: over 100 after 100; list them rising"),
        (HEAD + price() + tier("100") + tier("99"), "over 99 after 100"),
        (HEAD + price() + tier(class_="audio_in_ms"), "a volume tier for asr audio_in_ms of * on device and no price below it"),
        (HEAD + price() + tier("0"), "greater than 0"),
        (HEAD + price() + tier("1.5"), "over"),
        (HEAD + price() + tier() + tier("200").replace("volume_tier", "volume_tiers"), "volume_tier"),
    ],
)
def test_bad_cards(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "card.toml"
    path.write_text(text)
    with pytest.raises(BadRateCard) as caught:
        ratecard.read(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_card_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadRateCard, match="No such file"):
        ratecard.read(tmp_path / "none.toml")


def test_the_most_particular_pattern_wins(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_text(HEAD + price() + price(model="moon*", unit_price="0.02") + price(model="moonshine-tiny", unit_price="0.03"))
    card = ratecard.read(path)
    prices = [card.unit_price("asr", model, "device", "output") for model in ("vosk", "moonshine-base", "moonshine-tiny")]
    assert prices == [Decimal("0.01"), Decimal("0.02"), Decimal("0.03")]
    assert card.unit_price("asr", "vosk", "cloud", "output") is None


@pytest.mark.parametrize(
    ("patterns", "model", "wins"),
    [
        (["moon*", "moon"], "moon", "moon"),
        (["moon", "moon*"], "moon", "moon"),
        (["*shine", "moon*"], "moonshine", "*shine"),
        (["a*", "*a"], "a-a", "a*"),
        (["*a", "a*"], "a-a", "*a"),
        (["[mn]oon", "m*oon"], "moon", "m*oon"),
        (["????", "*"], "moon", "*"),
    ],
)
def test_patterns_that_both_match_are_never_drawn_by_lot(tmp_path: Path, patterns: list[str], model: str, wins: str) -> None:
    """Most literal characters, then fewest wildcards, then the first."""
    path = tmp_path / "card.toml"
    prices = {pattern: f"0.{number}" for number, pattern in enumerate(patterns, 1)}
    default = "" if "*" in prices else price()
    path.write_text(HEAD + "".join(price(model=pattern, unit_price=text) for pattern, text in prices.items()) + default)
    assert ratecard.read(path).unit_price("asr", model, "device", "output") == Decimal(prices[wins])


def test_tiers_are_those_of_the_most_particular_pattern(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_text(HEAD + price() + tier("100") + tier("200") + tier("50", model="moon*"))
    card = ratecard.read(path)
    assert [one.over for one in card.tiers("asr", "vosk", "device", "output")] == [100, 200]
    assert [one.over for one in card.tiers("asr", "moonshine", "device", "output")] == [50]
    assert card.tiers("asr", "vosk", "cloud", "output") == ()


def test_tiers_may_be_called_as_the_contract_calls_them(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_text(HEAD + price() + tier().replace("volume_tier", "volume_tiers"))
    assert len(ratecard.read(path).volume_tiers) == 1


def test_the_full_example_shows_every_table() -> None:
    card = ratecard.read(shipped("device_profiles") / "rate_cards" / "example-full.toml")
    assert card.model_fields_set == set(ratecard.RateCard.model_fields)
    assert card.feature_price("emotion") == Decimal("0.02")
    assert card.feature_price("telepathy") is None
    assert card.tiers("llm", "m", "device", "output")[1].unit_price == Decimal("0.005")


def test_a_price_keeps_every_digit(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_text(HEAD + price(unit_price="0.1000000000000000055511151231257827"))
    with pytest.raises(BadRateCard, match="24 digits"):
        ratecard.read(path)
    path.write_text(HEAD + price(unit_price="0.000000000001"))
    assert ratecard.read(path).unit_price("asr", "m", "device", "output") == Decimal("1e-12")
