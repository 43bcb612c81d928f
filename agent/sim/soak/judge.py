"""Judges a soak: whether what the robot holds grows, and what else went wrong.

The sum of the proportional sizes is what a robot needs, but it moves by tens of megabytes when some other program on the same machine
begins or ends. So its slope is told, and the slope of the resident sizes is judged: whatever grows the one grows the other.
"""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from agent.sim.soak.look import Sample, Seen
from agent.sim.soak.slope import Slope, theil_sen
from agent.store.verify import Verdict

LONG_MINUTES, WARM_UP_MINUTES = 45.0, 15.0
"""From so long a run on, so much of its beginning is left out: the runtimes take memory for new lengths until they have seen all."""

WARM_UP_SHARE = 1 / 3
"""Of a shorter run."""

FLOOR_SAMPLES = 3
"""Of so many samples after one another the least counts: what the voice holds while it speaks, up to 25 MB, is no growth."""

UPPER_MB_H = 3.0
"""What the upper bound of the slope of a long run may reach."""

SHORT_LOWER_MB_H = 200.0
"""What the lower bound of a short run's may reach: it fails only where growth is certain. It sees the warming-up, in which a robot
without a leak grows by 30 to 60 MB an hour, and the allocators' to and fro makes its upper bound anything up to 1,000."""

TURNS_A_MINUTE_MIN = 2.0
"""Fewer and the robot did not converse."""

END_SHARE = 4
"""A quarter of the samples says how many threads and descriptors there were at an end of the run."""


def kept(samples: Sequence[Sample], minutes: float) -> list[Sample]:
    """Those after the warming-up."""
    left_out = WARM_UP_MINUTES if minutes >= LONG_MINUTES else minutes * WARM_UP_SHARE
    return [one for one in samples if one.at_s >= left_out * 60]


def slope_of(samples: Sequence[Sample], figure: str, part: str | None = None) -> Slope | None:
    """Megabytes per hour of all processes, or of one; of the least in each few samples."""

    def size(one: Sample) -> float:
        return one.sum(figure) if part is None else float(getattr(one.held[part], figure)) if part in one.held else 0.0

    groups = [samples[at : at + FLOOR_SAMPLES] for at in range(0, len(samples) - FLOOR_SAMPLES + 1, FLOOR_SAMPLES)]
    return theil_sen([(group[0].at_s / 3600, min(map(size, group))) for group in groups])


def told(seed: int, minutes: float, seen: Seen, ledger: Verdict) -> dict[str, Any]:
    """The report; `broken` is empty where all is as it must be."""
    samples = kept(seen.samples, minutes)
    parts = sorted(seen.samples[-1].held) if seen.samples else []
    reach = {"upper": UPPER_MB_H} if minutes >= LONG_MINUTES else {"lower": SHORT_LOWER_MB_H}
    figures = {
        "seed": seed,
        "minutes": minutes,
        "visits": seen.visits,
        "turns": seen.turns,
        "outcomes": dict(seen.outcomes),
        "interrupted": seen.outcomes["interrupted"],
        "pss_mb": {end: _sizes(samples[at]) for end, at in (("first", 0), ("last", -1)) if samples},
        "warm_up_minutes": WARM_UP_MINUTES if minutes >= LONG_MINUTES else round(minutes * WARM_UP_SHARE, 1),
        "samples": len(samples),
        "slope_mb_per_hour": {name: _slope(slope_of(samples, f"{name}_mb")) for name in ("pss", "rss", "own")} | {"reach": reach},
        "parts_own_mb_per_hour": {part: _slope(slope_of(samples, "own_mb", part)) for part in parts},
        "threads": _counted(samples, "threads", parts),
        "descriptors": _counted(samples, "descriptors", parts),
        "ledger": {"records": ledger.records, "whole": ledger.whole},
        "said": seen.said[-10:],
    }
    return figures | {"broken": _broken(figures, seen, ledger)}


def _broken(figures: dict[str, Any], seen: Seen, ledger: Verdict) -> list[str]:
    slope, ((bound, reach),) = figures["slope_mb_per_hour"]["rss"], figures["slope_mb_per_hour"]["reach"].items()
    found = [seen.failed] if seen.failed else []
    if not slope:
        found.append("the run is too short for a slope")
    elif slope[bound] > reach:
        found.append(f"memory grows: the {bound} bound of its slope is {slope[bound]} MB an hour, and {reach:g} is the most")
    found += [f"{what} are not constant: {figures[what]}" for what in ("threads", "descriptors") if not figures[what]["constant"]]
    if figures["turns"] < TURNS_A_MINUTE_MIN * figures["minutes"]:
        found.append(f"{figures['turns']} turns in {figures['minutes']:g} minutes are no conversation")
    return found if ledger.whole else [*found, f"the ledger: {ledger.problem}"]


def _sizes(sample: Sample) -> dict[str, float]:
    return {"sum": round(sample.sum("pss_mb"), 1)} | {part: round(one.pss_mb, 1) for part, one in sample.held.items()}


def _slope(slope: Slope | None) -> dict[str, float]:
    return {} if slope is None else {name: round(value, 2) for name, value in asdict(slope).items()}


def _counted(samples: Sequence[Sample], figure: str, parts: Sequence[str]) -> dict[str, Any]:
    """By process what there is in the middle of the first and of the last samples, and whether these are the same."""
    size = max(1, len(samples) // END_SHARE)

    def middle(some: Sequence[Sample]) -> dict[str, int]:
        return {part: statistics.median_low([getattr(one.held[part], figure) for one in some if part in one.held] or [0]) for part in parts}

    first, last = middle(samples[:size]), middle(samples[-size:])
    return {"first": first, "last": last, "constant": first == last}
