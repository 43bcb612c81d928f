"""Reads what robots say of themselves; whom a message is of, its topic says, which the broker has checked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from agent.contract import wire
from agent.contract.fleet import alarm, command, presence, twin
from agent.contract.fleet.alarm import Alarm
from agent.contract.fleet.command import Result
from agent.contract.fleet.presence import Birth, Presence, Sync, Telemetry
from agent.contract.fleet.twin import Reported
from agent.errors import BadInput

Told: TypeAlias = Birth | Presence | Reported | Telemetry | Sync | Result | Alarm | Mapping[str, Any]

READERS: dict[str, Callable[[bytes], Told]] = {
    wire.BIRTH: presence.read_birth,
    wire.PRESENCE: presence.read_presence,
    wire.REPORTED: twin.read_reported,
    wire.TELEMETRY: presence.read_telemetry,
    wire.SYNC: presence.read_sync,
    wire.ALARM: alarm.read,
}

KEPT = (wire.BIRTH, wire.PRESENCE, wire.REPORTED)
"""What a broker keeps for whoever comes later. Anything else that was kept is old, and not believed."""


@dataclass(frozen=True, slots=True)
class News:
    """A message of one robot."""

    tenant: str
    device: str
    what: str
    """The topic below the robot's own: `state/birth`, `cmd/res/…`."""
    told: Told | None
    """None: what the broker kept there was taken away."""
    old: bool = False
    """It was so before we listened, or is told again."""


def filters(tenant: str, *what: str) -> list[str]:
    """Topic filters for these messages of all robots of a tenant."""
    return [wire.topic(tenant, "+", one) for one in what]


def read(topic: str, content: bytes, *, retained: bool) -> News:
    """Raises BadInput in one line, naming the robot."""
    tenant, device, what = wire.whose(topic)
    if what in KEPT and not content:
        return News(tenant, device, what, None)
    if retained and what not in KEPT:
        raise BadInput(f"{device}: an old {what} was kept by the broker")
    try:
        told = _told(what, content)
    except BadInput as error:
        raise BadInput(f"{device}: {error}") from error
    named = getattr(told, "device", None)
    if named is not None and named != command.audience_of(tenant, device):
        raise BadInput(f"{device} speaks of {named}")
    return News(tenant, device, what, told)


def _told(what: str, content: bytes) -> Told:
    if reader := READERS.get(what):
        return reader(content)
    first, _, last = what.rpartition("/")
    if first == wire.RESULT:
        result = command.read_result(content)
        if result.cmd_id != last:
            raise BadInput(f"a result of {result.cmd_id[:40]} at the place of {last[:40]}")
        return result
    if first == wire.EVENT and len(content) <= wire.EVENT_BYTES_MAX:
        return _event(content)
    raise BadInput(f"nobody here reads {what[:100]}")


def _event(content: bytes) -> Mapping[str, Any]:
    try:
        told = orjson.loads(content)
    except ValueError as error:
        raise BadInput(f"the event is not JSON: {error}") from error
    if not isinstance(told, dict):
        raise BadInput("the event is no JSON object")
    return told
