"""The helm of one opening of a robot: what takes its commands, what measures and watches it, and the works that run beside it."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from agent.app import App
from agent.contract.fleet.command import audience_of
from agent.enrolment import Renewing
from agent.enrolment.renewing import Around
from agent.fleet.alarms.watching import Limits, Sources, Watching
from agent.fleet.commands import COMMANDS
from agent.fleet.executor import Executor
from agent.fleet.order import Addressee
from agent.fleet.presence import Presence
from agent.fleet.telemetry import Gauges, Rtf, Telemeter
from agent.fleet.twin.adopting import Adopting
from agent.link.mqtt import MqttLink
from agent.log import Log
from agent.metering.budget import Used, limit_of
from agent.ports import Delivered, Poster
from agent.service.running import Running
from agent.steering.refusing import Refusing
from agent.steering.served import BUDGET, Served
from agent.store import trust
from agent.store.reading import breaks
from agent.store.remote import Remote
from agent.store.spent import Spent
from agent.store.waiting import age_s, waiting

HOUR_S = 3600.0
DAY_S = 86_400.0

Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""Begins one that runs beside the robot; again, where it died."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """What stands through all openings of a robot."""

    folder: Path
    """Its state."""
    remote: Remote
    adopting: Adopting
    presence: Presence
    believed: trust.Watched
    log: Log
    heard: bool
    """Before this opening: settings that make it deaf don't hold."""


class Helm:
    """Takes commands from when it is made, and does them once the robot runs."""

    def __init__(self, app: App, bridge: Bridge, refusing: Refusing) -> None:
        self.app, self.refusing, self._bridge = app, refusing, bridge
        presence = bridge.presence
        self._running: Running | None = None
        self._link: Poster | None = None
        self._rtf = Rtf()
        self._heard = False
        device, fleet = app.profile.device, app.profile.fleet
        self._addressee = Addressee(device.tenant, device.id, fleet.groups)
        self._served = Served(app, bridge.remote, bridge.adopting, bridge.log)
        self.executor = Executor(
            app.ledger,
            self._served,
            lambda: self._addressee,
            lambda: bridge.believed.now().operator_keys,
            app.clock,
            say=self._say,
            nonce=lambda: presence.nonce,
            allowed=tuple(COMMANDS) if fleet.allow is None else fleet.allow,
            post=self._post,
            refused=refusing.told,
        )

    @property
    def groups(self) -> Sequence[str]:
        return tuple(self._addressee.groups)

    def works(self, running: Running, link: Poster | None) -> list[Work]:
        """What runs beside the robot until it is closed; `link`: to the broker, where there is one."""
        self._running, self._link = running, link
        self._served.running = running
        if running.attending is not None:
            running.attending.told = self._rtf.take
        renewing = Renewing(running.app.profile, self._bridge.folder, self._settable, running.say, self._around())
        works: list[Work] = [self.executor.run, self.refusing.run, self._watching(running, renewing).run]
        if link is not None:
            pace_s = running.app.profile.fleet.telemetry_s
            telemeter = Telemeter(self._gauges(running), running.app.clock, running.say, interval_s=pace_s)
            works += [partial(telemeter.run, link), renewing.run]
        return works

    async def adopt(self, message: Delivered) -> None:
        """A twin; one that is none is on record."""
        before = dict(self._bridge.adopting.refused)
        await self._bridge.adopting.take(message)
        for code, count in self._bridge.adopting.refused.items():
            if count > before.get(code, 0):
                self.refusing.note("bad-twin" if code == "bad-signature" else f"twin-{code}", "a twin was not taken")

    def reopen(self, why: str) -> None:
        """When nobody has the floor."""
        if self._running is not None:
            self._running.request_reopen(why)

    def ailing(self) -> str:
        """Why the robot is not as it should be; empty: it is."""
        if self._running is None:
            return "it is being opened"
        failing = [f"{part}: {why}" for part, why in self._failing().items()]
        trial = self._bridge.remote.standing.trial
        heard = self._bridge.heard or (trial is not None and trial.heard)
        deaf = ["the robot does not hear any more"] if heard and not self.hears else []
        return "; ".join([*self._running.stuck(), *failing, *deaf])

    @property
    def hears(self) -> bool:
        """As it was last looked at: while the robot is closed nobody hears any more."""
        self._hearing()
        return self._heard

    @property
    def _settable(self) -> Any:
        return self.app.clock

    def _say(self, line: str) -> None:
        if self._running is not None:
            self._running.say(line)

    async def _post(self, topic: str, body: bytes) -> None:
        if self._link is not None:
            await self._link.post(topic, body)

    def _failing(self) -> Mapping[str, str]:
        return {part: engine.problem for part, engine in self.app.engines.items() if engine.problem}

    def _hearing(self) -> Mapping[str, Any] | None:
        """Looked at every half minute, for the alarms."""
        attending = self._running.attending if self._running is not None else None
        health = attending.health() if attending is not None else None
        if self._running is not None and self._running.asking.asked is None:
            self._heard = bool((health or {}).get("hearing"))
        return health

    def _gauges(self, running: Running) -> Gauges:
        device, clock = running.app.profile.device, running.app.clock

        def backlog() -> tuple[int, float | None]:
            held = waiting(self._bridge.folder)
            return held["records"], age_s(held["oldest"], clock.utc())

        def link() -> str:
            return str(running.carrying.status()["link"]) if running.carrying is not None else ""

        name = audience_of(device.tenant, device.id)
        return Gauges(name, self._bridge.folder, self._rtf.told, lambda: self._hearing() or {}, backlog, link)

    def _watching(self, running: Running, renewing: Renewing) -> Watching:
        app, clock, fleet = running.app, running.app.clock, running.app.profile.fleet
        spent = Spent(self._bridge.folder, app.profile.billing.time_zone)

        def backlog() -> tuple[float | None, int]:
            held = waiting(self._bridge.folder)
            return age_s(held["oldest"], clock.utc()), held["records"]

        def used() -> Used | None:
            told = self._bridge.remote.local.get(BUDGET)
            limit = limit_of(told["amount"], told["period"], app.books.card.currency) if told else None
            return spent.used(limit, clock.utc()) if limit is not None else None

        def certificate() -> tuple[str, float | None]:
            told = renewing.status()
            return told["state"], renewing.days_left()

        def twin() -> tuple[str, int, str]:
            standing = self._bridge.remote.standing
            return standing.state, standing.version, standing.why

        sources = Sources(
            backlog=backlog if running.carrying is not None else None,
            breaks=lambda: breaks(self._bridge.folder),
            used=used,
            hearing=self._hearing,
            failing=self._failing,
            certificate=certificate,
            refused=lambda: self.refusing.total,
            twin=twin,
        )
        limits = Limits(fleet.alarm_backlog_h * HOUR_S, fleet.alarm_silent_s)
        name = audience_of(app.profile.device.tenant, app.profile.device.id)
        return Watching(name, self._bridge.folder, sources, app.ledger, clock, say=running.say, limits=limits)

    def _around(self) -> Around:
        link = self._link

        def problem() -> str:
            return link.problem if isinstance(link, MqttLink) and not link.up else ""

        def connected() -> bool:
            return self._bridge.presence.since is not None

        def reconnect() -> None:
            if isinstance(link, MqttLink):
                link.reconnect("another certificate is in use")

        return Around(connected, problem, reconnect)
