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
from agent.sim.real.fleet.desk import Desk
from agent.sim.real.fleet.hijack import Hijack
from agent.sim.real.proxy import Proxy
from agent.sim.real.proxy import Weather as Line
from agent.sim.real.robot import HOUR_S, Identity, RobotProcess
from agent.sim.world.evidence import Body, Evidence, Heard
from agent.sim.world.play import lose_newest
from agent.sim.world.robot import before_pruning
from agent.sim.world.scenario import Weather

TENANT, ACCOUNT = "demo", "hotel"

CLONE = "~clone"
"""Stands behind the name of the robot whose card was copied."""

HURRY = 3.0
"""Robots' time-outs end so much sooner: half a minute's patience fits into a scenario several times, and two cores still keep up."""

STARTING_MAX = 4
"""Robots that start at once; more only keep each other from it."""


class RealWorld:
    """Everything there is, in one folder."""

    def __init__(
        self,
        devices: int,
        seed: int,
        folder: Path,
        clock: Clock,
        *,
        hours: float = 0,
        real: int = 0,
        keep: bool = False,
        orders: bool = False,
        untrusted_clocks: float = 0,
    ) -> None:
        """`folder`: a new one. `hours`: how far the robots' clocks will leap in all; they begin so far behind, to end at the present.

        `real`: how many of the robots have real engines; they need weights. `orders`: an operator steers the robots.
        `untrusted_clocks`: the share of them whose clock nobody can trust.
        """
        self._folder, self._seed, self._clock, self._keep = folder, seed, clock, keep
        self._real, self._orders, self._untrusted = real, orders, round(devices * untrusted_clocks)
        self._operators_clock = LeapingClock(leapt_s=-hours * HOUR_S)
        self._desk: Desk | None = None
        self._hijack: Hijack | None = None
        self._leapt_s = -hours * HOUR_S
        self._names = [f"sim-{number:04d}" for number in range(1, devices + 1)]
        self._bodies: dict[str, RobotProcess] = {}
        self._starting = asyncio.Semaphore(STARTING_MAX)
        self._broker: Broker | None = None
        self._backend: Backend | None = None
        self._proxies: list[Proxy] = []
        self.sky = Weather()
        """How the link is now."""
        self.says = 0
        """Lines of robots in `says.log`."""

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
        self._broker = await asyncio.to_thread(Broker, self._folder / "broker")
        await asyncio.to_thread(self.broker.start)
        self._backend = Backend(self._folder / "backend", self.broker)
        await self.backend.start()
        if self._orders:
            await self._steer()
        for number, port in enumerate((self._broker_port, self._backend_port)):
            proxy = Proxy(port, self._clock, self._seed * 2 + number)
            self._proxies.append(proxy)
            await proxy.start()
        for name in self._names:
            token = await self.backend.token(TENANT, name, ACCOUNT)
            self._made(name, Identity(TENANT, name, ACCOUNT, token), self._ways(name))
        for number, body in enumerate(self.bodies):
            body.steered, body.quality = self._orders, "floor" if number < self._untrusted else "ntp"
        if self._real:
            wavs = await asyncio.to_thread(_questions, self._folder / "guests")
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

    async def backlog(self) -> Mapping[str, int]:
        seen = await asyncio.gather(*(body.look() for body in self.bodies))
        waiting = self._desk.operator.waiting if self._desk is not None else Counter[str]()
        return {body.name: one.backlog + waiting[body.identity.device] for body, one in zip(self.bodies, seen, strict=True)}

    async def evidence(self) -> Evidence:
        left = await self.backlog()
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
            did=_did(self.bodies),
            attacks=self._hijack.attacks if self._hijack is not None else (),
            says={name: [line for body in self.bodies if body.identity.device == name for line in body.said] for name in self._names},
            figures=counts,
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
        operator = self._desk.operator
        await self._desk.start()
        for public in operator.trusted.values():
            await self.backend.know_operator("sim", public)
        self._hijack = Hijack(self.broker, self.backend, operator, self._clock, seeded(self._seed + 6))

    async def _start(self, body: RobotProcess) -> None:
        async with self._starting:
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

    def _broker_port(self) -> int:
        return self.broker.port

    def _backend_port(self) -> int:
        return self.backend.port

    def _noted(self, line: str) -> None:
        self.says += 1
        with contextlib.suppress(OSError), (self._folder / "says.log").open("a") as log:
            log.write(f"{self._clock.utc().isoformat(timespec='milliseconds')} {line}\n")


def _did(bodies: Sequence[RobotProcess]) -> dict[str, Counter[tuple[str, str]]]:
    did: dict[str, Counter[tuple[str, str]]] = {}
    for body in bodies:
        did.setdefault(body.identity.device, Counter()).update(body.did)
    return did


def _questions(folder: Path) -> list[str]:
    """What guests of the hotel ask, spoken. Raises MissingPart or BadWeights where that can't be."""
    from agent.sim.guests import hotel_guests  # noqa: PLC0415  a voice engine and weights, only for real engines
    from agent.sim.hotel import RECORDING  # noqa: PLC0415
    from agent.weights import catalog, verify  # noqa: PLC0415

    folder.mkdir()
    recording = verify.paths(catalog.read().find("recordings"), catalog.models_folder())[RECORDING]
    return [str(guest.wav) for guest in hotel_guests(folder, recording)]
