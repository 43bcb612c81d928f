"""One robot as the world holds it: its folder, its clock's leaps, and the process that runs on it, if it isn't dark.

dark -> start -> running -> cut (SIGKILL) | finish (in good order) -> dark
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.clock import ClockQuality
from agent.errors import NoLink
from agent.sim.real.device.settings import Settings, Way
from agent.sim.real.process import Child
from agent.sim.world.evidence import Heard
from agent.sim.world.robot import Say
from agent.sim.world.witnessed import copied

START_SECONDS_MAX = 60
"""To be registered and ready: with twenty others on two cores that took up to 10."""

FINISH_SECONDS_MAX = 15

LOOK_SECONDS_MAX = 10
"""To say how it is; who is busier than that has something left to send."""

HOUR_S = 3600.0

MODULE = "agent.sim.real.device"


@dataclass(slots=True)
class Seen:
    """How a robot was when it was last looked at."""

    backlog: int = 1
    turns: int = 0
    in_flight_max: int = 0
    over_window: int = 0
    link: str = ""
    problem: str = ""
    certificate: str = ""
    """How it stands with it, where it keeps one."""
    over_mqtt: bool = False
    mute: int = 0
    off_s: float = 0.0
    """By how much its wall clock is wrong."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who it says it is; a clone says the same."""

    tenant: str
    device: str
    account: str
    token: str = field(repr=False)


class RobotProcess:
    """A body of a robot."""

    def __init__(self, name: str, folder: Path, identity: Identity, *, seed: int, ways: Sequence[Way], leapt_s: float, say: Say) -> None:
        """`leapt_s`: where its clock begins, against the machine's."""
        self.name, self.folder, self.identity = name, folder, identity
        self.heard: list[Heard] = []
        self.seen = Seen()
        self.starts = 0
        self.wavs: Sequence[str] = ()
        """What guests ask it, if it has real engines."""
        self.steered = False
        """An operator commands it."""
        self.certified = False
        """It keeps its certificate itself."""
        self.words: set[str] = set()
        """What the broker said of its certificates."""
        self.quality: ClockQuality = "ntp"
        self.did: Counter[tuple[str, str]] = Counter()
        """(what, its command's id) -> how often, over all lives."""
        self.said: list[str] = []
        self.ways = ways
        self._seed, self._say = seed, say
        self._leapt_s, self._stepped_s = leapt_s, 0.0
        self._child: Child | None = None
        self._ready = asyncio.Event()
        self._before = Seen()
        self._over = False
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def dark(self) -> bool:
        return self._child is None

    @property
    def acked(self) -> Counter[tuple[str, str]]:
        """By device and epoch, the highest sequence that an ack it took speaks of."""
        most: Counter[tuple[str, str]] = Counter()
        for heard in self.heard:
            most[self.identity.device, heard.epoch] = max(most[self.identity.device, heard.epoch], heard.cum_ack)
        return most

    async def start(self, hurry: float) -> None:
        """Returns when it is registered and runs. Raises NoLink with its last words if it doesn't come so far."""
        told = self.identity
        settings = Settings(
            name=self.name,
            folder=str(self.folder),
            tenant=told.tenant,
            device=told.device,
            account=told.account,
            token=told.token,
            seed=self._seed + self.starts,
            starts=self.starts,
            steered=self.steered,
            certified=self.certified,
            quality=self.quality,
            ways=self.ways,
            leapt_s=self._leapt_s,
            stepped_s=self._stepped_s,
            hurry=1 if self.wavs else hurry,  # real engines need their real time
            wavs=self.wavs,
        )
        config = self.folder / "config.json"
        config.write_bytes(settings.written())
        self.starts += 1
        self._ready.clear()
        self._before = self.seen
        child = await Child.start([sys.executable, "-P", "-m", MODULE, str(config)], self.folder / "log", self._unasked)
        self._child = child
        try:
            await child.until(self._ready, START_SECONDS_MAX)
        except NoLink:
            if self._child is child:
                raise
            # else power was cut before it was ready, and whoever cut it starts it again

    async def cut(self) -> bool:
        """Power gone; False if it was dark already."""
        child, self._child = self._child, None
        if child is not None:
            await child.kill()
        return child is not None

    async def finish(self) -> None:
        """In good order, for the last time."""
        self._over = True
        child, self._child = self._child, None
        if child is not None:
            await child.finish(FINISH_SECONDS_MAX)

    async def turn(self) -> None:
        await self._told("turn")

    async def prune(self) -> None:
        await self._told("prune")

    async def leap(self, seconds: float) -> None:
        self._leapt_s += seconds
        await self._told("leap", seconds=seconds)

    async def step(self, seconds: float) -> None:
        self._stepped_s += seconds
        await self._told("step", seconds=seconds)

    async def look(self) -> Seen:
        """How it is now; a dark one has something left to send, for all that anybody knows."""
        told = None
        try:
            async with asyncio.timeout(LOOK_SECONDS_MAX):
                told = await self._told("look")
        except TimeoutError:
            self._say(f"{self.name} is too busy to say how it is")
        if told is None and not self._over:
            self.seen.backlog = max(1, self.seen.backlog)
        elif told is not None:
            before, status = self._before, told["status"]
            self.seen = Seen(
                backlog=told["backlog"],
                turns=before.turns + told["turns"],
                in_flight_max=max(before.in_flight_max, told["in_flight_max"]),
                over_window=before.over_window + told["over_window"],
                link=status.get("link", ""),
                problem=status.get("problem", ""),
                certificate=told["certificate"],
                over_mqtt=told["over_mqtt"],
                mute=before.mute + told["mute"],
                off_s=told["off_s"],
            )
        return self.seen

    def copy(self, target: Path) -> None:
        """Its card as it is at one moment, which a stopped process holds still."""
        target.mkdir(parents=True, mode=0o700)
        if self._child is not None:
            self._child.freeze()
        try:
            copied(self.state, target / "state")
        finally:
            if self._child is not None:
                self._child.thaw()

    async def _told(self, op: str, **more: Any) -> Any:
        """What it answers; None if it is dark or power is cut meanwhile. Raises NoLink if it ends by itself."""
        if (child := self._child) is None:
            return None
        try:
            return await child.ask(op, **more)
        except NoLink as error:
            if self._child is child:
                raise NoLink(f"{self.name}: {error.message}", error.todo) from error
            return None

    def _unasked(self, told: dict[str, Any]) -> None:
        if "heard" in told:
            self.heard.append(Heard(*told["heard"]))
        elif "did" in told:
            what, how = told["did"]
            self.did[what, how] += 1
        elif "word" in told:
            self.words.add(told["word"])
        elif "ready" in told:
            self._ready.set()
        else:
            self.said.append(told.get("say", ""))
            self._say(f"{self.name}: {self.said[-1]}")
