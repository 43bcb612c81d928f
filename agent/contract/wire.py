"""Names on the wire between a robot and the backend, and the two small messages that are neither batch nor ack."""

from typing import Annotated, Final, TypeVar

import orjson
from pydantic import Field, ValidationError

from agent.contract.record import Epoch, Name, Open, first_problem
from agent.errors import BadInput

T = TypeVar("T", bound=Open)

BATCH: Final = "usage/batch"
MARK: Final = "usage/mark"
ACK: Final = "usage/ack"
LEASE: Final = "usage/lease"

REQUEST: Final = "cmd/req"
RESULT: Final = "cmd/res"
SYNC: Final = "cmd/sync"
DESIRED: Final = "twin/desired"
REPORTED: Final = "twin/reported"
BIRTH: Final = "state/birth"
PRESENCE: Final = "state/presence"
TELEMETRY: Final = "state/telemetry"
TIME: Final = "time/att"
EVENT: Final = "event"
"""Commands, twins, presence and events; `cmd/req/{id}`, `cmd/res/{id}`, `event/{name}`."""

EVERY_BATCH: Final = "$share/billing/v1/+/+/" + BATCH
EVERY_MARK: Final = "$share/billing/v1/+/+/" + MARK

EVERY_EVENT: Final = "v1/+/+/" + EVENT + "/+"
EVERY_BIRTH: Final = "v1/+/+/" + BIRTH
EVERY_PRESENCE: Final = "v1/+/+/" + PRESENCE
EVERY_TELEMETRY: Final = "v1/+/+/" + TELEMETRY
EVERY_RESULT: Final = "v1/+/+/" + RESULT + "/+"
EVERY_REPORTED: Final = "v1/+/+/" + REPORTED
"""What the backend hears of the fleet besides the books."""

ALARM: Final = EVENT + "/alarm"
REFUSALS: Final = EVENT + "/refused"
"""Two events the backend itself looks into: `contract.fleet.alarm`."""

EVENT_BYTES_MAX: Final = 16 * 1024
"""Of one event; a result may have more, see `contract.fleet.command`."""

REFUSED: Final = "vx-refused"
"""MQTT user property of an answer on `usage/ack` that is a refusal: its code. The message is signed like an ack."""

PATIENCE: Final = frozenset({"busy", "too-many-ranges"})
"""Refusals that pass by themselves: the same is sent again soon, not much later as where a person must act."""

ENCODED: Final = "vx-encoding"
"""MQTT user property of a compressed batch, as HTTP's Content-Encoding: gzip or zstd."""

INFLIGHT_MAX: Final = 8
"""Batches a robot has on their way at once: with paho's receive maximum of 16 there is room for everything else."""

ACK_WAIT_MS: Final = 30_000
"""Without an ack for so long a batch is sent again, later each time."""

RECEIVE_MAX: Final = 16
SESSION_EXPIRY_S: Final = 14 * 24 * 3600
"""How long a broker keeps what is meant for a robot that is away."""

MESSAGE_BYTES_MAX: Final = 4 * 1024
"""Of a question or a refusal."""


def topic(tenant: str, device: str, what: str) -> str:
    """`v1/{tenant}/{device}/{what}`."""
    return f"v1/{tenant}/{device}/{what}"


def whose(name: str) -> tuple[str, str, str]:
    """(tenant, device, what) of a topic. Raises BadInput for any other."""
    parts = name.split("/", 3)
    if len(parts) != 4 or parts[0] != "v1" or not all(parts):
        raise BadInput(f"{name[:200]!r} is no topic of a robot")
    return parts[1], parts[2], parts[3]


class MarkQuestion(Open):
    """A robot asks what the backend holds of an epoch."""

    epoch: Epoch
    nonce: Annotated[Name, Field(max_length=64)]


class Refusal(Open):
    """Why the backend took nothing of what was sent. Never final for a key or a device it does not know."""

    code: Name
    """`too-big`: send half of it; `fork`: act as for an ack that is different; else try again later."""
    message: Annotated[str, Field(max_length=1000)]
    retry_after_ms: Annotated[int, Field(ge=0)] = 0


def written(message: MarkQuestion | Refusal) -> bytes:
    return orjson.dumps(message.model_dump(exclude_none=True), option=orjson.OPT_SORT_KEYS)


def read_question(content: bytes) -> MarkQuestion:
    """Raises BadInput in one line."""
    return _read(content, MarkQuestion, "the question for the mark")


def read_refusal(content: bytes) -> Refusal:
    """Raises BadInput in one line."""
    return _read(content, Refusal, "the refusal")


def _read(content: bytes, model: type[T], what: str) -> T:
    if len(content) > MESSAGE_BYTES_MAX:
        raise BadInput(f"{what} has {len(content)} bytes; the most is {MESSAGE_BYTES_MAX}")
    try:
        return model.model_validate(orjson.loads(content))
    except ValidationError as error:
        raise BadInput(f"{what} is wrong: {first_problem(error)}") from error
    except ValueError as error:
        raise BadInput(f"{what} is not JSON: {error}") from error
