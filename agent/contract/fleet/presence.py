"""Who is there: a robot's birth, its last will, what it measures of itself, and what it asks for when it is back."""

from typing import Annotated, Any

import orjson
from pydantic import Field

from agent.contract.canonical import INTEGER_MAX
from agent.contract.fleet.command import parsed
from agent.contract.record import Name, Open

Counted = Annotated[int, Field(ge=0, le=INTEGER_MAX, strict=True)]


class ConnId(Open):
    """Which connection of a robot: both only grow, so an old will never passes for a new one."""

    boot: Counted
    """The number of the agent's start (`store.starts`): another start has a larger one."""
    connect: Counted
    """How often it has connected since."""

    @property
    def order(self) -> tuple[int, int]:
        return self.boot, self.connect


class Birth(Open):
    """`state/birth`, retained: the robot is connected, and this is what it is."""

    device: Name
    """`{tenant}/{device}`."""
    conn_id: ConnId
    nonce: Annotated[Name, Field(max_length=64)]
    """Of this connection: goes into a command's `session_nonce`, and into the signed time the backend answers with."""
    software: Name
    profile: Name
    groups: list[Name] = Field(default_factory=list)
    ops: list[Name] = Field(default_factory=list)
    """Commands it takes."""
    clock: Name
    """Its clock's quality: none, floor, ntp, signed."""


class Presence(Open):
    """`state/presence`, retained: `online` false is the robot's will, or its goodbye."""

    device: Name
    conn_id: ConnId
    online: Annotated[bool, Field(strict=True)]
    why: Annotated[str, Field(max_length=200)] = ""
    """`lost` in a will; `stopped`, `restarting`, `reopening`, `decommissioned` in a goodbye."""


class Telemetry(Open):
    """`state/telemetry`: how the robot is. What could not be measured is absent, never 0."""

    device: Name
    uptime_s: Counted
    cpu_percent: float | None = None
    """Of one core, the agent and its children together, since the last one."""
    memory_mb: float | None = None
    """PSS of the same."""
    temperature_c: float | None = None
    disk_free_mb: float | None = None
    rtf: dict[str, float] = Field(default_factory=dict)
    """By stage: time it took by time of the sound it took or made; below 1 is faster than real time."""
    microphone: dict[str, Any] = Field(default_factory=dict)
    """`{hearing, device, rate, level, why}`."""
    waiting_records: Counted | None = None
    waiting_oldest_s: Counted | None = None
    link: Name | None = None


class Sync(Open):
    """`cmd/sync`: a robot is back and tells what it last took, so that who waits for it can go on."""

    device: Name
    conn_id: ConnId
    nonce: Annotated[Name, Field(max_length=64)]
    last: dict[str, Counted] = Field(default_factory=dict)
    """By operator key: the highest `seq` taken."""
    open: list[Name] = Field(default_factory=list)
    """Ids of commands that are under way."""


def written(told: Birth | Presence | Telemetry | Sync) -> bytes:
    return orjson.dumps(told.model_dump(exclude_none=True), option=orjson.OPT_SORT_KEYS)


def read_birth(content: bytes) -> Birth:
    """Raises BadInput in one line, as all of these."""
    return parsed(content, Birth, "the birth")


def read_presence(content: bytes) -> Presence:
    return parsed(content, Presence, "the presence")


def read_telemetry(content: bytes) -> Telemetry:
    return parsed(content, Telemetry, "the telemetry")


def read_sync(content: bytes) -> Sync:
    return parsed(content, Sync, "what a robot tells when it is back")


def present(birth: Birth | None, presence: Presence | None) -> bool:
    """Whether a robot is connected, of the two retained messages as they stand: an older will says nothing against a newer birth."""
    if birth is None:
        return False
    return presence is None or presence.online or presence.conn_id.order < birth.conn_id.order
