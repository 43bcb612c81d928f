"""The stage: virtual sound devices, a hall with guests, and a robot in a process of its own that is asked questions aloud."""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.errors import EngineFailed
from agent.sim.sound import detect
from agent.sim.sound.detect import Samples
from agent.sim.sound.hall import SPEECH_DB, Hall, Spoken
from agent.sim.sound.server import SoundServer
from agent.values import RATE_HZ

START_SECONDS_MAX, TURN_SECONDS_MAX, SETTLE_SECONDS_MAX, STOP_SECONDS_MAX = 60.0, 60.0, 30.0, 20.0

POLL_SECONDS = 0.02

SETTLE_S = 0.4
"""Between an answer's end and the next question: an echo has died away."""


@dataclass(slots=True)
class Asked:
    """One question and what came of it; times in milliseconds after the question's last sample reached the microphone."""

    spoken: Spoken
    turn: dict[str, Any]
    plan: str
    gave_way: bool
    first_sound_ms: float | None
    began_at: float
    """Monotonic time of the question's first sample."""
    cut_off: bool = False
    """The robot began to answer before the question's last sample."""


@dataclass(slots=True)
class Stage:
    """A robot that listens in a hall."""

    hall: Hall
    listening_after_s: float
    lines: "asyncio.Queue[dict[str, Any]]"
    process: asyncio.subprocess.Process
    floors: list[tuple[float, str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)
    """All that have ended."""

    async def asked(self, pcm: bytes, level_db: float | None = SPEECH_DB) -> Asked | None:
        """The same as `ask`; None where no turn comes of it."""
        with contextlib.suppress(TimeoutError):
            return await self.ask(pcm, level_db)
        return None

    async def ask(self, pcm: bytes, level_db: float | None = SPEECH_DB) -> Asked:
        """Says something to the robot and waits until its turn has ended. Raises TimeoutError where none does."""
        await self.settled()
        spoken = self.hall.say(pcm, level_db)
        await spoken.over()
        line = await self.turn()
        first = self.first_sound_after(spoken.last_at)
        milliseconds = None if first is None else (first - spoken.last_at) * 1000
        early = self.first_sound_after(spoken.first_at)
        cut_off = early is not None and early < spoken.last_at
        asked = Asked(spoken, line["turn"], line["plan"], line["gave_way"], milliseconds, spoken.first_at, cut_off)
        await asyncio.sleep(SETTLE_S)
        return asked

    def first_sound_after(self, moment: float) -> float | None:
        """When the loudspeaker first sounds after a moment."""
        begin, samples = self.hall.heard_since(moment)
        at = detect.first_sound(samples, RATE_HZ, max(0.0, moment - begin))
        return None if at is None else begin + at

    def played_since(self, moment: float) -> tuple[float, Samples]:
        return self.hall.heard_since(moment)

    async def settled(self) -> None:
        """Returns when nobody has the floor, or after SETTLE_SECONDS_MAX; turns that ended meanwhile are waited for no more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS_MAX):
                while self.floors and self.floors[-1][1] != "listening":  # noqa: ASYNC110  it is told by another process, in lines
                    await asyncio.sleep(POLL_SECONDS)
        while not self.lines.empty() and "gone" not in self.lines.get_nowait():
            pass
        if self.process.returncode is not None:
            raise EngineFailed("the robot on the stage has ended", "look at its stderr above")

    async def turn(self, seconds: float = TURN_SECONDS_MAX) -> dict[str, Any]:
        """The next turn that ends. Raises TimeoutError where none does."""
        return await self._next("turn", seconds)

    async def health(self) -> dict[str, Any]:
        """What the robot says of itself, with its memory."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        await self.process.stdin.drain()
        return await self._next("health", TURN_SECONDS_MAX)

    async def _next(self, kind: str, seconds: float) -> dict[str, Any]:
        async with asyncio.timeout(seconds):
            while True:
                line = await self.lines.get()
                if "gone" in line:
                    self.lines.put_nowait(line)  # for whoever asks again
                    raise EngineFailed("the robot on the stage has ended", "look at its stderr above")
                if kind in line:
                    return line


async def _read(stage: Stage) -> None:
    assert stage.process.stdout is not None
    async for text in stage.process.stdout:
        line = json.loads(text)
        if "floor" in line:
            stage.floors.append((line["at"], line["floor"]))
        elif "said" in line:
            stage.said.append(line["said"])
        else:
            stage.turns += [line["turn"]] if "turn" in line else []
            stage.lines.put_nowait(line)
    stage.lines.put_nowait({"gone": True})


@contextlib.asynccontextmanager
async def staged(profile: str | Path, state: Path, environment: Mapping[str, str] | None = None) -> AsyncIterator[Stage]:
    """Everything running, the robot listening; `environment` overrides keys of its profile."""
    async with SoundServer() as server, Hall(server) as hall:
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "agent.bench.talk.robot", str(profile), str(state)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | server.environment() | dict(environment or {}),
        )
        stage = Stage(hall, 0.0, asyncio.Queue(), process)
        reading = asyncio.create_task(_read(stage))
        try:
            line = await stage._next("listening", START_SECONDS_MAX)
            stage.listening_after_s = line["listening"] - began
            yield stage
        except TimeoutError as error:
            raise EngineFailed("the robot on the stage says nothing any more", "look at its stderr above") from error
        finally:
            await _stopped(stage, reading)


async def _stopped(stage: Stage, reading: "asyncio.Task[None]") -> None:
    """The robot ends as one that is told to, and what it said last is still read."""
    process = stage.process
    assert process.stdin is not None
    process.stdin.close()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), STOP_SECONDS_MAX)
    if process.returncode is None:
        process.kill()
        await process.wait()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(reading, STOP_SECONDS_MAX)
