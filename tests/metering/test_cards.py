"""Which version of a card is in force, by the calendar of whoever pays."""

import datetime
from pathlib import Path

import pytest

from agent.errors import BadInput, BadRateCard
from agent.metering import cards
from agent.metering.cards import Cards
from tests.metering.test_ratecard import HEAD, price
from tests.metering.test_rating import card

JANUARY, MARCH = datetime.date(2026, 1, 1), datetime.date(2026, 3, 1)


def two() -> Cards:
    return Cards.of([card(version="2", effective_from=MARCH), card(version="1", effective_from=JANUARY)])


@pytest.mark.parametrize(("day", "version"), [("2026-01-01", "1"), ("2026-02-28", "1"), ("2026-03-01", "2"), ("2030-01-01", "2")])
def test_the_latest_version_that_has_begun_is_in_force(day: str, version: str) -> None:
    assert two().at(datetime.date.fromisoformat(day)).version == version


def test_before_the_first_version_there_is_no_price() -> None:
    with pytest.raises(BadRateCard, match="rate card test has no version for 2025-12-31, its first begins on 2026-01-01; add"):
        two().at(datetime.date(2025, 12, 31))


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"version": "2"}, "test@1 and test@2 both begin on 2026-01-01"),
        ({"id": "else", "effective_from": MARCH}, "test and else are different rate cards"),
        ({"currency": "JPY", "version": "2", "effective_from": MARCH}, "is in CNY and in JPY"),
        ({"effective_from": MARCH}, "test@1 is there twice"),
    ],
)
def test_versions_that_cannot_stand_side_by_side_are_refused(other: dict[str, object], says: str) -> None:
    with pytest.raises(BadRateCard, match=says):
        Cards.of([card(), card(**other)])


def test_no_version_is_no_card() -> None:
    with pytest.raises(BadRateCard):
        Cards.of([])


@pytest.mark.parametrize(
    ("utc", "zone", "version", "period"),
    [
        ("2026-02-28T15:59:59", "Asia/Shanghai", "1", "2026-02"),
        ("2026-02-28T16:00:00", "Asia/Shanghai", "2", "2026-03"),
        ("2026-02-28T16:00:00", "UTC", "1", "2026-02"),
        ("2026-03-01T04:59:59", "America/New_York", "1", "2026-02"),
        ("2026-03-01T05:00:00", "America/New_York", "2", "2026-03"),
        ("2026-12-31T17:00:00", "Asia/Jakarta", "2", "2027-01"),
    ],
)
def test_dates_and_months_are_those_of_the_account(utc: str, zone: str, version: str, period: str) -> None:
    when = datetime.datetime.fromisoformat(utc).replace(tzinfo=datetime.UTC)
    assert two().effective(when, zone).version == version
    assert cards.period_of(when, zone) == period


@pytest.mark.parametrize("zone", ["", "Asia", "Asia/Atlantis", "../../etc/passwd", "/etc/localtime", "localtime", "a\0b", "x" * 5000])
def test_a_zone_nobody_knows(zone: str) -> None:
    with pytest.raises(BadInput, match="no time zone is called"):
        cards.period_of(datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC), zone)


def test_a_moment_needs_a_zone_of_its_own() -> None:
    with pytest.raises(ValueError, match="without a time zone"):
        cards.period_of(datetime.datetime(2026, 11, 1), "UTC")  # noqa: DTZ001  what is refused


def test_a_file_is_one_version_and_a_folder_holds_all(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(HEAD + price())
    (tmp_path / "b.toml").write_text(HEAD.replace('version = "1"', 'version = "2"').replace("2026-01-01", "2026-03-01") + price())
    (tmp_path / "notes.txt").write_text("not a card")
    assert [card.version for card in cards.read(tmp_path).versions] == ["1", "2"]
    assert [card.version for card in cards.read(tmp_path / "b.toml").versions] == ["2"]
    assert (cards.read(tmp_path).id, cards.read(tmp_path).currency) == ("t", "CNY")


def test_a_folder_that_is_no_card_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRateCard, match="no rate card in it"):
        cards.read(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text(HEAD + price())
    with pytest.raises(BadRateCard) as caught:
        cards.read(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(BadRateCard, match="No such file"):
        cards.read(tmp_path / "none.toml")
