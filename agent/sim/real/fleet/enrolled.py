"""The real robots whose certificates end: the backend's own authority, a broker that believes it, and lives so short that they end.

A broker judges by the machine's clock, which nobody bends. So robots' clocks begin as far behind as the scenario leaps, and a
certificate that ends soon after the start has weeks to go by the robot's clock; when that has leapt both agree that it is over.
"""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from agent.billing.access.robots.authority import CERTIFICATE_FILE, KEY_FILE, LIST_FILE
from agent.clock import Clock
from agent.contract import certificates
from agent.contract.certificates import Certificate as Issued
from agent.errors import BadInput
from agent.files import write_durably
from agent.sim.real.backend import Backend
from agent.sim.real.broker import Broker
from agent.sim.real.device.settings import Way
from agent.sim.real.robot import RobotProcess
from agent.sim.world.evidence import Certificate
from agent.sim.world.fleet.certified import halfway, shown

LIFE_S = 40
"""Real seconds of a short life: longer than a robot's start and the first phase of a winter, shorter than those and the phases without
a link, of which it must be over at the end."""

DAY_S = 86_400


class Enrolled:
    """All of one world; a robot is known by its device's name, of which there is one body each."""

    def __init__(self, folder: Path, broker: Broker, backend: Backend, clock: Clock) -> None:
        self._folder, self._broker, self._backend, self._clock = folder, broker, backend, clock
        folder.mkdir()
        self._restarting = asyncio.Lock()
        self._expired: set[str] = set()
        self.revoked: set[str] = set()
        """Devices that were struck off."""
        self.halfway = 0
        """Power cuts that came between one certificate and the next."""

    async def start(self) -> None:
        """From now on the broker believes the backend's authority, but for what is on its list."""
        authority = (self._backend.state / CERTIFICATE_FILE).read_bytes()
        self._broker.believe(authority, self._backend.state / LIST_FILE)
        await asyncio.to_thread(self._broker.restart)

    def ways(self, body: RobotProcess, number: int) -> list[Way]:
        """As it is started first: every second robot brings a certificate that ends soon, the others ask for theirs."""
        over_mqtt, over_https = body.ways
        return [self._short(body) if number % 2 == 0 else replace(over_mqtt, certificate="", key=""), over_https]

    async def revoke(self, body: RobotProcess) -> None:
        """The backend writes its list, and the broker is started anew, which reads it."""
        self.revoked.add(body.identity.device)
        await self._backend.revoke(body.identity.tenant, body.identity.device)
        async with self._restarting:
            await asyncio.to_thread(self._broker.restart)

    def link_back(self, bodies: Collection[RobotProcess]) -> None:
        """Who has a certificate now that is over?"""
        self._expired |= {body.identity.device for body in bodies if self._left_s(body) <= 0}

    def power_cut(self, body: RobotProcess) -> None:
        """It has just been."""
        self.halfway += halfway(body.state)

    def unsettled(self, body: RobotProcess) -> bool:
        """Whether a certificate is still to be had, or to be shown, as it was when last looked at."""
        return not (body.seen.certificate == "good" and body.seen.over_mqtt)

    def evidence(self, bodies: Collection[RobotProcess]) -> dict[str, Certificate]:
        """How each stood when last looked at."""
        return {body.identity.device: self._stands(body) for body in bodies}

    def _stands(self, body: RobotProcess) -> Certificate:
        device, seen = body.identity.device, body.seen
        return Certificate(
            state=seen.certificate,
            left_s=self._left_s(body),
            connected=seen.over_mqtt,
            revoked=device in self.revoked,
            expired=device in self._expired,
            words=frozenset(body.words),
            mute=seen.mute,
        )

    def _left_s(self, body: RobotProcess) -> float:
        try:
            return (certificates.read(shown(body.state)).not_after - self._clock.utc()).total_seconds()
        except BadInput:
            return 0.0

    def _short(self, body: RobotProcess) -> Way:
        """With a certificate for a short life, made by the backend's authority."""
        name = certificates.device_name(body.identity.tenant, body.identity.device)
        by = Issued((self._backend.state / CERTIFICATE_FILE).read_bytes(), (self._backend.state / KEY_FILE).read_bytes())
        made = certificates.issue(by, name, self._clock.utc(), LIFE_S / DAY_S)
        certificate, key = self._folder / f"{body.name}.crt", self._folder / f"{body.name}.key"
        write_durably(certificate, made.certificate)
        write_durably(key, made.key)
        return replace(body.ways[0], certificate=str(certificate), key=str(key))
