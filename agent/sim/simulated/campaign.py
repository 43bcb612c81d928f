"""Runs scenarios in the simulated world: one from its seed, or all of them with fresh seeds until there were enough."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.clock import Clock, seeded
from agent.sim.simulated.world import SimulatedWorld
from agent.sim.world import loop, scenario
from agent.sim.world.checks import Report
from agent.sim.world.play import play
from agent.sim.world.robot import Say
from agent.sim.world.scenario import Scenario

DEVICES = 8
"""Of a run in a campaign: few enough for hundreds of seeds, enough that robots get in each other's way."""

FAILED_TOLD_MAX = 20

SUMMED = ("records", "calls", "lost", "billed_twice", "commands", "commands_lost", "commands_twice")
"""Figures of a run that are added up; a run without an operator has no commands."""

MEMORY = Path("/dev/shm")  # noqa: S108  a RAM disk: what is lost with it is a trial


def run_simulated(story: Scenario, devices: int, seed: int, say: Say = lambda _: None, folder: Path | None = None) -> Report:
    """One scenario from its seed; the same seed ends with the same digest. `folder`: where to work, a RAM disk if there is one."""
    place = folder or (MEMORY if MEMORY.is_dir() else Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as scratch:

        async def main() -> Report:
            place = Path(scratch) / "world"
            world = SimulatedWorld(
                devices, seed, place, orders=story.orders, certificates=story.certificates, untrusted_clocks=story.untrusted_clocks
            )
            report = await play(story, world, seed, say)
            return replace(report, digest=world.trace.hexdigest())

        return loop.run(main())


def run_campaign(
    seeds: int,
    seconds: float,
    clock: Clock,
    *,
    names: Sequence[str] = (),
    first_seed: int | None = None,
    devices: int = DEVICES,
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """All scenarios, or those named, for so many seeds each and for so many seconds; says each seed before it runs.

    `{seed, runs, …, failed: [{scenario, seed, devices, checks}]}`, between them what is in SUMMED; it follows from `first_seed`.
    Raises BadInput for a scenario that does not exist.
    """
    chance = seeded(seed := clock.seed() if first_seed is None else first_seed)
    counts: dict[str, Any] = {"seed": seed, "runs": 0, **dict.fromkeys(SUMMED, 0), "failed": []}
    stories = [scenario.load(name) for name in names or scenario.names()]
    until, done = clock.monotonic() + seconds, 0
    while (done < seeds or clock.monotonic() < until) and len(counts["failed"]) < FAILED_TOLD_MAX:
        done += 1
        for story in stories:
            one = chance.getrandbits(32)
            say(f"{story.name} seed {one} devices {devices}")
            _count(counts, story, devices, one)
    return counts


def _count(counts: dict[str, Any], story: Scenario, devices: int, seed: int) -> None:
    told: dict[str, Any] = {"scenario": story.name, "seed": seed, "devices": devices}
    counts["runs"] += 1
    try:
        report = run_simulated(story, devices, seed)
    except Exception as error:  # noqa: BLE001  whatever it is, its seed must be told, and the others must go on
        counts["failed"].append(told | {"checks": [f"{type(error).__name__}: {error}"]})
        return
    for name in SUMMED:
        counts[name] += int(report.figures.get(name, 0))
    if not report.ok:
        counts["failed"].append(told | {"checks": [f"{check.name}: {check.says}" for check in report.checks if not check.ok]})
