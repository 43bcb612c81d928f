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
        (HEAD + price(model="only-this"), "no price for asr output or audio_in_ms of every model on device"),
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


def test_a_price_keeps_every_digit(tmp_path: Path) -> None:
    path = tmp_path / "card.toml"
    path.write_text(HEAD + price(unit_price="0.1000000000000000055511151231257827"))
    with pytest.raises(BadRateCard, match="24 digits"):
        ratecard.read(path)
    path.write_text(HEAD + price(unit_price="0.000000000001"))
    assert ratecard.read(path).unit_price("asr", "m", "device", "output") == Decimal("1e-12")
