"""Plays a scenario in a world, whichever it is: draws what is left to chance, waits until all is quiet, and has the checks judge."""

import asyncio
import shutil
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from random import Random  # noqa: TID251  the type alone; chance is handed in
from typing import Any, Protocol

from agent.clock import seeded
from agent.sim.world.checks import Report, judged
from agent.sim.world.evidence import Evidence
from agent.sim.world.scenario import GOOD, OF_ROBOTS, Happening, Phase, Scenario, Weather

QUIET_S = 5
"""Nothing to send for so long is quiet: an ack may be on its way that says the backend has been restored."""

LOOK_S = 1

Say = Callable[[str], None]


class World(Protocol):
    """Robots, a broker, a backend, and the links between them. Names of robots are those of `robots`."""

    @property
    def robots(self) -> Sequence[str]:
        """All that run or are dark, clones at the end."""
        ...

    async def start(self) -> None:
        """Everything is up and registered when it returns."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Scenario time passes."""
        ...

    async def weather(self, weather: Weather) -> None:
        """From here on the link is like this, for all robots, clones and open connections included."""
        ...

    async def leap(self, hours: float) -> None:
        """So much passes on the robots' clocks: wall, boot and monotonic time alike."""
        ...

    async def turn(self, robot: str) -> None:
        """One turn; returns when it is on the books, or at once or when cut off if the robot is dark."""
        ...

    async def order(self, robot: str) -> None:
        """The operator gives it a command, drawn by chance; returns when it has been ordered, not when it is done."""
        ...

    async def cut_power(self, robot: str, down_s: float) -> None:
        """Nothing is closed; returns when the robot has started again, after `down_s`. A dark robot stays as it is."""
        ...

    async def step_clock(self, robot: str, hours: float) -> None:
        """Its wall clock alone."""
        ...

    async def clone_robot(self, robot: str) -> str:
        """Copies its folder as it is and starts a second robot from it, with the same identity; returns its name."""
        ...

    async def prune_robot(self, robot: str) -> None:
        """Its disk is nearly full: it lets go what is acked and in a backup. What it had stays to be looked at in the end."""
        ...

    async def kill_backend(self, down_s: float) -> None:
        """Returns when it runs again, on what its files hold."""
        ...

    async def backup_backend(self) -> None:
        """An official copy, while it runs; the last one counts."""
        ...

    async def lose_backup(self) -> None:
        """The last backup can't be read: the one before counts, where there is one."""
        ...

    async def restore_backend(self, down_s: float) -> None:
        """Killed, the last backup put in its place; returns when it runs again."""
        ...

    async def kill_broker(self, down_s: float) -> None:
        """Returns when it runs again, with what it had on its disk."""
        ...

    async def broker_forgets(self, down_s: float) -> None:
        """Killed, all it had on its disk removed; returns when it runs again."""
        ...

    async def hijack_robot(self, robot: str) -> None:
        """Somebody has its keys, and sends what he likes as this robot and to it; returns when he has tried all he can."""
        ...

    async def hijack_broker(self, down_s: float) -> None:
        """For so long the broker is in the wrong hands: it alters, repeats and invents what it gives to robots."""
        ...

    async def revoke_robot(self, robot: str) -> None:
        """The operator strikes it off; from now on nobody lets it in, and what it still has to send stays with it."""
        ...

    async def backlog(self) -> Mapping[str, int]:
        """By robot, records that are not acked, and commands that are not answered; a dark one has at least one.

        One whose certificate is not good has something left as well; one that was struck off has nothing that anybody waits for.
        """
        ...

    async def evidence(self) -> Evidence:
        """Stops everything in good order; the files stay until `aclose`."""
        ...

    async def aclose(self) -> None:
        """Leaves nothing behind, whatever state it was in."""
        ...


def backups(folder: Path) -> list[Path]:
    """Of a backend, as both worlds name them: `backup-N.db`, the oldest first."""
    return sorted(folder.glob("backup-*.db"), key=lambda path: int(path.stem.removeprefix("backup-")))


def lose_newest(folder: Path) -> bool:
    """The backup before the newest takes its place; False where there is none."""
    held = backups(folder)
    if len(held) > 1:
        shutil.copyfile(held[-2], held[-1])
    return len(held) > 1


