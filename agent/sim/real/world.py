"""The world for real: mosquitto, `voxmeter billing serve`, a proxy before each, and a process per robot, all on loopback.

Implements `play.World`. Whatever happens, `aclose` ends every process and removes the folder, unless it is to be kept.
"""

import asyncio
import contextlib
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.clock import Clock, seeded
from agent.sim.real.backend import Backend
from agent.sim.real.broker import Broker
from agent.sim.real.device.clock import LeapingClock
from agent.sim.real.device.settings import Way
from agent.sim.real.fleet.desk import OPERATOR_NAME, Desk
from agent.sim.real.fleet.enrolled import Enrolled
from agent.sim.real.fleet.hijack import Hijack
from agent.sim.real.proxy import Proxy
from agent.sim.real.proxy import Weather as Line
from agent.sim.real.robot import HOUR_S, Identity, RobotProcess
from agent.sim.world.evidence import Body, Evidence, Heard, by_device
from agent.sim.world.play import lose_newest
from agent.sim.world.scenario import Scenario, Weather
from agent.sim.world.witnessed import before_pruning

TENANT, ACCOUNT = "demo", "hotel"

CLONE = "~clone"
"""Stands behind the name of the robot whose card was copied."""

HURRY = 3.0
"""Robots' time-outs end so much sooner: half a minute's patience fits into a scenario several times, and two cores still keep up."""

STARTING_MAX = 4
"""Robots that start at once; more only keep each other from it."""


