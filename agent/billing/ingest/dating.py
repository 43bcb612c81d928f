"""Decides the time a record is billed at: its own from a trusted clock, else the latest that anchors allow, else its receipt."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from agent.clock import FLOOR
from agent.metering.when import Anchor, of_records

AHEAD: Final = datetime.timedelta(days=1)
"""A robot's clock may be this much before ours; a time later still is none."""

TRUSTED: Final = ("ntp", "signed")


class Dated(NamedTuple):
    """When, as a bill takes it."""

    time: str
    """RFC 3339 UTC with milliseconds; the first ten characters are the day."""
    exact: bool
    """Else only a bound, or the time of receipt: flagged on a bill."""


def written(moment: datetime.datetime) -> str:
    """The one form all times have here."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Receipt:
    """The moment of receipt, and what it makes plausible."""

    now: datetime.datetime
    text: str
    earliest: str
    latest: str
    """To the second, to compare with the beginning of a written time."""

    @classmethod
    def at(cls, now: datetime.datetime) -> "Receipt":
        return cls(now, written(now), written(FLOOR)[:19], written(now + AHEAD)[:19])

    def plausible(self, time: str) -> bool:
        """Of a time as a record has it."""
        return self.earliest <= time[:19] <= self.latest

    def plausible_day(self, day: str) -> bool:
        return len(day) == 10 and self.earliest[:10] <= day <= self.latest[:10] and day.replace("-", "").isdecimal()


def told(record: Mapping[str, Any], receipt: Receipt) -> Dated | None:
    """By the record's own word; None where it gives no time that can be believed."""
    time = record.get("time")
    if time is None or record["clockquality"] not in TRUSTED or not receipt.plausible(time):
        return None
    return Dated(f"{time[:19]}{(time[19:-1] or '.000')[:4]:0<4}Z", exact=True)


def dated(records: Sequence[Mapping[str, Any]], anchors: Iterable[Anchor], receipt: Receipt) -> list[Dated]:
    """One answer for each record that makes sense, in ledger order, by its own word or by anchors of its boot."""
    own = [told(record, receipt) for record in records]
    if None not in own:
        return [one for one in own if one is not None]
    believed = [record if one else _timeless(record) for record, one in zip(records, own, strict=True)]
    places = of_records(believed, [anchor for anchor in anchors if receipt.plausible(written(anchor.utc))])
    return [one or _bounded(when.billed, receipt, exact=when.exact) for one, when in zip(own, places, strict=True)]


def _timeless(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: record[name] for name in ("bootid", "boottimems")}


def _bounded(latest: datetime.datetime | None, receipt: Receipt, *, exact: bool) -> Dated:
    if latest is None or latest > receipt.now:
        return Dated(receipt.text, exact=False)
    return Dated(written(latest), exact)


def anchor_of(bootid: str, boottime_ms: str | int, time: str, quality: str) -> Anchor | None:
    """None for one that ties nothing: of a clock that can't be trusted, or a boot time longer than any boot."""
    if quality not in TRUSTED or len(str(boottime_ms)) > 15:
        return None
    return Anchor(bootid, int(boottime_ms), datetime.datetime.fromisoformat(time), "signed" if quality == "signed" else "ntp")
