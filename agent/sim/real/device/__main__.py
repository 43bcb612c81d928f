"""One robot as a process of its own: the real books, ledger and sync over real links; turns, leaps of its clock and its end are ordered.

    registered? -> (no: by its one-time token) -> robot started -> orders, one JSON line each -> standard input ends -> stopped

Run as `python -P -m agent.sim.real.device CONFIG.json`; see `process.py` for orders and answers, and `Settings` for the file.
Its event loop runs `hurry` times as fast as the machine's time, so that time-outs meant for weeks on the road fit into a scenario.
"""

import asyncio
import contextlib
import functools
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import orjson

from agent.clock import seeded
from agent.contract import certificates
from agent.errors import NoLink, VoxmeterError
from agent.link import TRANSPORTS
from agent.link.account import register
from agent.link.auth import api_key
from agent.ports import Acked, Link, LinkSettings
from agent.profile import Endpoint
from agent.sim.real.device.clock import HurriedLoop, LeapingClock
from agent.sim.real.device.settings import Settings, Way
from agent.sim.world.evidence import Heard
from agent.sim.world.fleet.certified import Certified, profile_of
from agent.sim.world.fleet.steered import STEP_S_MAX, Steered, profile_toml
from agent.sim.world.robot import Robot
from agent.store import trust
from agent.store.keys import Keys
from agent.store.ledger.chain import Identity
from agent.store.pair import Pair

HOST = "127.0.0.1"

HASTE = 200
"""Times as fast pass the hours of those who keep certificates, besides the hurry: they look every ten minutes, and again an hour after a
failure."""

REGISTER_TRIES = 20
"""A backend that has just started may be busy with twenty others."""


class _Telling(list[Heard]):
    """Passes on what is put into it at once: a power cut must not take it along."""

    def append(self, heard: Heard) -> None:
        tell(heard=list(heard))