class RealWorld:
    """Everything there is, in one folder."""

    def __init__(self, devices: int, seed: int, folder: Path, clock: Clock, story: Scenario, *, real: int = 0, keep: bool = False) -> None:
        """`folder`: a new one. Robots' clocks begin as far behind as `story` makes them leap, to end at the present.

        `real`: how many of the robots have real engines; they need weights.
        """
        self._leapt_s = -HOUR_S * sum(phase.leap_hours for phase in story.phase)
        self._folder, self._seed, self._clock, self._keep = folder, seed, clock, keep
        self._real, self._story, self._untrusted = real, story, round(devices * story.untrusted_clocks)
        self._operators_clock = LeapingClock(leapt_s=self._leapt_s)
        self._desk: Desk | None = None
        self._enrolled: Enrolled | None = None
        self._hijack: Hijack | None = None
        self._names = [f"sim-{number:04d}" for number in range(1, devices + 1)]
        self._bodies: dict[str, RobotProcess] = {}
        self._starting = asyncio.Semaphore(STARTING_MAX)
        self._broker: Broker | None = None
        self._backend: Backend | None = None
        self._proxies: list[Proxy] = []
        self.sky = Weather()
        """How the link is now."""
        self.says = 0  # lines in says.log

    @property
    def robots(self) -> Sequence[str]:
        return list(self._bodies) or self._names

    @property
    def bodies(self) -> Sequence[RobotProcess]:
        return list(self._bodies.values())

    @property
    def broker(self) -> Broker:
        assert self._broker is not None
        return self._broker

    @property
    def backend(self) -> Backend:
        assert self._backend is not None
        return self._backend

    @property
    def acked(self) -> int:
        """Records of all devices and epochs that somebody has an ack for."""
        most: Counter[tuple[str, str]] = Counter()
        for body in self.bodies:
            most |= body.acked
        return most.total()

    async def start(self) -> None:
        self._broker = await asyncio.to_thread(Broker, self._folder / "broker", operators=[OPERATOR_NAME])
        await asyncio.to_thread(self.broker.start)
        self._backend = Backend(self._folder / "backend", self.broker)
        await self.backend.start()
        if self._story.orders:
            await self._steer()
        if self._story.certificates:
            self._enrolled = Enrolled(self._folder / "certificates", self.broker, self.backend, self._clock)
            await self._enrolled.start()
        for number, port in enumerate((lambda: self.broker.port, lambda: self.backend.port)):
            proxy = Proxy(port, self._clock, self._seed * 2 + number)
            self._proxies.append(proxy)
            await proxy.start()
        for number, name in enumerate(self._names):
            token = await self.backend.token(TENANT, name, ACCOUNT)
            body = self._made(name, Identity(TENANT, name, ACCOUNT, token), self._ways(name))
            body.steered, body.certified = self._story.orders, self._story.certificates
            body.quality = "floor" if number < self._untrusted else "ntp"
        if self._real:
            from agent.sim.hotel import questions  # noqa: PLC0415  a voice engine and weights, only for real engines

            wavs = await asyncio.to_thread(questions, self._folder / "guests")
            for body in self.bodies[: self._real]:
                body.wavs = wavs
        async with asyncio.TaskGroup() as together:
            for body in self.bodies:
                together.create_task(self._start(body))

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(max(seconds, 0))

    async def weather(self, weather: Weather) -> None:
        self.sky = weather
        line = Line(
            up=weather.up,
            refuse=weather.drop,
            hold=weather.half_open,
            cut_a_second=weather.cut,
            jitter_ms=round(weather.delay_ms * 2),  # evenly between nothing and twice as much
        )
        for proxy in self._proxies:
            proxy.turn(line)
        if weather.up and self._enrolled is not None:
            await asyncio.to_thread(self._enrolled.link_back, self.bodies)

    async def leap(self, hours: float) -> None:
        self._leapt_s += hours * HOUR_S
        self._operators_clock.leap(hours * HOUR_S)
        await asyncio.gather(*(body.leap(hours * HOUR_S) for body in self.bodies))

    async def turn(self, robot: str) -> None:
        await self._bodies[robot].turn()

    async def order(self, robot: str) -> None:
        if self._desk is not None:
            self._desk.operator.order(self._bodies[robot].identity.device)

    async def cut_power(self, robot: str, down_s: float) -> None:
        body = self._bodies[robot]
        if await body.cut():
            if self._enrolled is not None:
                self._enrolled.power_cut(body)
            await self.sleep(down_s)
            await self._start(body)

    async def step_clock(self, robot: str, hours: float) -> None:
        await self._bodies[robot].step(hours * HOUR_S)

    async def clone_robot(self, robot: str) -> str:
        original = self._bodies[robot]
        name = robot + CLONE * (1 + sum(other.startswith(robot + CLONE) for other in self._bodies))
        await asyncio.to_thread(original.copy, self._place(name))
        body = self._made(name, original.identity, original.ways)
        body.wavs = original.wavs
        await self._start(body)
        return name

    async def prune_robot(self, robot: str) -> None:
        await self._bodies[robot].prune()

    async def kill_backend(self, down_s: float) -> None:
        await self.backend.kill()
        await self.sleep(down_s)
        await self.backend.start()

    async def backup_backend(self) -> None:
        await self.backend.backup()

    async def lose_backup(self) -> None:
        await asyncio.to_thread(lose_newest, self._folder / "backend")

    async def restore_backend(self, down_s: float) -> None:
        await self.backend.kill()
        await self.sleep(down_s)
        await asyncio.to_thread(self.backend.restore)
        await self.backend.start()

    async def kill_broker(self, down_s: float) -> None:
        await asyncio.to_thread(self.broker.kill)
        await self.sleep(down_s)
        await asyncio.to_thread(self.broker.start)

    async def broker_forgets(self, down_s: float) -> None:
        await asyncio.to_thread(self.broker.forget)
        await self.sleep(down_s)
        await asyncio.to_thread(self.broker.start)

    async def hijack_robot(self, robot: str) -> None:
        if self._hijack is not None and not self._bodies[robot].dark:
            device = self._bodies[robot].identity.device
            await self._hijack.robot(self._bodies[robot], next((name for name in self._names if name != device), device))

    async def hijack_broker(self, down_s: float) -> None:
        if self._hijack is not None:
            await self._hijack.broker(self._names, down_s)

    async def revoke_robot(self, robot: str) -> None:
        if self._enrolled is not None:
            await self._enrolled.revoke(self._bodies[robot])

    async def backlog(self) -> Mapping[str, int]:
        await asyncio.gather(*(body.look() for body in self.bodies))
        return {body.name: self._waiting(body) for body in self.bodies}

    def _waiting(self, body: RobotProcess) -> int:
        """As of the last look."""
        device, enrolled = body.identity.device, self._enrolled
        if enrolled is not None and device in enrolled.revoked:
            return 0
        unanswered = self._desk.operator.waiting[device] if self._desk is not None else 0
        return body.seen.backlog + unanswered + (enrolled is not None and enrolled.unsettled(body))

    async def evidence(self) -> Evidence:
        left = await self.backlog()
        enrolled = self._enrolled
        certificates = enrolled.evidence(self.bodies) if enrolled is not None else {}
        await asyncio.gather(*(body.finish() for body in self.bodies))
        await self.backend.stop()
        heard: list[Heard] = [one for body in self.bodies for one in body.heard]
        counts = {
            "turns": sum(body.seen.turns for body in self.bodies),
            "starts": sum(body.starts for body in self.bodies),
            "connections": sum(proxy.accepted for proxy in self._proxies),
            "resets": sum(proxy.resets for proxy in self._proxies),
        }
        return Evidence(
            bodies=[Body(one.name, one.identity.device, state) for one in self.bodies for state in (one.state, *before_pruning(one.state))],
            backend=self.backend.state,
            heard=heard,
            backlog=left,
            in_flight_max={body.name: body.seen.in_flight_max for body in self.bodies},
            over_window={body.name: body.seen.over_window for body in self.bodies},
            orders=list(self._desk.operator.orders.values()) if self._desk is not None else (),
            did=by_device((body.identity.device, body.did) for body in self.bodies),
            attacks=self._hijack.attacks if self._hijack is not None else (),
            says={name: [line for body in self.bodies if body.identity.device == name for line in body.said] for name in self._names},
            clocks={body.identity.device: body.seen.off_s for body in self.bodies},
            certificates=certificates,
            figures=counts | ({"cut_in_renewal": enrolled.halfway} if enrolled is not None else {}),
        )

    async def aclose(self) -> None:
        beside = [one for one in (self._desk, self._hijack) if one is not None]
        await asyncio.gather(*(one.aclose() for one in beside), *(body.cut() for body in self.bodies), return_exceptions=True)
        await asyncio.gather(*(proxy.aclose() for proxy in self._proxies), return_exceptions=True)
        if self._backend is not None:
            await self._backend.kill()
        if self._broker is not None:
            await asyncio.to_thread(self._broker.kill)
        if not self._keep:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _steer(self) -> None:
        """Robots that register from now on obey the operator; whoever attacks them has seen what he sends."""
        self._desk = Desk(TENANT, self._operators_clock, self._clock, self._seed + 4, self.broker)
        await self._desk.start()
        for public in self._desk.operator.trusted.values():
            await self.backend.know_operator("sim", public)
        self._hijack = Hijack(self.broker, self.backend, self._desk.operator, self._clock, seeded(self._seed + 6))
        await self._hijack.start()

    async def _start(self, body: RobotProcess) -> None:
        async with self._starting:
            if self._enrolled is not None and not body.starts:
                body.ways = self._enrolled.ways(body, self._names.index(body.name))
            await body.start(HURRY)

    def _ways(self, device: str) -> Sequence[Way]:
        certificate, key = self.broker.client(f"{TENANT}/{device}")
        over_mqtt, over_https = self._proxies
        return [
            Way("mqtt", over_mqtt.port, self.broker.authority.decode(), str(certificate), str(key)),
            Way("https", over_https.port, self.backend.authority.decode()),
        ]

    def _made(self, name: str, identity: Identity, ways: Sequence[Way]) -> RobotProcess:
        seed = self._seed * 10_007 + len(self._bodies) * 101  # a robot that starts again takes the next one
        body = RobotProcess(name, self._place(name), identity, seed=seed, ways=ways, leapt_s=self._leapt_s, say=self._noted)
        self._bodies[name] = body
        return body

    def _place(self, name: str) -> Path:
        return self._folder / "robots" / name

    def _noted(self, line: str) -> None:
        self.says += 1
        with contextlib.suppress(OSError), (self._folder / "says.log").open("a") as log:
            log.write(f"{self._clock.utc().isoformat(timespec='milliseconds')} {line}\n")
