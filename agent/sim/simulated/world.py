"""The whole world in one process and one virtual time: robots with real books and sync, a played broker and network, the real ingest."""

import asyncio
import datetime
import resource
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from agent.billing.ledger.sqlite import restore
from agent.clock import seeded
from agent.ports import Acked, Link
from agent.sim.simulated.backend import Backend
from agent.sim.simulated.broker import Broker
from agent.sim.simulated.fleet.desk import Desk
from agent.sim.simulated.fleet.enrolled import Enrolled
from agent.sim.simulated.fleet.hijack import Hijack
from agent.sim.simulated.links import SimulatedHttps, SimulatedMqtt
from agent.sim.simulated.network import Network, Trace
from agent.sim.world.evidence import Body, Evidence, Heard, by_device
from agent.sim.world.fleet.steered import STEP_S_MAX, Steered, Whom, profile_toml
from agent.sim.world.inline import InlineWriter
from agent.sim.world.loop import RobotClock
from agent.sim.world.play import backups, lose_newest
from agent.sim.world.robot import Robot, Say
from agent.sim.world.scenario import Weather
from agent.sim.world.witnessed import before_pruning, copied
from agent.store.ledger.chain import Identity

TENANT, ACCOUNT = "demo", "hotel"

FILES_A_ROBOT = 8
"""Descriptors: the ledger, its log, their index, the lock, what keeps SQLite's locks; and an earlier epoch's while it is sent."""

HOUR_S = 3600.0

DOWN_S_MIN = 0.1
"""A backend that is restored is down at least so long: its files are changed in the middle of it."""

BACKEND, OPERATOR = "backend", "~operator"
"""Has a clock as well: a day that passes, passes for all."""

CLONE = "~clone"
"""Stands behind the name of the robot whose card was copied."""


