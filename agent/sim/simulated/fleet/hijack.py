"""The simulated world in the wrong hands: what somebody does who has a robot's keys, and what a broker does that is his."""

import asyncio
from collections.abc import Sequence
from random import Random  # noqa: TID251  the type alone; chance is handed in

from agent.contract import wire
from agent.contract.signing import SigningKey
from agent.sim.simulated.backend import Backend, Down
from agent.sim.simulated.broker import Broker, Message
from agent.sim.simulated.fleet.desk import Desk
from agent.sim.world.evidence import DROPPED, Attack
from agent.sim.world.fleet import attacker, insider
from agent.sim.world.fleet.attacker import HELD_BACK_S, Loot, Seen, Tried
from agent.sim.world.robot import Robot

TAMPERED_SHARE = 0.4
"""Of what passes a broker in the wrong hands is not what was sent."""

PAUSE_S = 0.3
"""Between two tries."""


class Hijack:
    """One attacker, for the life of a world."""

    def __init__(self, tenant: str, broker: Broker, backend: Backend, desk: Desk, chance: Random) -> None:
        self._tenant, self._broker, self._backend, self._desk, self._chance = tenant, broker, backend, desk, chance
        self.attacks: list[Attack] = []

    async def robot(self, robot: Robot, other: str) -> None:
        """All that can be done with its keys, to it, and as it to the backend. `other`: another device."""
        device, stolen, epoch = robot.identity.device, robot.ledger.keys.current, robot.ledger.epoch
        old = self._desk.operator.long_ago(device, HELD_BACK_S)
        held_back = Seen(old.command.cmd_id, old.content)
        loot = Loot(stolen, self._seen(device), self._seen(other), held_back)
        name, backend = f"{self._tenant}/{device}", self._backend.key
        await self._try(device, attacker.against(name, loot, self._chance))
        await self._try(device, [*insider.commands(self._desk.operator, device), *insider.twins(name, backend)])
        self._broker.answer(Message(wire.DESIRED, self._tenant, device, insider.tried(name, backend), {}, b""))
        await asyncio.tasks.sleep(insider.OPENED_ANEW_S)
        await self._try(device, insider.late(name, backend, now="2026-11-01T00:00:00Z"))
        content, marks = attacker.forged_ack(device, epoch, 10_000, stolen)
        self._broker.answer(Message("ack", self._tenant, device, content, marks, b"nobody asked"))
        self._note("forged ack", device, f"said {DROPPED}")
        await self._bills(device, stolen, epoch, "fork")
        await self._bills(other, stolen, "e" * 32, "forbidden")

    async def _try(self, device: str, tries: Sequence[Tried]) -> None:
        for tried in tries:
            self._broker.answer(Message(tried.topic, self._tenant, device, tried.content, {}, b"", tried.retained))
            self._note(tried.kind, device, tried.proof, tried.cmd_id)
            await asyncio.tasks.sleep(PAUSE_S)

    async def broker(self, seconds: float) -> None:
        """Alters, doubles and holds back what goes to robots, for so long."""
        self._broker.tamper = self._tampered
        await asyncio.tasks.sleep(seconds)
        self._broker.tamper = None

    def _tampered(self, message: Message) -> Sequence[Message]:
        if self._chance.random() >= TAMPERED_SHARE:
            return [message]
        kind = self._chance.choice(("alter", "double", "hold back"))
        if kind == "double":
            return [message, message]
        if kind == "hold back":
            return []
        if message.what == "ack":
            self._note("altered ack", message.device, f"said {DROPPED}")
            return [_with(message, message.content.replace(b"cum_ack", b"cum_acq"))]
        if not message.what.startswith("cmd/req/") or message.content.count(b".") != 2:
            return [message]
        self._note("altered command", message.device, "audit bad-signature")
        return [_with(message, attacker.altered(message.content, self._chance))]

    async def _bills(self, device: str, key: SigningKey, epoch: str, code: str) -> None:
        """A batch of that device by a stolen key: other records in the place of its own, or another robot's altogether."""
        try:
            await self._backend.take(self._tenant, device, *attacker.forged_batch(self._tenant, device, epoch, key))
        except Down:
            return
        self._note(f"batch by a stolen key, {code}", device, f"audit {code}")

    def _seen(self, device: str) -> list[Seen]:
        return attacker.seen(self._desk.operator.orders.values(), device)

    def _note(self, kind: str, device: str, proof: str, cmd_id: str = "") -> None:
        self.attacks.append(Attack(kind, device, proof, cmd_id))


def _with(message: Message, content: bytes) -> Message:
    return Message(message.what, message.tenant, message.device, content, message.marks, message.correlation, message.retained)
