"""SIGKILL: of a robot in the middle of its turns, and of a life at each step its ledger takes on the disk; then all must be there."""

import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from random import Random  # noqa: TID251  the type alone; chance is handed in
from typing import Any

from agent.clock import Clock, seeded
from agent.errors import EngineFailed
from agent.sim.disk.crash import Image, image, write
from agent.sim.disk.faults import Faults
from agent.sim.disk.fuse import recorded
from agent.sim.disk.replay import Replay
from agent.sim.power.campaign import BROKEN_TOLD_MAX, LIFE_SECONDS_MAX, STEPS, too_long
from agent.sim.power.promises import Promised
from agent.sim.power.verdict import Judge

LATEST_SECONDS = 0.6
"""After its first promise a robot lives at most this long: some ten turns."""

OPS_MAX = 1_800
"""A life is killed at one of so many first steps on the disk."""

NEW_ROBOT_SHARE = 0.1

IN_TURNS_SHARE = 0.5
"""Of the kills, how many hit a robot in its turns; the others hit a life at a step on the disk."""


@dataclass(slots=True)
class Kills:
    """What a campaign of kills came to."""

    seed: int
    kills: int = 0
    in_turns: int = 0
    at_steps: int = 0
    records: int = 0
    """Promised records, all looked for."""
    promises_broken: int = 0
    broken: list[dict[str, Any]] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def kill(seed: int, *, count: int, seconds: float, clock: Clock, folder: Path) -> Kills:
    """Kills until there were so many, and for so many seconds."""
    kills = Kills(seed)
    until = clock.monotonic() + seconds
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        place = Path(scratch)
        judge, robot, promised = Judge(place / "judged"), place / "robot", Promised()
        while kills.kills < count or clock.monotonic() < until:
            chance = seeded(seed + kills.kills)
            if chance.random() < IN_TURNS_SHARE:
                if chance.random() < NEW_ROBOT_SHARE:  # mostly the same one goes on, with all it has lived through
                    shutil.rmtree(robot, ignore_errors=True)
                    promised = Promised()
                in_turns(robot, chance, promised)
                kills.in_turns += 1
                _judge(left(robot), judge, promised, kills, "in its turns")
            else:
                found, there = at_step(seed + kills.kills, chance, place)
                kills.at_steps += 1
                _judge(found, judge, there, kills, "at a step on the disk")
            kills.kills += 1
    return kills


def in_turns(state: Path, chance: Random, promised: Promised) -> None:
    """Starts a robot, lets it take turns for a random time, and kills it; takes what it was promised."""
    command = [sys.executable, "-P", "-m", "agent.sim.power.turns", str(state)]
    words = state.with_name("words")
    with words.open("wb") as err, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True) as robot:
        assert robot.stdout is not None
        if not (first := robot.stdout.readline()):
            raise EngineFailed("a robot ended before its first turn", f"it said: {words.read_text(errors='replace').splitlines()[-1:]}")
        promised.take(first)
        threading.Timer(chance.random() * LATEST_SECONDS, robot.kill).start()
        for line in robot.stdout:
            if line.endswith("\n"):
                promised.take(line)


def at_step(seed: int, chance: Random, folder: Path) -> tuple[Image, Promised]:
    """Lives a life on a recorded disk that kills it just before a random step; returns what is left and what was promised."""
    mount = Path(tempfile.mkdtemp(dir=folder))
    with recorded(mount) as disk:
        command = [sys.executable, "-P", "-m", "agent.sim.power.life", str(mount), str(seed), str(STEPS), "marked"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as life:
            disk.victim = life.pid
            disk.set(Faults(kill_at=chance.randrange(OPS_MAX)))
            try:
                life.wait(LIFE_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                life.kill()
                raise too_long(seed) from None
        trace = disk.trace()
    replay = Replay(trace)
    replay.advance(len(trace) - 1)
    return image(replay, "everything", chance), Promised.of(trace)


def left(state: Path) -> Image:
    """The files a killed robot leaves; nothing that was written is lost when only a process dies."""
    return {
        str(path.relative_to(state)): path.read_bytes()
        for path in state.rglob("*")
        if path.is_file() and not path.name.endswith("-shm") and path.suffix != ".sock"
    }


def _judge(found: Image, judge: Judge, promised: Promised, kills: Kills, where: str) -> None:
    write(found, judge.folder)
    verdict = judge.judge(promised)
    kills.records += sum(promised.records.values())
    kills.promises_broken += len(verdict.broken)
    if verdict.broken and len(kills.broken) < BROKEN_TOLD_MAX:
        kills.broken.append({"seed": kills.seed + kills.kills, "where": where, "broken": verdict.broken})
