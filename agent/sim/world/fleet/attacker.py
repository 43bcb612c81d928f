"""Somebody with a robot's keys, and a broker in his hands: what he would send to robots and to the backend. He has no operator's key.

Everything is made of what he can have: the usage key of one robot, commands that went by, and his own wits.
"""

from collections.abc import Iterable, Sequence
from random import Random  # noqa: TID251  the type alone; chance is handed in
from typing import NamedTuple

import orjson

from agent.contract import ack, batch, wire
from agent.contract.ack import Ack
from agent.contract.batch import Row
from agent.contract.canonical import INTEGER_MAX, canonical, genesis, link
from agent.contract.fleet import command, twin
from agent.contract.fleet.command import COMMAND_BYTES_MAX, Command
from agent.contract.fleet.twin import Desired
from agent.contract.registration import signed_time
from agent.contract.signing import SigningKey
from agent.sim.world.fleet.operator import ONCE, Ordered

MEGABYTE = 1_000_000

HELD_BACK_S = 30 * 24 * 3600
"""So old is a command that a broker has held back."""


CLOCK = "clock"


class Tried(NamedTuple):
    """One message to a robot, and what the robot must say of it."""

    kind: str
    topic: str
    content: bytes
    code: str
    """Of its refusal, or those it may have; empty: it is answered as it was before, and done no second time; CLOCK: no clock goes wrong."""
    retained: bool = False
    cmd_id: str = ""
    """Of what must not be done."""

    @property
    def proof(self) -> str:
        """As an `Attack` has it."""
        return CLOCK if self.code == CLOCK else f"audit {self.code}" if self.code else "answered"


class Loot(NamedTuple):
    """What he has got hold of."""

    stolen: SigningKey
    """A robot's usage key."""
    own: "Sequence[Seen]"
    """Commands that went to this robot."""
    others: "Sequence[Seen]"
    """And to other robots."""
    held_back: "Seen"


class Seen(NamedTuple):
    """A command of an operator that went by."""

    cmd_id: str
    content: bytes


def seen(orders: Iterable[Ordered], device: str) -> list[Seen]:
    """What somebody who reads along has of the commands that this robot has answered; first those of which is known how often they were
    done."""
    answered = [one for one in orders if one.device == device and one.answered and one.content]
    return [Seen(one.command.cmd_id, one.content) for one in sorted(answered, key=lambda one: one.command.op != ONCE)]


def against(robot: str, loot: Loot, chance: Random, *, big_bytes: int = MEGABYTE) -> list[Tried]:
    """All that can be sent to a robot, `{tenant}/{device}`; `big_bytes`: of the largest message that the broker carries."""
    stolen, held_back = loot.stolen, loot.held_back
    own_id = f"{chance.getrandbits(32):08x}-0000-7000-8000-{chance.getrandbits(48):012x}"
    told = {"cmd_id": own_id, "aud": robot, "seq": INTEGER_MAX, "iat": 0, "exp": INTEGER_MAX}
    forged = command.signed(Command.model_validate(told | {"op": "say", "args": {"text": own_id}}), stolen)
    tries = [
        Tried("forged command", _request(own_id), forged, "bad-signature", cmd_id=own_id),
        Tried("garbage", _request(own_id), chance.randbytes(300), "bad-signature"),
        Tried("too long a command", _request(own_id), forged + b"A" * max(big_bytes, COMMAND_BYTES_MAX), "too-big", cmd_id=own_id),
        Tried("held-back command", _request(held_back.cmd_id), held_back.content, "expired,stale,replayed", cmd_id=held_back.cmd_id),
        Tried("forged twin", wire.DESIRED, _twin(robot, stolen), "bad-twin", retained=True),
        Tried("forged time", wire.TIME, _time(stolen), "bad-time"),
    ]
    for one in loot.own[:1]:
        tries += [
            Tried("replayed command", _request(one.cmd_id), one.content, "", cmd_id=one.cmd_id),
            Tried("command under another id", _request(own_id), one.content, "wrong-topic", cmd_id=one.cmd_id),
            Tried("retained command", _request(one.cmd_id), one.content, "retained", retained=True, cmd_id=one.cmd_id),
            Tried("altered command", _request(one.cmd_id), altered(one.content, chance), "bad-signature", cmd_id=one.cmd_id),
        ]
    tries += [Tried("command of another robot", _request(one.cmd_id), one.content, "wrong-audience") for one in loot.others[:1]]
    return tries


def altered(content: bytes, chance: Random) -> bytes:
    """One letter of what was signed is another."""
    header, payload, signature = content.split(b".")
    at = chance.randrange(len(payload) - 1)
    return b".".join((header, payload[:at] + (b"A" if payload[at : at + 1] != b"A" else b"B") + payload[at + 1 :], signature))


def forged_ack(device: str, epoch: str, last: int, stolen: SigningKey) -> tuple[bytes, dict[str, str]]:
    """Says that all is billed, so that the robot lets its records go."""
    told = {"device": device, "epoch": epoch, "cum_ack": last, "head_hash": "0" * 64, "ranges": [], "rejects": [], "durable_through": last}
    told |= {"backend_id": "evil", "window_batches": 8, "not_before_ms": 0, "server_time": "2026-11-27T00:00:00.000Z"}
    return ack.write(Ack.model_validate(told), stolen)


def forged_batch(tenant: str, device: str, epoch: str, key: SigningKey) -> tuple[bytes, dict[str, str]]:
    """One record in the place of that robot's first one, by a key that may not be its own."""
    place = f"{1:020d}"
    told = {"id": f"{epoch}:{place}", "sequence": place, "source": f"urn:voxmeter:{tenant}:{device}:{epoch}"}
    body = canonical(told | {"data": {"reason": "evil"}, "specversion": "1.0", "type": "voxmeter.epoch.v1", "subject": "hotel"})
    row = Row(1, link(genesis(epoch), body), body)
    made = batch.build(device=device, epoch=epoch, h_before=genesis(epoch), rows=[row], odometer={}, anchors=[])
    return made.content, batch.sign(made, key)


def _request(cmd_id: str) -> str:
    return f"{wire.REQUEST}/{cmd_id}"


def _twin(robot: str, stolen: SigningKey) -> bytes:
    told = {"aud": robot, "version": INTEGER_MAX, "settings": {"dialog": {"apology": "I am not well."}}, "iat": 0}
    return twin.signed(Desired.model_validate(told), stolen)


def _time(stolen: SigningKey) -> bytes:
    return orjson.dumps(signed_time("0" * 32, "1999-01-01T00:00:00Z", stolen).model_dump())
