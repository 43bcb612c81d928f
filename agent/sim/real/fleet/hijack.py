"""The real world in the wrong hands: copies of a robot's keys and certificate, and the broker's own rights.

A thief connects with the robot's certificate, tries what the broker must refuse, listens to the robot's acks, and sends batches by
the stolen key over HTTPS. What only a broker can do is done with the backend's certificate, which may write to every robot: real
messages on the real broker, altered, doubled, kept or invented.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random  # noqa: TID251  the type alone; chance is handed in

from agent.billing.access.keyfile import backend_key
from agent.clock import Clock
from agent.contract import wire
from agent.link.auth import api_key
from agent.link.https import HttpsLink
from agent.link.mqtt.client import PACKET_BYTES_MAX
from agent.link.mqtt.connection import FRAME_BYTES_MAX
from agent.link.mqtt.message import LOST, Incoming
from agent.link.mqtt.steady import Mqtt
from agent.ports import LinkSettings
from agent.sim.real.backend import Backend
from agent.sim.real.broker import HOST, Broker
from agent.sim.real.robot import RobotProcess
from agent.sim.world.evidence import DROPPED, Attack
from agent.sim.world.fleet import attacker, insider
from agent.sim.world.fleet.attacker import HELD_BACK_S, Loot, Seen, Tried
from agent.sim.world.fleet.operator import Operator
from agent.store import trust
from agent.store.keys import Keys

PAUSE_S = 0.3
"""Between two tries."""

BIG_BYTES = PACKET_BYTES_MAX - 2 * FRAME_BYTES_MAX - 8 * 1024
"""A command in front of it still leaves room for the frame: brokers and robots hang up on more."""

OVERHEARD_MAX = 50
"""Acks that are kept to be altered."""

FORBIDDEN = (wire.ACK, wire.DESIRED, wire.TIME, f"{wire.REQUEST}/01930000-0000-7000-8000-000000000000")
"""What a robot may not say to itself."""

NOT_ITS_OWN = (wire.BATCH, wire.BIRTH, f"{wire.RESULT}/01930000-0000-7000-8000-000000000000", *FORBIDDEN)
"""Nor anything as another, or to it."""

EPOCH = "e" * 32
"""That another robot never had."""


class Hijack:
    """One attacker, for the life of a world."""

    def __init__(self, broker: Broker, backend: Backend, operator: Operator, clock: Clock, chance: Random) -> None:
        self._tenant, self._broker, self._backend, self._operator = operator.tenant, broker, backend, operator
        self._clock, self._chance = clock, chance
        self._connections: list[Mqtt] = []
        self._hostile: Mqtt | None = None
        self._overheard: list[tuple[str, Incoming]] = []
        self.attacks: list[Attack] = []

    async def start(self) -> None:
        """With the rights of a broker that is his."""
        assert self._backend.shown is not None
        self._hostile = await self._connected("", "hostile", self._backend.shown)

    async def robot(self, body: RobotProcess, other: str) -> None:
        """All that can be done with its keys, to it, and as it to others. `other`: another device."""
        device = body.identity.device
        stolen = await asyncio.to_thread(lambda: Keys(body.state, self._clock).current)
        await self._as_robot(body, other)
        old = self._operator.long_ago(device, HELD_BACK_S)
        loot = Loot(stolen, self._seen(device), self._seen(other), Seen(old.command.cmd_id, old.content))
        name, backend = f"{self._tenant}/{device}", await asyncio.to_thread(backend_key, self._backend.state, self._clock, pinned=True)
        await self._try(device, attacker.against(name, loot, self._chance, big_bytes=BIG_BYTES))
        await self._try(device, [*insider.commands(self._operator, device), *insider.twins(name, backend, big_bytes=BIG_BYTES)])
        await self._send(device, wire.DESIRED, insider.tried(name, backend))
        await self._clock.sleep(insider.OPENED_ANEW_S)
        await self._try(device, insider.late(name, backend, now="2026-11-01T00:00:00Z"))
        epoch = next((heard.epoch for heard in reversed(body.heard)), EPOCH)
        content, marks = attacker.forged_ack(device, epoch, 10_000, stolen)
        await self._send(device, wire.ACK, content, marks)
        self._note("forged ack", device, f"said {DROPPED}")
        await self._bill(body, device, attacker.forged_batch(self._tenant, device, epoch, stolen), "fork")
        await self._bill(body, other, attacker.forged_batch(self._tenant, other, EPOCH, stolen), "refused")

    async def _try(self, device: str, tries: Sequence[Tried]) -> None:
        for tried in tries:
            await self._send(device, tried.topic, tried.content, retained=tried.retained)
            self._note(tried.kind, device, tried.proof, tried.cmd_id)
            await self._clock.sleep(PAUSE_S)

    async def broker(self, devices: Sequence[str], seconds: float) -> None:
        """For so long commands and acks that went by are altered, doubled and kept."""
        ends = self._clock.monotonic() + seconds
        while self._clock.monotonic() < ends:
            kind = self._chance.choice((self._alter, self._double, self._keep, self._alter_ack))
            await kind(self._chance.choice(devices))
            await self._clock.sleep(PAUSE_S)

    async def aclose(self) -> None:
        await asyncio.gather(*(one.aclose() for one in self._connections), return_exceptions=True)

    async def _as_robot(self, body: RobotProcess, other: str) -> None:
        """With its certificate: what the broker must refuse is tried, and what it lets a robot hear is kept."""
        device, way = body.identity.device, body.ways[0]
        acks = wire.topic(self._tenant, device, wire.ACK)

        def overhear(message: Incoming) -> None:
            message.confirm()
            if wire.REFUSED not in message.marks and len(self._overheard) < OVERHEARD_MAX:
                self._overheard.append((device, message))

        thief = await self._connected(device, f"{device}~thief", (Path(way.certificate), Path(way.key)), [acks], overhear)
        for whose, whats in ((device, FORBIDDEN), (other, NOT_ITS_OWN)):
            for what in whats:
                verdict = await thief.publish(wire.topic(self._tenant, whose, what), b"{}")
                self._note(f"{'own' if whose == device else 'other'} {what.partition('/0193')[0]}", device, f"broker {verdict.name}")

    async def _alter(self, device: str) -> None:
        if went_by := self._seen(device):
            one = self._chance.choice(went_by)
            await self._command(device, one.cmd_id, attacker.altered(one.content, self._chance))
            self._note("altered command", device, "audit bad-signature", one.cmd_id)

    async def _double(self, device: str) -> None:
        if went_by := self._seen(device):
            one = self._chance.choice(went_by)
            await asyncio.gather(*(self._command(device, one.cmd_id, one.content) for _ in range(2)))
            self._note("doubled command", device, "answered", one.cmd_id)

    async def _keep(self, device: str) -> None:
        if went_by := self._seen(device):
            one = self._chance.choice(went_by)
            await self._send(device, f"{wire.REQUEST}/{one.cmd_id}", one.content, retained=True)
            self._note("retained command", device, "audit retained", one.cmd_id)

    async def _alter_ack(self, _: str) -> None:
        if self._overheard:
            device, one = self._chance.choice(self._overheard)
            content = one.content.replace(b"cum_ack", b"cum_acq")
            await self._send(device, wire.ACK, content, dict(one.marks), one.correlation)
            self._note("altered ack", device, f"said {DROPPED}")

    async def _command(self, device: str, cmd_id: str, content: bytes) -> None:
        await self._send(device, f"{wire.REQUEST}/{cmd_id}", content)

    async def _send(
        self,
        device: str,
        what: str,
        content: bytes,
        marks: dict[str, str] | None = None,
        correlation: bytes = b"",
        *,
        retained: bool = False,
    ) -> None:
        """As the broker would; returns when it has left."""
        assert self._hostile is not None
        topic = wire.topic(self._tenant, device, what)
        while (await self._hostile.publish(topic, content, correlation, marks, retained=retained)).code == LOST:
            await self._clock.sleep(PAUSE_S)

    async def _bill(self, body: RobotProcess, device: str, made: tuple[bytes, dict[str, str]], code: str) -> None:
        """A batch of that device, with the stolen robot's API key."""
        where = LinkSettings(self._tenant, device, HOST, self._backend.port, self._backend.authority.decode())
        link = HttpsLink(replace(where, token=api_key(trust.api_key_file(body.state))), self._clock)
        try:
            await link.send(*made)
        finally:
            await link.aclose()
        self._note(f"batch by a stolen key, {code}", body.identity.device, f"audit {code}")

    async def _connected(
        self,
        device: str,
        client_id: str,
        shown: tuple[Path, Path],
        filters: Sequence[str] = (),
        heard: Callable[[Incoming], None] = lambda message: message.confirm(),
    ) -> Mqtt:
        certificate, key = shown
        where = LinkSettings(
            self._tenant, device, HOST, self._broker.port, self._broker.authority.decode(), certificate=certificate, key=key
        )
        connection = Mqtt(where, client_id, self._clock, filters, heard)
        self._connections.append(connection)
        await connection.ready()
        return connection

    def _seen(self, device: str) -> list[Seen]:
        return attacker.seen(self._operator.orders.values(), device)

    def _note(self, kind: str, device: str, proof: str, cmd_id: str = "") -> None:
        self.attacks.append(Attack(kind, device, proof, cmd_id))
