"""Plays a scenario for real and shows it meanwhile: a table that stays in its place on a terminal, a line every few seconds elsewhere."""

import asyncio
import contextlib
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from agent.clock import Clock
from agent.errors import NoLink, VoxmeterError
from agent.sim.real.world import RealWorld
from agent.sim.world.checks import Report, check_names
from agent.sim.world.play import play
from agent.sim.world.scenario import Scenario

LOOK_S = 1.0
"""Between two looks; each asks every robot."""

LINE_S = 5.0
"""Between two lines where the output is no terminal."""

BAR_CELLS = 30


@dataclass(frozen=True, slots=True)
class Moment:
    """What there is to see of a world."""

    phase: str
    seconds: float
    link: str
    running: int
    dark: int
    clones: int
    turns: int
    backlog: int
    acked: int
    ways: Counter[str] = field(default_factory=Counter)
    """Robots by the link they use."""
    says: int = 0
    """Lines of robots in the log."""

    def line(self) -> str:
        """All of it in one line."""
        ways = " ".join(f"{name} {count}" for name, count in sorted(self.ways.items()))
        robots = f"{self.running} on, {self.dark} dark" + (f", {self.clones} cloned" if self.clones else "")
        told = f"robots {robots} | turns {self.turns} | backlog {self.backlog} | acked {self.acked} | link {self.link}"
        return f"{self.seconds:4.0f} s  {told} | {ways or 'no way yet'} | {self.phase}"

    def table(self) -> Table:
        """All of it below each other."""
        table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
        ways = ", ".join(f"{count} over {name}" for name, count in sorted(self.ways.items()))
        total = self.acked + self.backlog
        filled = BAR_CELLS * self.acked // total if total else 0
        rows = {
            "phase": self.phase,
            "time": f"{self.seconds:.0f} s",
            "link": self.link,
            "robots": f"{self.running} on, {self.dark} dark, {self.clones} cloned; {ways}",
            "turns": str(self.turns),
            "acked": f"{'█' * filled}{'░' * (BAR_CELLS - filled)} {self.acked} records, {self.backlog} to go",
            "robots say": f"{self.says} lines in the log",
        }
        for name, cell in rows.items():
            table.add_row(name, cell)
        return table


class View:
    """What a person sees of one run."""

    def __init__(self, world: RealWorld, console: Console, clock: Clock) -> None:
        self._world, self._console, self._clock = world, console, clock
        self._began = clock.monotonic()
        self._phase = "starting"

    def say(self, phase: str) -> None:
        """Another part of the story begins."""
        self._phase = phase
        if not self._console.is_terminal:
            self._console.print(f"{self._clock.monotonic() - self._began:4.0f} s  {phase}")

    @contextlib.asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Shows it while it is open."""
        showing = asyncio.ensure_future(self._live() if self._console.is_terminal else self._lines())
        try:
            yield
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)

    def moment(self) -> Moment:
        """As of the last look."""
        bodies = self._world.bodies
        seen = [body.seen for body in bodies]
        devices = {body.identity.device for body in bodies}
        dark = sum(body.dark for body in bodies)
        return Moment(
            phase=self._phase,
            seconds=self._clock.monotonic() - self._began,
            link=_told(self._world),
            running=len(bodies) - dark,
            dark=dark,
            clones=len(bodies) - len(devices),
            turns=sum(one.turns for one in seen),
            backlog=sum(one.backlog for one in seen),
            acked=self._world.acked,
            ways=Counter(one.link for one in seen if one.link),
            says=self._world.says,
        )

    async def _live(self) -> None:
        with Live(self.moment().table(), console=self._console, auto_refresh=False, transient=True) as live:
            await self._again(LOOK_S, lambda: live.update(self.moment().table(), refresh=True))

    async def _lines(self) -> None:
        await self._again(LINE_S, lambda: self._console.print(self.moment().line()))

    async def _again(self, pause_s: float, show: Callable[[], None]) -> None:
        while True:
            await self._clock.sleep(pause_s)
            with contextlib.suppress(NoLink):  # whoever plays the story hears of a robot that ended by itself
                await asyncio.gather(*(body.look() for body in self._world.bodies))
            show()


def _told(world: RealWorld) -> str:
    """The weather in a few words."""
    sky = world.sky
    shares = {"refused": sky.drop, "half open": sky.half_open, "cut a second": sky.cut}
    told = [f"{share:.0%} {name}" for name, share in shares.items() if share]
    told += [f"{sky.delay_ms:g} ms" for _ in range(sky.delay_ms > 0)]
    return ("good" if not told else ", ".join(told)) if sky.up else "none"


async def run_real(
    story: Scenario, devices: int, seed: int, *, console: Console, clock: Clock, folder: Path, real: int = 0, keep: bool = False
) -> Report:
    """The whole story with so many robots, `real` of them with real engines, in a new folder inside `folder`.

    Raises a VoxmeterError where the world itself fails.
    """
    check_names(story)
    place = Path(tempfile.mkdtemp(prefix="voxmeter-", dir=folder))
    world = RealWorld(devices, seed, place, clock, story=story, real=real, keep=keep)
    view = View(world, console, clock)
    try:
        async with view.shown():
            return await play(story, world, seed, view.say)
    except BaseExceptionGroup as group:
        raise _first(group) from group
    finally:
        if keep:
            console.print(f"kept: {place}")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What failed first of what failed together; what a person can act on before anything else."""
    flat = [_first(one) if isinstance(one, BaseExceptionGroup) else one for one in group.exceptions]
    return next((one for one in flat if isinstance(one, VoxmeterError)), flat[0])
