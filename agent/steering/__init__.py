"""Composes who steers a robot from afar: what comes over its link, what is told there, and the settings that are laid over its profile.

One for the life of a process; the robot it steers is opened and closed meanwhile. What belongs to one opening is in `helm`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from agent import fitting
from agent import profile as profiles
from agent.app import App
from agent.clock import Settable
from agent.contract import wire
from agent.contract.fleet.command import audience_of
from agent.contract.registration import jwks
from agent.enrolment import keep_time
from agent.errors import BadInput
from agent.fleet.commands import COMMANDS
from agent.fleet.presence import Facts, Presence, Taken, Why, taken
from agent.fleet.timekeeping import Timekeeping, Untimely
from agent.fleet.twin.adopting import Adopting
from agent.log import Log
from agent.ports import Delivered, Poster, Steering
from agent.ports.twin import Surroundings
from agent.service.running import Kind, Running, Say, Settings
from agent.steering.helm import Bridge, Helm, Work
from agent.steering.incoming import Incoming
from agent.steering.refusing import Refusing
from agent.store import starts, trust
from agent.store.remote import Remote
from agent.store.state import Lock
from agent.tasks import kept, stopped
from agent.weights import catalog

MQTT = "mqtt"
"""Only a broker carries commands, twins and presence."""

WHY: Mapping[Kind, Why] = {"reopen": "reopening", "restart": "restarting"}
"""What is told when it leaves, by what was asked."""


class FromAfar:
    """Implements service.running.Steers."""

    def __init__(self, profile: str, log: Log, folder: Path, clock: Settable, say: Say) -> None:
        """Raises BadProfile for a profile that can't be read."""
        self._profile, self._folder, self._clock, self._say, self._log = profile, folder, clock, say, log
        held = profiles.load(profile)
        self._device = audience_of(held.device.tenant, held.device.id)
        self._believed = trust.Watched(folder, say, clock)
        self._heard = False
        """The robot heard when it was closed last, or before what is on trial."""
        self._remote: Remote | None = None
        self._adopting: Adopting | None = None
        self._presence: Presence | None = None
        self._helm: Helm | None = None
        self._link: Poster | None = None

    async def beside(self) -> Settings:
        """See the port. Raises LedgerBusy where another process has this robot: its twin is not ours to try."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        Lock(self._folder).release()
        self._believed.now()  # mended, if need be, before the links are told whom to believe
        return await self._begun().begin()

    async def failed(self, why: str) -> bool:
        return await self._begun().fell(why)

    def steering(self, app: App) -> Steering:
        """See the port: the helm of this opening takes what comes from now on, and works once it is `steered`."""
        presence, remote, adopting = self._present(), self._remote, self._adopting
        assert remote is not None
        assert adopting is not None
        refusing = Refusing(app.ledger, self._clock, self._say)
        self._incoming = Incoming({wire.DESIRED: self._adopt, wire.TIME: self._timed}, self._clock, refusing.note)
        self._helm = Helm(app, Bridge(self._folder, remote, adopting, presence, self._believed, self._log, self._heard), refusing)
        self._times = Timekeeping(presence, lambda: self._believed.now().ack_keys, self._clock)
        return Steering(self._delivered, presence.will, presence.connected, lambda line: self._say(f"from afar: {line}"))

    @contextlib.asynccontextmanager
    async def steered(self, running: Running) -> AsyncIterator[None]:
        """See the port."""
        helm = self._helm
        assert helm is not None
        links = running.carrying.links if running.carrying is not None else []
        link = next((one for one in links if one.name == MQTT and isinstance(one, Poster)), None)
        self._link = link if isinstance(link, Poster) else None
        works: list[Work] = [*helm.works(running, self._link), self._begun().run, self._incoming.run]
        works.append(partial(keep_time, running.app.profile, self._folder, self._clock, self._say))
        if self._link is not None:
            works.append(partial(self._present().run, self._link))
        tasks = [asyncio.create_task(kept(work, self._clock, self._failed)) for work in works]
        async with contextlib.AsyncExitStack() as closing:  # whoever is stopped while it closes still closes all of it
            closing.callback(self._left)
            for task in reversed(tasks):
                closing.push_async_callback(stopped, task)
            closing.push_async_callback(self._goodbye, running)
            try:
                yield
            finally:
                self._heard = helm.hears or (self._heard and self._begun().on_trial)

    def _left(self) -> None:
        self._helm = self._link = None

    def _failed(self, line: str) -> None:
        """Who steers must not end who talks: the robot talks on without that part meanwhile."""
        self._say(f"from afar: {line}")

    async def _goodbye(self, running: Running) -> None:
        """Also where it is only opened anew: it may not come back, and its next birth counts for more than this."""
        request = running.asking.asked
        if self._link is not None:
            await self._present().goodbye(self._link, WHY[request.kind] if request is not None else "stopped")

    def _delivered(self, message: Delivered) -> None:
        """From the link, in the event loop."""
        helm = self._helm
        if helm is None:
            return  # it comes again with the next connection
        if message.topic.startswith(f"{wire.REQUEST}/"):
            helm.executor.take(message)
        elif not self._incoming.take(message):
            message.confirm()

    async def _adopt(self, message: Delivered) -> None:
        if self._helm is not None:
            await self._helm.adopt(message)

    async def _timed(self, message: Delivered) -> None:
        try:
            self._clock.attest(self._times.moment(message))
            self._present().changed()  # commands need no nonce from now on
        except Untimely:
            return
        except BadInput as error:
            if self._helm is not None:
                self._helm.refusing.note("bad-time", str(error))

    def _begun(self) -> Adopting:
        if self._adopting is None:
            self._remote = Remote(self._folder, self._say)
            self._adopting = Adopting(self._remote, self._surroundings(), self._clock, say=self._say, report=self._report)
        return self._adopting

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            audience=self._device,
            fits=self._fits,
            trusted=lambda: self._believed.now().ack_keys,
            believe=self._believe,
            reopen=lambda why: self._helm.reopen(why) if self._helm is not None else None,
            connected=lambda: self._presence is not None and self._presence.since is not None,
            hears=lambda: self._helm.hears if self._helm is not None else self._heard,
            ailing=lambda: self._helm.ailing() if self._helm is not None else "",
            software=software(),
        )

    def _fits(self, settings: Mapping[str, Mapping[str, Any]]) -> None:
        held = profiles.load(self._profile, settings)
        fitting.check_names(held, catalog.read())
        own = profiles.load(self._profile).fleet.allow
        if own is not None and (held.fleet.allow is None or set(held.fleet.allow) - set(own)):
            raise BadInput("fleet.allow can only be narrowed from afar", "change it in the robot's own profile")

    def _believe(self, keys: Any) -> None:
        """Beside what this process knows, whatever became of the file; of one that was damaged at the start nothing is known but that."""
        held = self._believed.now()
        held = held if held.ack_keys else trust.read(self._folder)
        operators = jwks(held.operator_keys.values()) if keys.operator_keys is None else keys.operator_keys
        trust.write(self._folder, keys.ack_keys or jwks(held.ack_keys.values()), held.authority, operators)

    def _report(self, topic: str, body: bytes, retained: bool) -> None:
        """Presence tells it, now and with every connection."""
        del topic, body, retained
        if self._presence is not None:
            self._presence.changed()

    def _present(self) -> Presence:
        if self._presence is None:
            start = starts.counted(self._folder, self._clock)
            facts = Facts(
                device=self._device,
                software=software(),
                profile=Path(self._profile).stem,
                ops=tuple(COMMANDS),
                groups=lambda: self._helm.groups if self._helm is not None else (),
                reported=lambda: self._begun().reported(),
                taken=self._taken,
            )
            self._presence = Presence(facts, self._clock, boot=start, say=self._say)
        return self._presence

    async def _taken(self) -> Taken:
        helm = self._helm
        return await taken(helm.app.ledger, self._believed.now().operator_keys) if helm is not None else Taken({}, ())


def software() -> str:
    """The version that runs."""
    try:
        return version("voxmeter")
    except PackageNotFoundError:
        return "unknown"
