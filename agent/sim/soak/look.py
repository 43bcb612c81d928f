"""Looks at processes from outside: what memory they hold, and how many threads and descriptors they have."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LOOKS = 3
"""What is open or runs only for a moment, such as the file a robot reads its own memory from, is missing in one of so many."""

SIZES = {"Pss": "pss_mb", "Rss": "rss_mb", "Pss_Anon": "own_mb"}


@dataclass(frozen=True, slots=True)
class Held:
    """By one process."""

    pss_mb: float = 0.0
    """Shared pages divided by those who share them, which includes whoever else on this machine maps the same libraries."""
    rss_mb: float = 0.0
    """Shared pages in full: others do not change it, and what grows the one grows the other."""
    own_mb: float = 0.0
    """Memory that is in no file."""
    threads: int = 0
    descriptors: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """Of all processes of a robot, by what they are."""

    at_s: float
    """Since the robot listened."""
    held: dict[str, Held]

    def sum(self, figure: str) -> float:
        return sum(float(getattr(one, figure)) for one in self.held.values())


@dataclass(slots=True)
class Seen:
    """What the robot told and what it held."""

    samples: list[Sample] = field(default_factory=list)
    floor: str = "listening"
    turns: int = 0
    visits: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    """Of stages."""
    said: list[str] = field(default_factory=list)
    """Lines for its log."""
    failed: str = ""
    """Why it ended before its time."""
    listening: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, told: dict[str, Any]) -> None:
        self.floor = told.get("floor", self.floor)
        if "turn" in told:
            self.turns += 1
            self.outcomes.update(told["turn"]["outcomes"])
        if "said" in told:
            self.said.append(told["said"])
        if "listening" in told:
            self.listening.set()


def memory(process_id: int) -> dict[str, float]:
    """`{pss_mb, rss_mb, own_mb}`; empty where there is no such process."""
    try:
        lines = Path(f"/proc/{process_id}/smaps_rollup").read_text().splitlines()
    except OSError:  # ended
        return {}
    sizes = dict(line.split()[:2] for line in lines[1:])
    return {name: int(sizes.get(f"{kernels}:", 0)) / 1000 for kernels, name in SIZES.items()}


def counts(process_id: int) -> tuple[int, int]:
    """(threads, descriptors) now; zeros where there is no such process."""
    try:
        threads, descriptors = (sum(1 for _ in Path(f"/proc/{process_id}/{what}").iterdir()) for what in ("task", "fd"))
    except OSError:
        return 0, 0
    return threads, descriptors


def held_by(process_id: int, looks: list[tuple[int, int]]) -> Held:
    """By one process, now; of threads and descriptors what lasted through several looks."""
    sizes = memory(process_id)
    threads, descriptors = min(threads for threads, _ in looks), min(descriptors for _, descriptors in looks)
    return Held(**sizes, threads=threads, descriptors=descriptors)
