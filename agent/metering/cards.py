"""Decides which version of a rate card is in force at a moment, and which billing period the moment belongs to."""

import datetime
import itertools
import zoneinfo
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.errors import BadInput, BadRateCard
from agent.metering import ratecard
from agent.metering.ratecard import RateCard


@dataclass(frozen=True, slots=True)
class Cards:
    """All versions of one card, by `effective_from`; made by `of` or `read`."""

    versions: tuple[RateCard, ...]

    @classmethod
    def of(cls, versions: Iterable[RateCard]) -> "Cards":
        """Raises BadRateCard if there is none, or if two can't stand side by side."""
        rising = sorted(versions, key=lambda card: card.effective_from)
        if not rising:
            raise BadRateCard("a rate card has no version", "add one")
        for before, card in itertools.pairwise(rising):
            _check_pair(before, card)
        if twice := ratecard.repeated(card.name for card in rising):
            raise BadRateCard(f"rate card {twice} is there twice", "give each version a name of its own")
        return cls(tuple(rising))

    @property
    def id(self) -> str:
        return self.versions[0].id

    @property
    def currency(self) -> str:
        return self.versions[0].currency

    def at(self, day: datetime.date) -> RateCard:
        """The version in force on a day. Raises BadRateCard for a day before the first."""
        in_force = [card for card in self.versions if card.effective_from <= day]
        if not in_force:
            first = self.versions[0].effective_from
            raise BadRateCard(f"rate card {self.id} has no version for {day}, its first begins on {first}", "add an earlier one")
        return in_force[-1]

    def effective(self, when: datetime.datetime, zone: str) -> RateCard:
        """The version in force at a moment, by the date on an account's wall calendar. Raises BadRateCard, BadInput as `at`, `local`."""
        return self.at(local(when, zone).date())


def _check_pair(before: RateCard, card: RateCard) -> None:
    if before.id != card.id:
        raise BadRateCard(f"{before.id} and {card.id} are different rate cards", "keep the versions of each in a folder of its own")
    if before.currency != card.currency:
        raise BadRateCard(f"rate card {card.id} is in {before.currency} and in {card.currency}", "a currency has a card of its own")
    if before.effective_from == card.effective_from:
        raise BadRateCard(f"rate cards {before.name} and {card.name} both begin on {card.effective_from}", "remove one, or change its date")


def read(path: Path) -> Cards:
    """A file is one version; a folder holds one version in each `*.toml`. Raises BadRateCard in one line that names the place."""
    if not path.is_dir():
        return Cards.of([ratecard.read(path)])
    files = sorted(path.glob("*.toml"))
    if not files:
        raise BadRateCard(f"{path}: no rate card in it", "put each version there as a .toml file")
    versions = [ratecard.read(file) for file in files]
    try:
        return Cards.of(versions)
    except BadRateCard as error:
        raise BadRateCard(f"{path}: {error.message}", error.todo) from error


def local(when: datetime.datetime, zone: str) -> datetime.datetime:
    """A moment on the wall of an account. `when` has a time zone. Raises BadInput for a zone nobody knows."""
    if when.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return when.astimezone(zone_of(zone))


def period_of(when: datetime.datetime, zone: str) -> str:
    """The billing month of a moment, such as `2026-11`."""
    return local(when, zone).strftime("%Y-%m")


def zone_of(name: str) -> zoneinfo.ZoneInfo:
    """A zone by its IANA name. `localtime` is none: it is whatever this machine is set to."""
    try:
        known = None if name == "localtime" else zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = None
    if known is None:
        raise BadInput(f"no time zone is called {name!r}", "use an IANA name, such as Asia/Shanghai")
    return known