class SimulatedWorld:
    """Implements `play.World`. Everything in it follows from its seed."""

    def __init__(
        self,
        devices: int,
        seed: int,
        folder: Path,
        say: Say = lambda _: None,
        *,
        orders: bool = False,
        certificates: bool = False,
        untrusted_clocks: float = 0,
    ) -> None:
        """`folder`: a new one, on a RAM disk if there is one; whoever made it removes it. Made inside a `VirtualLoop`.

        `orders`: an operator steers the robots; `certificates`: theirs end.
        `untrusted_clocks`: the share of them whose clock nobody can trust.
        """
        self._folder, self._seed, self._say = folder, seed, say
        self.trace = Trace()
        self._network = Network(seed + 1, self.trace)
        self._broker = Broker(self.trace)
        self._clocks = {BACKEND: RobotClock(seed + 2), OPERATOR: RobotClock(seed + 4)}
        self._backend = Backend(folder / "backend", self._clocks[BACKEND], seed + 3, self._broker, self.trace, vouches=certificates)
        self._enrolled = Enrolled(self._network, self._backend, self._clocks[BACKEND], seeded(seed + 7)) if certificates else None
        self._robots: dict[str, Robot] = {}
        self._steered: dict[str, Steered] = {}
        self._numbers = 0
        self._untrusted = round(devices * untrusted_clocks)
        self._desk = Desk(TENANT, self._clocks[OPERATOR], seed + 5, self._broker) if orders else None
        self._hijack = Hijack(TENANT, self._broker, self._backend, self._desk, seeded(seed + 6)) if self._desk is not None else None
        self._says: dict[str, list[str]] = {}
        for number in range(1, devices + 1):
            self._made(f"sim-{number:04d}", f"sim-{number:04d}")
        _allow_files(devices * FILES_A_ROBOT)

    @property
    def robots(self) -> Sequence[str]:
        return list(self._robots)

    async def start(self) -> None:
        await self._backend.start()
        if self._desk is not None:
            self._desk.start()
        if self._enrolled is not None:
            await self._enrolled.enrol(self._robots, self._clocks)
        for robot in self._robots.values():
            await robot.start()
            if self._enrolled is None:
                await self._backend.register(TENANT, robot.identity.device, ACCOUNT, robot.ledger.keys.current.public)

    async def sleep(self, seconds: float) -> None:
        await asyncio.tasks.sleep(max(seconds, 0))

    async def weather(self, weather: Weather) -> None:
        self.trace.note("weather", weather)
        self._network.turn(weather)
        if weather.up and self._enrolled is not None:
            self._enrolled.link_back(self._robots.values())

    async def leap(self, hours: float) -> None:
        self.trace.note("leap", hours)
        for clock in self._clocks.values():
            clock.leap(hours * HOUR_S)

    async def turn(self, robot: str) -> None:
        await self._robots[robot].turn()

    async def order(self, robot: str) -> None:
        if self._desk is not None:
            self._desk.order(self._robots[robot].identity.device)

    async def cut_power(self, robot: str, down_s: float) -> None:
        if self._robots[robot].dark:
            return
        self.trace.note("power cut", robot)
        await self._robots[robot].cut_power()
        if self._enrolled is not None:
            self._enrolled.power_cut(self._robots[robot])
        await asyncio.tasks.sleep(down_s)
        self._clocks[robot].reboot()
        await self._robots[robot].start()

    async def step_clock(self, robot: str, hours: float) -> None:
        self.trace.note("clock stepped", robot, hours)
        self._clocks[robot].step_wall(datetime.timedelta(hours=hours))

    async def clone_robot(self, robot: str) -> str:
        self.trace.note("cloned", robot)
        name = robot + CLONE * (1 + sum(other.startswith(robot + CLONE) for other in self._robots))
        original = self._robots[robot]
        copied(original.state, self._folder / name)
        await self._made(name, original.identity.device).start()
        return name

    async def prune_robot(self, robot: str) -> None:
        self.trace.note("pruned", robot)
        await self._robots[robot].prune()

    async def kill_backend(self, down_s: float) -> None:
        await self._backend.kill(down_s)

    async def backup_backend(self) -> None:
        await self._backend.backup()

    async def lose_backup(self) -> None:
        self.trace.note("backup lost", lose_newest(self._folder))

    async def restore_backend(self, down_s: float) -> None:
        if not (held := backups(self._folder)):
            return
        killing = asyncio.ensure_future(self._backend.kill(max(down_s, DOWN_S_MIN)))
        await asyncio.tasks.sleep(max(down_s, DOWN_S_MIN) / 2)  # its files are in order by now; it starts at the end
        self.trace.note("backend restored")
        restore(held[-1], self._backend.folder)
        await killing

    async def kill_broker(self, down_s: float) -> None:
        await self._broker.kill(down_s)

    async def broker_forgets(self, down_s: float) -> None:
        await self._broker.kill(down_s, forget=True)

    async def hijack_robot(self, robot: str) -> None:
        if self._hijack is not None and not self._robots[robot].dark:
            others = [one.identity.device for one in self._robots.values() if one.identity.device != self._robots[robot].identity.device]
            await self._hijack.robot(self._robots[robot], others[0])

    async def hijack_broker(self, down_s: float) -> None:
        if self._hijack is not None:
            await self._hijack.broker(down_s)

    async def revoke_robot(self, robot: str) -> None:
        if self._enrolled is not None:
            await self._enrolled.revoke(self._robots[robot])

    async def backlog(self) -> Mapping[str, int]:
        return {name: await self._waiting(robot) for name, robot in self._robots.items()}

    async def _waiting(self, robot: Robot) -> int:
        device, enrolled = robot.identity.device, self._enrolled
        if enrolled is not None and device in enrolled.revoked:
            return 0
        unanswered = self._desk.operator.waiting[device] if self._desk is not None else 0
        return await robot.backlog() + unanswered + (enrolled is not None and enrolled.unsettled(robot))

    async def evidence(self) -> Evidence:
        left = await self.backlog()
        robots, enrolled = self._robots.values(), self._enrolled
        certificates = enrolled.evidence(robots) if enrolled is not None else {}
        for robot in robots:
            await robot.stop()
        await self._backend.aclose()
        heard: list[Heard] = [one for robot in robots for one in robot.heard]
        figures = {"asked_at_once_max": self._backend.asked_at_once_max, "events": self.trace.events}
        return Evidence(
            bodies=[Body(one.name, one.identity.device, state) for one in robots for state in (one.state, *before_pruning(one.state))],
            backend=self._backend.folder,
            heard=heard,
            backlog=left,
            in_flight_max={robot.name: robot.in_flight_max for robot in robots},
            over_window={robot.name: robot.over_window for robot in robots},
            orders=list(self._desk.operator.orders.values()) if self._desk is not None else (),
            did=by_device((self._robots[name].identity.device, steered.did) for name, steered in self._steered.items()),
            attacks=self._hijack.attacks if self._hijack is not None else (),
            says=self._says,
            clocks={robot.identity.device: self._off_s(name) for name, robot in self._robots.items()},
            certificates=certificates,
            figures=figures | ({"cut_in_renewal": enrolled.halfway} if enrolled is not None else {}),
        )

    def _off_s(self, robot: str) -> float:
        return (self._clocks[robot].utc() - self._clocks[BACKEND].utc()).total_seconds()

    async def aclose(self) -> None:
        for robot in self._robots.values():
            await robot.stop()
        await self._backend.aclose()
        if self._desk is not None:
            await self._desk.aclose()
        await self._broker.aclose()

    def _made(self, name: str, device: str) -> Robot:
        self._numbers += 1
        seed = self._seed * 10_007 + self._numbers
        clock = self._clocks[name] = RobotClock(seed, quality="floor" if self._numbers <= self._untrusted else "ntp")
        steered = self._steers(device, clock, seed) if self._desk is not None else None
        if steered is not None:
            self._steered[name] = steered
        identity = Identity(TENANT, device, ACCOUNT)

        def say(line: str) -> None:
            self._noted(device, line)

        robot = Robot(
            name,
            self._folder / name,
            identity,
            clock,
            seed=seed,
            links=lambda heard: self._links(identity, clock, heard, steered),
            trusted=lambda: self._backend.trusted,
            say=say,
            writer=InlineWriter,
            steered=steered,
            certified=self._enrolled.certified(identity, clock, say) if self._enrolled is not None else None,
        )
        self._robots[name] = robot
        return robot

    def _steers(self, device: str, clock: RobotClock, seed: int) -> Steered:
        assert self._desk is not None
        operator, chance = self._desk.operator, seeded(seed + 1)
        whom = Whom(lambda: operator.trusted, lambda: self._backend.trusted)
        profile = profile_toml(TENANT, device, ACCOUNT, {})
        return Steered(profile, clock, lambda: chance.uniform(0, STEP_S_MAX), lambda line: self._noted(device, line), whom=whom)

    def _noted(self, device: str, line: str) -> None:
        self._says.setdefault(device, []).append(line)
        self._say(line)

    def _links(self, identity: Identity, clock: RobotClock, heard: Callable[[Acked], None], steered: Steered | None) -> Sequence[Link]:
        steering = steered.steering if steered is not None else None
        refused: Callable[[], str] = str
        api_key = ""
        if self._enrolled is not None:
            refused, api_key = self._enrolled.refused(lambda: self._robots[identity.device]), self._enrolled.api_key(identity.device)
        mqtt = SimulatedMqtt(self._network, self._broker, identity, clock, heard, steering=steering, refused=refused)
        return [mqtt, SimulatedHttps(self._network, self._backend, identity, api_key)]


def _allow_files(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted + 200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted + 200, hard), hard))
