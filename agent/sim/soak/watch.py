"""Runs the soak: starts the robot, lets guests visit it, and looks at its processes every few seconds until the time is up."""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agent import fitting
from agent import profile as profiles
from agent.clock import Clock
from agent.dialog.faq.book import read
from agent.errors import NoLink
from agent.sim.real.process import Child
from agent.sim.soak import judge
from agent.sim.soak.guests import Clip, Visit, clips, visits
from agent.sim.soak.look import LOOKS, Sample, Seen, counts, held_by
from agent.store.verify import verify_books

SAMPLE_SECONDS = 10.0

POLL_SECONDS = 0.05

START_SECONDS_MAX, STOP_SECONDS_MAX = 60.0, 30.0

ANSWER_SECONDS_MAX = 40.0
"""What is said may not be taken for speech, and an answer is not longer."""

UNHEARD_SECONDS = 4.0
"""After which nobody waits for an answer to a noise."""


class Hotel:
    """A robot and its guests."""

    def __init__(self, child: Child, seen: Seen, heard: list[Clip], clock: Clock) -> None:
        self._child, self._seen, self._clips, self._clock = child, seen, heard, clock

    async def receive(self, visit: Visit) -> None:
        """From the quiet before a visit to the end of its last answer."""
        self._seen.visits += 1
        await self._clock.sleep(visit.wait_s)
        before = self._seen.turns
        await self._say(visit.say)
        if visit.then is not None:
            await self._until(lambda: self._seen.floor == "speaking", UNHEARD_SECONDS)
            await self._clock.sleep(visit.then_s)
            await self._say(visit.then)
        await self._until(lambda: self._seen.turns > before, UNHEARD_SECONDS if self._quiet() else ANSWER_SECONDS_MAX)
        await self._until(self._quiet, ANSWER_SECONDS_MAX)

    async def look(self, began: float) -> None:
        """Adds a sample."""
        processes: dict[str, int] = (await self._child.ask("look"))["processes"]
        looks: dict[str, list[tuple[int, int]]] = {part: [] for part in processes}
        for _ in range(LOOKS):
            for part, process in processes.items():
                looks[part].append(counts(process))
            await self._clock.sleep(POLL_SECONDS)
        held = {part: held_by(process, looks[part]) for part, process in processes.items()}
        self._seen.samples.append(Sample(self._clock.monotonic() - began, held))

    def _quiet(self) -> bool:
        return self._seen.floor == "listening"

    async def _say(self, clip: int) -> None:
        await self._child.ask("say", clip=clip)
        await self._clock.sleep(self._clips[clip].seconds)

    async def _until(self, reached: Callable[[], bool], seconds_max: float) -> None:
        until = self._clock.monotonic() + seconds_max
        while not reached() and self._clock.monotonic() < until:
            await self._clock.sleep(POLL_SECONDS)


async def soak(profile: str, seed: int, minutes: float, folder: Path, *, clock: Clock, told: Callable[[str], None]) -> dict[str, Any]:
    """The report of a robot that was visited for so long, see `judge.told`; `folder` takes its state."""
    seen = await watch(profile, seed, minutes * 60, folder, clock=clock, told=told)
    return judge.told(seed, minutes, seen, await asyncio.to_thread(verify_books, folder / "state"))


async def watch(profile: str, seed: int, seconds: float, folder: Path, *, clock: Clock, told: Callable[[str], None]) -> Seen:
    """A robot with its state in `folder`, for so long; `told` takes a line now and then. Raises NoLink where it does not start."""
    heard = await asyncio.to_thread(_prepared, profile, seed, folder)
    seen = Seen()
    command = (sys.executable, "-P", "-m", "agent.sim.soak.robot", profile, str(folder / "state"), str(folder), str(seed))
    child = await Child.start(command, folder / "robot.log", seen.take)
    try:
        await child.until(seen.listening, START_SECONDS_MAX)
        hotel = Hotel(child, seen, heard, clock)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await _both(_guests(hotel, heard, seed), _looks(hotel, seen, clock, told))
    except NoLink as error:
        if not seen.samples:
            raise
        seen.failed = str(error)
    finally:
        await child.finish(STOP_SECONDS_MAX)
    return seen


def _prepared(profile: str, seed: int, folder: Path) -> list[Clip]:
    """Clips, also written into the folder for the robot to play."""
    heard = clips(read(fitting.faq_path(profiles.load(profile))), seed)
    for number, clip in enumerate(heard):
        (folder / f"{number}.s16").write_bytes(clip.pcm)
    return heard


async def _both(*work: Awaitable[None]) -> None:
    """Until either fails."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _guests(hotel: Hotel, heard: list[Clip], seed: int) -> None:
    for visit in visits(heard, seed):
        await hotel.receive(visit)


async def _looks(hotel: Hotel, seen: Seen, clock: Clock, told: Callable[[str], None]) -> None:
    began = clock.monotonic()
    while True:
        await hotel.look(began)
        sample = seen.samples[-1]
        parts = ", ".join(f"{part} {one.pss_mb:.1f}" for part, one in sample.held.items())
        told(f"{sample.at_s:.0f} s: {seen.turns} turns, {sample.sum('pss_mb'):.1f} MB: {parts}")
        await clock.sleep(max(0.0, began + len(seen.samples) * SAMPLE_SECONDS - clock.monotonic()))
