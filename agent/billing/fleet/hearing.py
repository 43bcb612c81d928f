"""Decides what a robot's message is that is no batch: an event, a result, a birth, … or nothing anybody can use. Pure."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from agent.contract import wire
from agent.contract.fleet import alarm, command, presence, twin
from agent.contract.fleet.alarm import Alarm, Refusals
from agent.contract.fleet.command import Result, audience_of
from agent.contract.fleet.presence import Birth, Presence, Telemetry
from agent.contract.fleet.twin import Reported
from agent.errors import BadInput

EVENT_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")

STATE_BYTES_MAX: Final = 64 * 1024
"""Of a birth, a presence, a telemetry, a reported twin: ours have some 2 KiB, a twin with all settings some 20."""

Told = Alarm | Refusals | Result | Birth | Presence | Telemetry | Reported

Kind = Literal["event", "result", "birth", "presence", "telemetry", "reported"]

STATES: Final[dict[str, Kind]] = {
    wire.BIRTH: "birth",
    wire.PRESENCE: "presence",
    wire.TELEMETRY: "telemetry",
    wire.REPORTED: "reported",
}


@dataclass(frozen=True, slots=True)
class Said:
    """One message that makes sense."""

    kind: Kind
    name: str
    """Of an event; `result` of a command's; else as the kind."""
    told: Told | None
    """None of an event that only people read."""
    body: str
    """JSON with sorted keys, so that the link it came by makes no difference."""

    @property
    def digest(self) -> bytes:
        """By which the same message is known again."""
        return hashlib.sha256(f"{self.name}\0{self.body}".encode()).digest()


def said(tenant: str, device: str, what: str, content: bytes, *, retained: bool = False) -> Said:
    """`what` stands below the robot's own subtree. Raises BadInput for what nobody can use, or what speaks for another robot."""
    kind = STATES.get(what)
    if kind is None and retained:
        raise BadInput(f"{what[:200]!r} is retained, which events and results never are")
    told: Told | None
    if kind:
        told, name = _state(kind, content), str(kind)
    elif what.startswith(f"{wire.RESULT}/"):
        kind, name, told = "result", "result", _result(what.removeprefix(f"{wire.RESULT}/"), content)
    elif what.startswith(f"{wire.EVENT}/"):
        kind, name = "event", what.removeprefix(f"{wire.EVENT}/")
        told = _event(name, content)
    else:
        raise BadInput(f"nobody here takes {what[:200]!r}")
    own = getattr(told, "device", None)
    if own is not None and own != audience_of(tenant, device):
        raise BadInput(f"it speaks of {own[:200]!r}, but came from {tenant}/{device}")
    return Said(kind, name, told, _canonical(content))


def _state(kind: Kind, content: bytes) -> Told:
    if len(content) > STATE_BYTES_MAX:
        raise BadInput(f"the {kind} has {len(content)} bytes; the most is {STATE_BYTES_MAX}")
    if kind == "birth":
        return presence.read_birth(content)
    if kind == "presence":
        return presence.read_presence(content)
    return presence.read_telemetry(content) if kind == "telemetry" else twin.read_reported(content)


def _result(cmd_id: str, content: bytes) -> Result:
    result = command.read_result(content)
    if result.cmd_id != cmd_id:
        raise BadInput(f"a result of {result.cmd_id} came as one of {cmd_id[:100]!r}")
    return result


def _event(name: str, content: bytes) -> Told | None:
    if not EVENT_NAME.fullmatch(name):
        raise BadInput(f"{name[:100]!r} is no name of an event")
    if len(content) > wire.EVENT_BYTES_MAX:
        raise BadInput(f"the event has {len(content)} bytes; the most is {wire.EVENT_BYTES_MAX}")
    if f"{wire.EVENT}/{name}" == wire.ALARM:
        return alarm.read(content).model_copy(update={"by": "robot"})
    return alarm.read_refusals(content) if f"{wire.EVENT}/{name}" == wire.REFUSALS else None


def _canonical(content: bytes) -> str:
    """Raises BadInput unless it is a JSON object that any database takes."""
    try:
        found: Any = orjson.loads(content)
        if not isinstance(found, dict):
            raise BadInput("it is no JSON object")
        text = orjson.dumps(found, option=orjson.OPT_SORT_KEYS).decode()
    except (ValueError, TypeError, RecursionError) as error:
        raise BadInput(f"it is not JSON: {error}") from error
    return text
