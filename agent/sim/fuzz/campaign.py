"""Reads mutated messages for a while, or so many of them, and tells what broke or was taken wrongly. All follows from the seed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random  # noqa: TID251  the type alone; chance is handed in
from typing import Any

from agent.clock import Clock, seeded
from agent.errors import VoxmeterError
from agent.sim.fuzz.mutate import mutated
from agent.sim.fuzz.targets import Target, targets

ROUND = 500
"""Messages of one reader between two looks at the clock."""

SIGNED_SHARE = 0.01
"""Of all: checking a signature takes as long as parsing many messages without one."""

BROKEN_TOLD_MAX = 10


@dataclass(slots=True)
class Counts:
    """What a campaign came to."""

    seed: int
    inputs: int = 0
    """Read with the signature taken for granted."""
    signed: int = 0
    """Read as they travel, signature and all."""
    still_good: int = 0
    """Of the inputs happened to be messages all the same."""
    accepted: int = 0
    """Taken although they are none, or were altered after they had been signed."""
    crashes: int = 0
    by_reader: dict[str, int] = field(default_factory=dict)
    broken: list[dict[str, str]] = field(default_factory=list)
    """The first of what was found: reader, what happened, the message in hex."""

    def told(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def fuzz(seed: int, *, count: int, signed: int, seconds: float, clock: Clock) -> Counts:
    """At least `count` inputs, `signed` of them besides with signatures, at least so long; ends early when much is broken."""
    chance, counts, readers = seeded(seed), Counts(seed), targets()
    until = clock.monotonic() + seconds
    while (counts.inputs < count or counts.signed < signed or clock.monotonic() < until) and len(counts.broken) < BROKEN_TOLD_MAX:
        _round(readers, chance, counts, signed_due=counts.signed < max(signed, counts.inputs * SIGNED_SHARE))
    return counts


def _round(readers: Mapping[str, Target], chance: Random, counts: Counts, *, signed_due: bool) -> None:
    for name, target in readers.items():
        for _ in range(ROUND):
            _bare(name, target, mutated(target.good, chance), counts)
        if signed_due:
            for _ in range(ROUND // 20):
                _whole(name, target, mutated(target.wired, chance), counts)
        counts.by_reader[name] = counts.by_reader.get(name, 0) + ROUND


def _bare(name: str, target: Target, text: bytes, counts: Counts) -> None:
    counts.inputs += 1
    try:
        target.bare(text)
    except VoxmeterError:
        return
    except Exception as error:  # noqa: BLE001  finding those is what this is for
        counts.crashes += 1
        _note(counts, name, f"{type(error).__name__}: {error}", text)
        return
    if _agreed(target, text):
        counts.still_good += 1
    else:
        counts.accepted += 1
        _note(counts, name, "taken, and is none", text)


def _agreed(target: Target, text: bytes) -> bool:
    """The second opinion looks plainly; what it stumbles over is no message."""
    try:
        return target.is_good(text)
    except (TypeError, ValueError, AttributeError):
        return False


def _whole(name: str, target: Target, text: bytes, counts: Counts) -> None:
    counts.signed += 1
    try:
        taken = target.whole(text)
    except VoxmeterError:
        return
    except Exception as error:  # noqa: BLE001  as above
        counts.crashes += 1
        _note(counts, name, f"{type(error).__name__}: {error}", text)
        return
    if taken not in target.means:  # how it was packed is nobody's business
        counts.accepted += 1
        _note(counts, name, "taken, and was altered", text)


def _note(counts: Counts, name: str, what: str, text: bytes) -> None:
    counts.broken.append({"reader": name, "what": what, "message": text[:2000].hex()})
