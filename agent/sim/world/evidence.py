"""What a world hands over when it has ended: where the books of both sides are, and what was seen on the way."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from agent.contract.ack import Ack, Standing
from agent.sim.world.fleet.operator import Ordered


class Heard(NamedTuple):
    """An ack that a robot took, in the order it did."""

    robot: str
    epoch: str
    cum_ack: int
    head_hash: str
    backend_id: str
    mark: bool
    standing: Standing

    @classmethod
    def of(cls, robot: str, ack: Ack, standing: Standing, *, mark: bool) -> "Heard":
        return cls(robot, ack.epoch, ack.cum_ack, ack.head_hash, ack.backend_id, mark, standing)


DROPPED = "an ack was dropped"
"""What a robot says of an ack that is none."""

REFUSED = "Not authorized"
"""A broker's word on what somebody may not say."""


class Attack(NamedTuple):
    """One try of somebody who has got hold of keys or of the broker."""

    kind: str
    device: str
    """Whom it was aimed at."""
    proof: str
    """Who must have it on record: `audit CODE,…` the backend's log, by one of these; `said WORDS` the robot; `answered` a result that was
    told once more; `broker WORD` what the broker said to it, which must be REFUSED; `clock` that its clock is right in the end."""
    cmd_id: str = ""
    """Of the command that must not be done by it."""


class Certificate(NamedTuple):
    """How a robot stands with its certificate in the end."""

    state: str
    """As the robot says."""
    left_s: float
    """How long the one it shows is still good, by the broker's clock; 0 and less: it is not."""
    connected: bool
    """Over MQTT."""
    revoked: bool
    """The operator struck it off."""
    expired: bool
    """It was over when a link came back."""
    words: frozenset[str]
    """What brokers said of its certificates."""
    mute: int
    """Turns it could not hold although it had power."""


class Body(NamedTuple):
    """A robot as a thing that runs: a clone is another body of the same device."""

    robot: str
    """Its name in this world: the device's, for a clone with something behind it."""
    device: str
    state: Path
    """Its folder, which nobody has open any more."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the checks look at."""

    bodies: Sequence[Body]
    backend: Path
    """Its folder, which nobody has open any more."""
    heard: Sequence[Heard]
    backlog: Mapping[str, int]
    """By robot, records that are not acked."""
    in_flight_max: Mapping[str, int] = field(default_factory=dict)
    """By robot, the most batches that were on their way at once."""
    over_window: Mapping[str, int] = field(default_factory=dict)
    """By robot, batches sent although the backend's last word wanted fewer on their way."""
    orders: Sequence[Ordered] = ()
    """All that an operator ordered."""
    did: Mapping[str, Mapping[tuple[str, str], int]] = field(default_factory=dict)
    """By device: (what it did, the command's id) -> how often, over all its lives and bodies."""
    attacks: Sequence[Attack] = ()
    """What was tried in the wrong hands."""
    says: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By device, lines it said."""
    clocks: Mapping[str, float] = field(default_factory=dict)
    """By device, by how many seconds its wall clock is wrong in the end."""
    certificates: Mapping[str, Certificate] = field(default_factory=dict)
    """By device, where robots have certificates that end."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """What else is worth telling, by name."""


def by_device(done: Iterable[tuple[str, Mapping[tuple[str, str], int]]]) -> dict[str, Counter[tuple[str, str]]]:
    """What the bodies of each device did, together."""
    did: dict[str, Counter[tuple[str, str]]] = {}
    for device, one in done:
        did.setdefault(device, Counter()).update(one)
    return did