class Device:
    """The robot and whoever orders it about."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = Path(settings.folder)
        self._clock = LeapingClock(leapt_s=settings.leapt_s, stepped_s=settings.stepped_s, hurry=settings.hurry, quality=settings.quality)
        self._steered = self._steers() if settings.steered else None
        identity = Identity(settings.tenant, settings.device, settings.account)
        self._certified = self._certifies(identity) if settings.certified else None
        self.robot = _kind(settings)(
            settings.name,
            self._state,
            identity,
            self._clock,
            seed=settings.seed,
            links=self._links,
            trusted=lambda: self._trusted,
            say=lambda line: tell(say=line),
            steered=self._steered,
            certified=self._certified,
        )
        self.robot.heard = _Telling()
        self._trusted: Mapping[str, bytes] = {}
        self._doors: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
            "turn": self._turn,
            "prune": self._prune,
            "leap": self._leap,
            "step": self._step,
            "look": self._look,
        }

    @property
    def _state(self) -> Path:
        return self._folder / "state"

    async def start(self) -> None:
        """Registers it if it isn't yet, and starts it."""
        if not trust.read(self._state).ack_keys:
            await self._register()
        self._trusted = trust.read(self._state).ack_keys
        await self.robot.start()
        tell(ready=True)

    async def obey(self, line: bytes) -> None:
        """Does what it is told and answers."""
        order = orjson.loads(line)
        try:
            tell(id=order["id"], told=await self._doors[order["op"]](order))
        except (VoxmeterError, OSError) as error:
            tell(id=order["id"], error=" ".join(str(error).split()))

    async def _turn(self, _: dict[str, Any]) -> None:
        await self.robot.turn()

    async def _prune(self, _: dict[str, Any]) -> None:
        await self.robot.prune()

    async def _leap(self, order: dict[str, Any]) -> None:
        self._clock.leap(order["seconds"])

    async def _step(self, order: dict[str, Any]) -> None:
        self._clock.step(order["seconds"])

    async def _look(self, _: dict[str, Any]) -> dict[str, Any]:
        robot = self.robot
        told = {
            "backlog": await robot.backlog(),
            "turns": robot.turns,
            "in_flight_max": robot.in_flight_max,
            "over_window": robot.over_window,
            "mute": robot.mute,
            "off_s": self._clock.off_s,
            "over_mqtt": robot.over_mqtt,
            "certificate": self._certified.look() if self._certified is not None else "",
        }
        return told | {"status": {name: str(value) for name, value in robot.status().items()}}

    async def stop(self) -> None:
        await self.robot.stop()

    async def _register(self) -> None:
        settings, over = self._settings, self._way("https")
        where = LinkSettings(settings.tenant, settings.device, HOST, over.port, over.authority)
        key = Keys(self._state, self._clock).current
        for left in reversed(range(REGISTER_TRIES)):
            try:
                registered = await register(where, settings.token, key, self._request())
                break
            except NoLink:
                if not left:
                    raise
                await self._clock.sleep(1)
        trust.keep_api_key(self._state, registered.api_key)
        believed = over.authority + (self._way("mqtt").authority if settings.certified or settings.steered else "")
        trust.write(self._state, registered.keys, believed, registered.operator_keys)
        if settings.steered and not settings.certified:
            self._pair.keep(Path(self._way("mqtt").certificate), Path(self._way("mqtt").key))
        if registered.certificate is not None:
            self._pair.take(registered.certificate.encode(), self._name)
            self._pair.promote()

    def _request(self) -> str:
        """For a certificate, PEM; empty where it brings one, and keeps it, or has one that never ends."""
        brought = self._way("mqtt") if self._settings.certified else None
        if brought is None:
            return ""
        if brought.certificate:
            self._pair.keep(Path(brought.certificate), Path(brought.key))
            return ""
        return certificates.request(self._name, self._pair.key()).decode()

    @property
    def _name(self) -> str:
        return certificates.device_name(self._settings.tenant, self._settings.device)

    @property
    def _pair(self) -> Pair:
        return Pair(self._state)

    def _way(self, transport: str) -> Way:
        return next(way for way in self._settings.ways if way.transport == transport)

    def _certifies(self, identity: Identity) -> Certified:
        """What the broker says is told at once: a power cut must not take it along."""
        ends = {way.transport: Endpoint(host=HOST, port=way.port) for way in self._settings.ways}
        profile = profile_of(identity, ends["https"], ends["mqtt"])
        return Certified(profile, self._clock, HASTE, lambda line: tell(say=line), lambda word: tell(word=word))

    def _steers(self) -> Steered:
        """What it does is told at once, before its result is: a power cut must not take it along."""
        settings, chance = self._settings, seeded(self._settings.seed + 1)
        ends = {way.transport: (HOST, way.port) for way in settings.ways}
        return Steered(
            profile_toml(settings.tenant, settings.device, settings.account, ends),
            self._clock,
            lambda: chance.uniform(0, STEP_S_MAX),
            lambda line: tell(say=line),
            told=lambda what, how: tell(did=[what, how]),
        )

    def _links(self, heard: Callable[[Acked], None]) -> Sequence[Link]:
        return [self._link(way, heard) for way in self._settings.ways]

    def _link(self, way: Way, heard: Callable[[Acked], None]) -> Link:
        settings = LinkSettings(
            tenant=self._settings.tenant,
            device=self._settings.device,
            host=HOST,
            port=way.port,
            authority=way.authority,
            certificate=Path(way.certificate) if way.certificate else None,
            key=Path(way.key) if way.key else None,
            pair=(lambda: trust.tls_files(self._state)) if self._settings.certified else None,
            token=api_key(trust.api_key_file(self._state)),
            heard=heard,
            steering=self._steered.steering if self._steered is not None and way.transport == "mqtt" else None,
        )
        link: Link = resolve_name(TRANSPORTS[way.transport])(settings, self._clock)
        return link


def _kind(settings: Settings) -> Callable[..., Robot]:
    """With real engines where guests ask it; those take seconds to load, so nobody else does."""
    if not settings.wavs:
        return Robot
    from agent.sim.real.device.engines import HearingRobot  # noqa: PLC0415  most robots start without it

    return functools.partial(HearingRobot, wavs=[Path(wav) for wav in settings.wavs])


def tell(**told: Any) -> None:
    """One line to whoever ordered; whole, as the pipe is ours alone and a line is short."""
    with contextlib.suppress(BrokenPipeError):  # whoever ordered is gone; the end of standard input says so
        os.write(sys.stdout.fileno(), orjson.dumps(told) + b"\n")


async def live(settings: Settings) -> None:
    """From the start to the end of standard input."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    device = Device(settings)
    under_way: set[asyncio.Task[None]] = set()
    try:
        await device.start()
        while line := await reader.readline():
            task = asyncio.create_task(device.obey(line))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
    finally:
        await device.stop()
        await asyncio.gather(*under_way, return_exceptions=True)


def main() -> None:
    """Entry point."""
    settings = Settings.read(Path(sys.argv[1]))
    with asyncio.Runner(loop_factory=lambda: HurriedLoop(settings.hurry)) as runner:
        try:
            runner.run(live(settings))
        except VoxmeterError as error:
            sys.stderr.write(f"{' '.join(str(error).split())}\n")
            raise SystemExit(error.exit_status) from error


if __name__ == "__main__":
    main()
