"""An operator of the whole fleet: signs commands, publishes them until each is answered, and remembers all that came of them.

ordered -> published, again and again -> answered for good
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agent.clock import Clock, seeded
from agent.contract import wire
from agent.contract.fleet import command, presence
from agent.contract.fleet.command import FINAL, Command, Result, State, audience_of
from agent.contract.fleet.presence import Birth
from agent.contract.signing import SEED_BYTES, SigningKey

VALID_S = 24 * 3600
"""A command may be run for so long after it was ordered, by the operator's clock."""

AGAIN_S = 10.0
"""Between two publications of what has not been answered: whatever lay between may have lost it."""

OPS: tuple[tuple[str, int], ...] = (("say", 3), ("privacy.forget", 2), ("ping", 2), ("usage.flush", 1), ("mode.set", 1), ("log.level", 1))
"""What is ordered, and how often."""

NOT_TAKEN = ("stale", "replayed", "busy")
"""Codes of answers that say: it came too late, for this connection or behind a later one, or too many were ahead of it."""

ONCE = "say"
"""The op that must never be done twice."""


class Amiss(NamedTuple):
    """A command that is signed, and must not be done."""

    cmd_id: str
    content: bytes


@dataclass(slots=True)
class Ordered:
    """A command, and what was heard of it."""

    command: Command
    device: str
    next_at: float
    """When it is published again, by the operator's monotonic clock."""
    states: list[State] = field(default_factory=list)
    """Final ones, as they came; more than one is the same told again."""
    told: int = 0
    """How often its robot told anything of it, whether the operator was looking or not."""
    content: bytes = b""
    """As it was published first, and is again: another text under the same id would be a forgery."""

    @property
    def answered(self) -> bool:
        return bool(self.states)


class Operator:
    """One desk, one key."""

    def __init__(self, tenant: str, clock: Clock, seed: int) -> None:
        self.tenant, self._clock, self._chance = tenant, clock, seeded(seed)
        self._key = SigningKey.from_seed(self._chance.randbytes(SEED_BYTES))
        self._births: dict[str, Birth] = {}
        self._kept: dict[str, tuple[float, bytes]] = {}
        """By robot, its last birth that was not read yet, and when it will be."""
        self._seq = 0
        self.orders: dict[str, Ordered] = {}
        """By cmd_id, in the order they were given."""

    @property
    def trusted(self) -> Mapping[str, bytes]:
        """What robots believe: key id -> raw public key."""
        return {self._key.key_id: self._key.public}

    def order(self, device: str) -> Ordered:
        """A new command to that robot, drawn by chance; due at once."""
        now = int(self._clock.utc().timestamp())
        self._seq += 1
        cmd_id = self._command_id()
        names, weights = zip(*OPS, strict=True)
        op = self._chance.choices(names, weights)[0]
        told = {"cmd_id": cmd_id, "aud": audience_of(self.tenant, device), "seq": self._seq, "op": op, "args": arguments(op, cmd_id)}
        one = Ordered(Command.model_validate(told | {"iat": now, "exp": now + VALID_S}), device, self._clock.monotonic())
        self.orders[cmd_id] = one
        return one

    def long_ago(self, device: str, age_s: int) -> Ordered:
        """A command that was given so long ago, for another connection, and never arrived: it is in nobody's list any more."""
        one = self.order(device)
        del self.orders[one.command.cmd_id]
        given = max(one.command.iat - age_s, 0)
        old = one.command.model_copy(update={"iat": given, "exp": given + VALID_S, "session_nonce": "of another connection"})
        return Ordered(old, device, one.next_at, content=command.signed(old, self._key))

    def amiss(self, device: str, changes: Mapping[str, Any]) -> Amiss:
        """A command to say something, with something wrong about it; it is in nobody's list."""
        one = self.order(device)
        del self.orders[one.command.cmd_id]
        birth = self._births.get(device)
        told = {"op": ONCE, "args": arguments(ONCE, one.command.cmd_id), "session_nonce": birth.nonce if birth else ""}
        return Amiss(one.command.cmd_id, command.signed(one.command.model_copy(update=told | dict(changes)), self._key))

    @property
    def now_s(self) -> int:
        """Seconds since 1970, by his clock."""
        return int(self._clock.utc().timestamp())

    def due(self) -> Sequence[Ordered]:
        """What is to be published now."""
        self._look_again()
        now = self._clock.monotonic()
        return [one for one in self.orders.values() if not one.answered and one.next_at <= now]

    def published(self, one: Ordered) -> bytes:
        """As it goes out now; made fresh for the robot's connection when it goes out first."""
        one.next_at = self._clock.monotonic() + AGAIN_S
        if not one.content:
            birth = self._births.get(one.device)
            one.content = command.signed(one.command.model_copy(update={"session_nonce": birth.nonce if birth else ""}), self._key)
        return one.content

    def listen(self, what: str, content: bytes, *, looking: bool = True) -> None:
        """Takes a message of a robot; `what`: the topic below its own. Who is not looking misses it, though it was told.

        A birth the broker keeps: who missed it finds it there when he looks again.
        """
        known = self.orders.get(what.removeprefix(f"{wire.RESULT}/"))
        if known is not None:
            known.told += 1
        if what == wire.BIRTH:
            self._kept[presence.read_birth(content).device] = (self._clock.monotonic() + (0 if looking else AGAIN_S), content)
            self._look_again()
        elif looking and what.startswith(f"{wire.RESULT}/"):
            self.heard(content)

    def born(self, content: bytes) -> None:
        """A robot is back: what it has not answered is due."""
        birth = presence.read_birth(content)
        device = birth.device.partition("/")[2]
        self._births[device] = birth
        for one in self.orders.values():
            if one.device == device and not one.answered:
                one.next_at = self._clock.monotonic()

    def heard(self, content: bytes) -> Result:
        """A result, of an order or of what somebody else sent."""
        result = command.read_result(content)
        one = self.orders.get(result.cmd_id)
        if one is not None and result.state in FINAL:
            if not one.answered and result.code in NOT_TAKEN:
                self.order(one.device)  # what never ran is ordered anew
            one.states.append(result.state)
        return result

    def _look_again(self) -> None:
        """Reads births that are to be read now."""
        now = self._clock.monotonic()
        for device, (at, content) in list(self._kept.items()):
            if at <= now:
                del self._kept[device]
                self.born(content)

    @property
    def waiting(self) -> Counter[str]:
        """By device, orders without an answer."""
        return Counter(one.device for one in self.orders.values() if not one.answered)

    def _command_id(self) -> str:
        value = f"{self._chance.getrandbits(128):032x}"
        return f"{value[:8]}-{value[8:12]}-7{value[13:16]}-8{value[17:20]}-{value[20:]}"


def arguments(op: str, cmd_id: str) -> dict[str, Any]:
    """Of an order; where it can, it names its command."""
    told: dict[str, dict[str, Any]] = {
        "say": {"text": cmd_id},
        "privacy.forget": {"session_id": cmd_id},
        "mode.set": {"mode": "auto"},
        "log.level": {"level": "info"},
    }
    return told.get(op, {})
