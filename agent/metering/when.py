"""Decides when things happened, from boot id and boot time, after anchors have tied some boots to wall time.

Boot time counts from a boot on and nobody steps it, so inside a boot one good anchor places every moment, give or take the drift.
A moment is placed by the nearest anchor before it and the nearest after it. Where the two agree, both must be right about it, and
what both allow is taken. Where they don't, the wall clock was stepped between them; nobody knows which is right, so what either
allows is taken: a bad step blurs what lies around it and nothing else. A stretch of anchors is doubted as well where those before
and after it agree with each other and not with it. Signed time overrules NTP.

A boot without anchors lies between its neighbours: after the boot before had come to its last known moment, before the boot after
began. All arithmetic is in integer microseconds.
"""

import bisect
import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, Literal

from agent.clock import FLOOR

DRIFT_PPM = 500
"""A boot clock's error at most: what Linux allows when it disciplines its clock; crystals without discipline stay within 100."""

GRAIN_US = 1000
"""Boot time is whole milliseconds, so an anchor and a moment may be this much further apart than they say."""

AGREE_US = 2_000_000
"""What two good anchors may differ by beyond drift: a signed time's way over a slow link. Less counts as agreement."""

STORIES_MAX = 16
"""Different wall times a boot's anchors may return to; one that was stepped more often than this tells nothing by returning."""

ZERO = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MICROSECOND = datetime.timedelta(microseconds=1)