async def play(scenario: Scenario, world: World, seed: int, say: Say) -> Report:
    """The whole story and the verdict. The world is started and closed here. Raises BadInput for a check that does not exist."""
    chance = seeded(seed)
    cloned: set[str] = set()
    try:
        await world.start()
        for number, phase in enumerate(scenario.phase, 1):
            say(f"{number}/{len(scenario.phase)} {phase.about or phase.link}")
            await _phase(phase, world, chance, cloned)
        say("waiting until nothing is left to send")
        await world.weather(GOOD)
        await _quiet(world, scenario.drain_s_max)
        found = await world.evidence()
        return judged(scenario, found, cloned, seed)
    finally:
        await world.aclose()


async def _phase(phase: Phase, world: World, chance: Random, cloned: set[str]) -> None:
    await world.weather(phase.weather)
    if phase.leap_hours:
        await world.leap(phase.leap_hours)
    happenings = [part for one in phase.happens for part in _parts(one, world, chance, cloned)]
    moments = _moments(phase.turns, phase.seconds, world, chance)
    orders = _moments(phase.orders, phase.seconds, world, chance) if phase.orders else {}
    async with asyncio.TaskGroup() as together:
        together.create_task(world.sleep(phase.seconds))
        for at, happens in happenings:
            together.create_task(_at(at, happens, world))
        for robot, times in moments.items():
            together.create_task(_each(world.turn, robot, times, world))
        for robot, times in orders.items():
            together.create_task(_each(world.order, robot, times, world))


def _moments(count: int, seconds: float, world: World, chance: Random) -> dict[str, list[float]]:
    return {robot: sorted(chance.uniform(0, seconds) for _ in range(count)) for robot in world.robots}


async def _each(work: Callable[[str], Coroutine[Any, Any, None]], robot: str, times: Sequence[float], world: World) -> None:
    """One after the other, each at its moment if the one before has ended."""
    moments = [asyncio.ensure_future(world.sleep(at)) for at in times]
    for moment in moments:
        await moment
        await work(robot)


Happens = Callable[[], Coroutine[Any, Any, Any]]


async def _at(seconds: float, happens: Happens, world: World) -> None:
    await world.sleep(seconds)
    await happens()


def _parts(one: Happening, world: World, chance: Random, cloned: set[str]) -> list[tuple[float, Happens]]:
    """When each part of a happening is, and what it does: one for each robot it meets."""
    if one.what not in OF_ROBOTS:
        whole: dict[str, Happens] = {
            "kill_backend": lambda: world.kill_backend(one.down_s),
            "backup_backend": world.backup_backend,
            "lose_backup": world.lose_backup,
            "restore_backend": lambda: world.restore_backend(one.down_s),
            "kill_broker": lambda: world.kill_broker(one.down_s),
            "broker_forgets": lambda: world.broker_forgets(one.down_s),
            "hijack_broker": lambda: world.hijack_broker(one.down_s),
        }
        return [(one.at_s, whole[one.what])]
    robots = list(world.robots)
    met = chance.sample(robots, min(len(robots), max(1, round(one.share * len(robots)))))
    if one.what == "clone_robot":
        cloned.update(met)
    return [(one.at_s, _of_robot(one, robot, world)) for robot in sorted(met)]


def _of_robot(one: Happening, robot: str, world: World) -> Happens:
    if one.what == "cut_power":
        return lambda: world.cut_power(robot, one.down_s)
    if one.what == "step_clock":
        return lambda: world.step_clock(robot, one.hours)
    if one.what == "prune_robot":
        return lambda: world.prune_robot(robot)
    if one.what == "hijack_robot":
        return lambda: world.hijack_robot(robot)
    if one.what == "revoke_robot":
        return lambda: world.revoke_robot(robot)
    return lambda: world.clone_robot(robot)


async def _quiet(world: World, seconds_max: float) -> None:
    """Returns when nobody has had anything to send for a while, or when it has taken too long."""
    quiet = waited = 0.0
    while quiet < QUIET_S and waited < seconds_max:
        await world.sleep(LOOK_S)
        waited += LOOK_S
        quiet = 0 if any((await world.backlog()).values()) else quiet + LOOK_S
