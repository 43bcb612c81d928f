"""Lives on a recorded disk, power cuts at every point of them, and what the real code makes of each image.

A full campaign covers every write and sync of each life; a slice of time takes points at random. All follows from the seed.
"""

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random  # noqa: TID251  the type alone; chance is handed in
from typing import Any

from agent.clock import Clock, seeded
from agent.errors import EngineFailed
from agent.sim.disk.crash import Image, images_at, write
from agent.sim.disk.fuse import recorded
from agent.sim.disk.replay import Replay
from agent.sim.disk.trace import Mark, Trace
from agent.sim.power.promises import Promised
from agent.sim.power.verdict import Judge

STEPS = 30
"""Of a life: some forty turns' worth of writes, and a few of everything rarer."""

LYING_SHARE = 0.3
"""Of the images are of a disk that lies about its syncs."""

SAMPLE = 200
"""Points of one life that a slice of time takes, before it goes on with another."""

LIFE_SECONDS_MAX = 120

BROKEN_TOLD_MAX = 10
"""Broken promises that are told in full; a campaign that has found so many ends."""


@dataclass(slots=True)
class Counts:
    """What a campaign came to."""

    seed: int
    lives: int = 0
    images: int = 0
    lying_images: int = 0
    cut_points: int = 0
    """Different points of different lives at which power was cut."""
    points: int = 0
    """All there were in these lives."""
    promises_broken: int = 0
    declared: int = 0
    """Lying disks that were found out."""
    rolled_back: int = 0
    """Records of lying disks that are gone unnoticed, none of which had left."""
    ops: Counter[str] = field(default_factory=Counter)
    broken: list[dict[str, Any]] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"ops": dict(self.ops)}


def lived(seed: int, folder: Path, steps: int = STEPS) -> Trace:
    """The trace of one life on a recorded disk, in two processes: the first is killed, the second takes over what it left."""
    mount = folder / "disk"
    mount.mkdir()
    with recorded(mount) as disk:
        for part, end in enumerate((["killed"], [])):
            command = [sys.executable, "-P", "-m", "agent.sim.power.life", str(mount), str(seed + part), str(steps // 2), "marked", *end]
            try:
                ended = subprocess.run(command, capture_output=True, timeout=LIFE_SECONDS_MAX, check=False)
            except subprocess.TimeoutExpired:
                raise too_long(seed) from None
            if ended.returncode:
                raise EngineFailed(f"the life of seed {seed} ended with {ended.stderr.decode().strip().splitlines()[-1:]}")
        return disk.trace()


def too_long(seed: int) -> EngineFailed:
    """What is said of a life that does not end."""
    return EngineFailed(f"the life of seed {seed} was not over after {LIFE_SECONDS_MAX} s", "repeat it with that seed")


def cuts(seed: int, *, images: int, seconds: float, clock: Clock, folder: Path) -> Counts:
    """Cuts power at every point of life after life until there were so many images, and at random points for so many seconds.

    Ends early where it finds BROKEN_TOLD_MAX images with broken promises.
    """
    counts = Counts(seed)
    until = clock.monotonic() + seconds
    while len(counts.broken) < BROKEN_TOLD_MAX and (counts.images < images or clock.monotonic() < until):
        chance = seeded(seed + counts.lives)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            trace = lived(seed + counts.lives, Path(scratch))
            counts.lives += 1
            counts.points += len(trace)
            counts.ops.update(type(op).__name__ for op in trace.ops)
            _cut(trace, Judge(Path(scratch) / "image"), chance, counts, _every(trace) if images else _some(trace, chance, until, clock))
    return counts


def _every(trace: Trace) -> Iterator[int]:
    return iter(range(-1, len(trace)))


def _some(trace: Trace, chance: Random, until: float, clock: Clock) -> Iterator[int]:
    """Points at random, while there is time."""
    for point in sorted(chance.sample(range(-1, len(trace)), min(len(trace), SAMPLE))):
        if clock.monotonic() > until:
            return
        yield point


def _cut(trace: Trace, judge: Judge, chance: Random, counts: Counts, points: Iterator[int]) -> None:
    replay, promised, at = Replay(trace), Promised(), 0
    for point in points:
        replay.advance(point)
        for op in trace.ops[at : point + 1]:
            if isinstance(op, Mark):
                promised.take(op.text)
        at = point + 1
        if len(counts.broken) >= BROKEN_TOLD_MAX:
            return
        counts.cut_points += 1
        for lying in (False, False, chance.random() < LYING_SHARE * 3):
            for image in images_at(replay, chance, 1, lying):
                _judge(image, judge, promised, counts, {"seed": counts.seed + counts.lives - 1, "point": point, "lying": lying})


def _judge(image: Image, judge: Judge, promised: Promised, counts: Counts, where: dict[str, Any]) -> None:
    write(image, judge.folder)
    found = judge.judge(promised, lying=where["lying"])
    counts.images += 1
    counts.lying_images += where["lying"]
    counts.declared += found.declared
    counts.rolled_back += found.rolled_back
    counts.promises_broken += len(found.broken)
    if found.broken and len(counts.broken) < BROKEN_TOLD_MAX:
        counts.broken.append(where | {"broken": found.broken})