FLOOR_US = (FLOOR - ZERO) // MICROSECOND
CEILING_US = (datetime.datetime(9000, 1, 1, tzinfo=datetime.UTC) - ZERO) // MICROSECOND
"""No later time is given: every time zone must be able to show it."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """Wall time, once known: at this boot time it was `utc`."""

    boot_id: str
    boottime_ms: int
    utc: datetime.datetime
    quality: Literal["ntp", "signed"]


@dataclass(frozen=True, slots=True)
class Moment:
    """When something happened, by the boot clock."""

    boot_id: str
    boottime_ms: int


@dataclass(frozen=True, slots=True)
class When:
    """When something happened, by the wall, as far as anchors tell."""

    earliest: datetime.datetime | None
    """UTC; None where nothing bounds it."""
    latest: datetime.datetime | None
    exact: bool = False
    """Anchors of its own boot place it, and none contradicts: the bounds are drift. What is not exact is flagged on a bill."""

    @property
    def billed(self) -> datetime.datetime | None:
        """The moment a bill takes; None as long as nothing bounds it above."""
        return self.latest


Bounds = tuple[int, int]
"""Microseconds since ZERO, both inclusive."""


def resolve(moments: Sequence[Moment], anchors: Iterable[Anchor]) -> list[When]:
    """One answer for each moment. `moments` stand in ledger order, which is also the order of boots; anchors in any order."""
    by_boot: dict[str, list[Anchor]] = {}
    for anchor in anchors:
        by_boot.setdefault(anchor.boot_id, []).append(anchor)
    frames = {boot: Frame.of(held) for boot, held in by_boot.items()}
    boots = [_Boot(frames.get(boot), [moment.boottime_ms for moment in held]) for boot, held in groupby(moments, attrgetter("boot_id"))]
    _bound_from_before(boots)
    _bound_from_after(boots)
    return [when for boot in boots for when in boot.told()]


def of_records(records: Sequence[Mapping[str, Any]], anchors: Iterable[Anchor]) -> list[When]:
    """One answer for each decoded record, in ledger order. Records that carry a time are anchors of their boots as well."""
    timed = (
        Anchor(record["bootid"], int(record["boottimems"]), datetime.datetime.fromisoformat(record["time"]), record["clockquality"])
        for record in records
        if "time" in record
    )
    moments = [Moment(record["bootid"], int(record["boottimems"])) for record in records]
    return resolve(moments, (*anchors, *timed))


@dataclass(frozen=True, slots=True)
class Frame:
    """The believed anchors of one boot, by boot time; made by `of`."""

    anchors: tuple[Anchor, ...]
    stretch: tuple[int, ...]
    """For each anchor, the stretch of agreeing neighbours it is in."""
    doubt: tuple[tuple[Anchor, ...], ...]
    """For each stretch, anchors around it that agree with each other and not with it."""

    @classmethod
    def of(cls, anchors: Iterable[Anchor]) -> "Frame | None":
        """None if no anchor can be believed: nothing was earlier than FLOOR."""
        possible = sorted((anchor for anchor in anchors if anchor.utc >= FLOOR), key=lambda anchor: (anchor.boottime_ms, anchor.utc))
        believed = _not_overruled(possible)
        if not believed:
            return None
        stretches = _stretches(believed)
        places = tuple(index for index, stretch in enumerate(stretches) for _ in stretch)
        return cls(tuple(believed), places, tuple(_doubts(stretches)))

    def place(self, boottime_ms: int) -> tuple[Bounds, bool]:
        """Where a moment of this boot lies, and whether no anchor contradicts it."""
        near = self._nearest(boottime_ms)
        doubts = [anchor for index in near for anchor in self.doubt[self.stretch[index]]]
        bounds = [_seen_from(anchor, boottime_ms) for anchor in [*(self.anchors[index] for index in near), *doubts]]
        agreed = not doubts and len({self.stretch[index] for index in near}) == 1
        low, high = max(low for low, _ in bounds), min(high for _, high in bounds)
        if agreed and low <= high:
            return (low, high), True
        return (min(low for low, _ in bounds), max(high for _, high in bounds)), agreed

    def _nearest(self, boottime_ms: int) -> list[int]:
        """Places of the anchors that bracket a moment; those at the moment itself leave no room for others."""
        first = bisect.bisect_left(self.anchors, boottime_ms, key=attrgetter("boottime_ms"))
        end = bisect.bisect_right(self.anchors, boottime_ms, key=attrgetter("boottime_ms"))
        return [first, end - 1] if first < end else [index for index in (first - 1, first) if 0 <= index < len(self.anchors)]


def _drift_us(distance_ms: int) -> int:
    """How far boot time may be off over a distance, rounded up. A clock that is fast by a part shows more than has passed."""
    return -(-abs(distance_ms) * 1000 * DRIFT_PPM // (1_000_000 - DRIFT_PPM)) + GRAIN_US


def _seen_from(anchor: Anchor, boottime_ms: int) -> Bounds:
    distance_ms = boottime_ms - anchor.boottime_ms
    middle = (anchor.utc - ZERO) // MICROSECOND + distance_ms * 1000
    return middle - _drift_us(distance_ms), middle + _drift_us(distance_ms)


def _contradict(one: Anchor, other: Anchor, slack_us: int) -> bool:
    low, high = _seen_from(one, other.boottime_ms)
    return not low - slack_us <= (other.utc - ZERO) // MICROSECOND <= high + slack_us


def _not_overruled(anchors: list[Anchor]) -> list[Anchor]:
    """Without the NTP anchors that the nearest signed one before or after contradicts."""
    signed = [anchor for anchor in anchors if anchor.quality == "signed"]

    def overruled(anchor: Anchor) -> bool:
        after = bisect.bisect_left(signed, anchor.boottime_ms, key=attrgetter("boottime_ms"))
        return anchor.quality == "ntp" and any(_contradict(anchor, near, 0) for near in signed[max(after - 1, 0) : after + 1])

    return [anchor for anchor in anchors if not overruled(anchor)]


def _stretches(anchors: list[Anchor]) -> list[list[Anchor]]:
    """Anchors cut where a neighbour contradicts."""
    stretches = [[anchors[0]]]
    for anchor in anchors[1:]:
        if _contradict(stretches[-1][-1], anchor, AGREE_US):
            stretches.append([])
        stretches[-1].append(anchor)
    return stretches


def _doubts(stretches: list[list[Anchor]]) -> Iterator[tuple[Anchor, ...]]:
    """For each stretch the nearest anchors of those before and after it that tell one story without it."""
    stories: list[list[int]] = []
    for index, stretch in enumerate(stretches):
        story = next((story for story in stories if not _contradict(stretches[story[-1]][-1], stretch[0], AGREE_US)), None)
        if story is not None:
            story.append(index)
        elif len(stories) < STORIES_MAX:
            stories.append([index])
    for index in range(len(stretches)):
        doubts = []
        for story in stories:
            place = bisect.bisect_left(story, index)
            if 0 < place < len(story) and story[place] != index:
                doubts += [stretches[story[place - 1]][-1], stretches[story[place]][0]]
        yield tuple(doubts)


@dataclass(slots=True)
class _Boot:
    """One boot's moments while bounds are gathered."""

    frame: Frame | None
    boottimes_ms: list[int]
    began_after: int | None = None
    """Microseconds since ZERO; only for a boot without a frame, None where nothing bounds it."""
    ended_before: int | None = None

    def place(self, boottime_ms: int) -> tuple[tuple[int | None, int | None], bool]:
        if self.frame is not None:
            return self.frame.place(boottime_ms)
        to_end_ms = max(self.boottimes_ms) - boottime_ms
        low = None if self.began_after is None else self.began_after + boottime_ms * 1000 - _drift_us(boottime_ms)
        high = None if self.ended_before is None else self.ended_before - to_end_ms * 1000 + _drift_us(to_end_ms)
        return ((high, low) if low is not None and high is not None and low > high else (low, high)), False

    def told(self) -> Iterator[When]:
        for boottime_ms in self.boottimes_ms:
            (low, high), exact = self.place(boottime_ms)
            yield When(_time(low), _time(high), exact and high is not None and high >= FLOOR_US)


def _bound_from_before(boots: list[_Boot]) -> None:
    """A boot began after the boot before had come to its last moment, or to an anchor after that."""
    reached: int | None = None
    for boot in boots:
        boot.began_after = reached
        anchored = [] if boot.frame is None else [boot.frame.anchors[-1].boottime_ms]
        reached = boot.place(max([*boot.boottimes_ms, *anchored]))[0][0]


def _bound_from_after(boots: list[_Boot]) -> None:
    """A boot had ended when the boot after began: that one's first moment less its boot time."""
    limit: int | None = None
    for boot in reversed(boots):
        boot.ended_before = limit
        first_ms = min(boot.boottimes_ms)
        high = boot.place(first_ms)[0][1]
        limit = None if high is None else high - first_ms * 1000 + _drift_us(first_ms)


def _time(micros: int | None) -> datetime.datetime | None:
    """Never before FLOOR, whatever was reckoned."""
    return None if micros is None else ZERO + MICROSECOND * min(max(micros, FLOOR_US), CEILING_US)
