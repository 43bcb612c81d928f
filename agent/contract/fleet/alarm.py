"""What somebody should look at: alarms, as robots and the backend raise and clear them, and how often a robot refused commands.

Both travel as events, `event/alarm` and `event/refused`. An event names its moment, so that two are never the same bytes: whoever
gets the same bytes of the same robot again has got one event twice.
"""

from typing import Annotated, Any, Final, Literal, get_args

import orjson
from pydantic import Field

from agent.contract import wire
from agent.contract.fleet.command import parsed
from agent.contract.fleet.presence import Counted
from agent.contract.record import Name, Open
from agent.errors import BadInput

AlarmName = Literal["fork", "gap", "backlog", "budget", "microphone", "engine", "certificate", "refused-commands", "twin", "silent"]
"""`silent` only the backend raises: of a robot that has not been heard of for much longer than is usual for it."""

NAMES: Final[tuple[AlarmName, ...]] = get_args(AlarmName)


class Alarm(Open):
    """Something has begun to be wrong, or has ceased to be."""

    name: Name
    """One of NAMES; a newer robot may know others."""
    state: Literal["raised", "cleared"]
    device: Name
    """`{tenant}/{device}`."""
    since: Name
    """RFC 3339: when this state began, as far as whoever tells it knows the time."""
    message: Annotated[str, Field(max_length=1000)]
    """One line for people: what is wrong, or that it no longer is."""
    facts: dict[str, Any] = Field(default_factory=dict)
    """The same for programs: a few plain values."""
    by: Literal["robot", "backend"] = "robot"


class Refusals(Open):
    """How often commands were refused for one reason since this was last told."""

    code: Name
    """As in a result: `bad-signature`, `replayed`, `expired` …"""
    count: Counted = 1
    message: Annotated[str, Field(max_length=1000)] = ""
    """Of the last of them, one line."""
    first: Annotated[str, Field(max_length=64)] = ""
    """RFC 3339, of the first and the last of them."""
    last: Annotated[str, Field(max_length=64)] = ""


def written(told: Alarm | Refusals) -> bytes:
    return orjson.dumps(told.model_dump(exclude_none=True), option=orjson.OPT_SORT_KEYS)


def read(content: bytes) -> Alarm:
    """Raises BadInput in one line."""
    return parsed(_small(content, "the alarm"), Alarm, "the alarm")


def read_refusals(content: bytes) -> Refusals:
    """Raises BadInput in one line."""
    return parsed(_small(content, "what was refused"), Refusals, "what was refused")


def _small(content: bytes, what: str) -> bytes:
    if len(content) > wire.EVENT_BYTES_MAX:
        raise BadInput(f"{what} has {len(content)} bytes; the most is {wire.EVENT_BYTES_MAX}")
    return content
