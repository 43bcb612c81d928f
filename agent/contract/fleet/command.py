"""A command to a robot and the result it answers with.

A command is a JWS of kind COMMAND, signed by an operator, published on `cmd/req/{cmd_id}`, at QoS 1, never retained, with an expiry.
A result is plain JSON on `cmd/res/{cmd_id}`; the last one told for a command is final.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar, get_args

import orjson
from pydantic import Field, StringConstraints, ValidationError

from agent.contract.canonical import INTEGER_MAX
from agent.contract.fleet import jws
from agent.contract.record import Name, Open, first_problem
from agent.contract.signing import SigningKey
from agent.errors import BadInput

Told = TypeVar("Told", bound=Open)

COMMAND: Final = "voxmeter-command+jws"
"""The `typ` of a command."""

COMMAND_BYTES_MAX = 32 * 1024
"""Of the whole JWS: some 20 KiB of arguments, more than any op takes."""

RESULT_BYTES_MAX = 64 * 1024
"""Fits into a broker's packet; a result that would be longer is cut by whoever makes it."""

Op = Literal[
    "ping",
    "diagnostics.collect",
    "config.apply",
    "model.update",
    "agent.restart",
    "usage.flush",
    "usage.audit",
    "budget.set",
    "mode.set",
    "say",
    "log.level",
    "privacy.forget",
]
"""Ops that mean something; a command may name others, and is then rejected."""

OPS: tuple[Op, ...] = get_args(Op)

State = Literal["accepted", "running", "succeeded", "failed", "rejected", "expired", "unknown"]

FINAL: frozenset[State] = frozenset({"succeeded", "failed", "rejected", "expired", "unknown"})
"""After these nothing follows."""

CommandId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")]
"""A UUIDv7."""

Moment = Annotated[int, Field(ge=0, le=INTEGER_MAX, strict=True)]
"""Seconds since 1970, UTC."""


class Command(Open):
    """What a robot is told to do."""

    cmd_id: CommandId
    aud: Name
    """`{tenant}/{device}`, or `{tenant}/@{group}` for every robot of a group."""
    seq: Annotated[int, Field(ge=1, le=INTEGER_MAX, strict=True)]
    """Of the key that signs: grows with every command, so that an old one is known for what it is."""
    op: Name
    args: dict[str, Any] = Field(default_factory=dict)
    iat: Moment
    exp: Moment
    session_nonce: Annotated[str, Field(max_length=64)] = ""
    """Of the robot's present connection, from its birth; what makes a command fresh for a robot without a clock it can trust."""


class Result(Open):
    """How a command stands."""

    cmd_id: CommandId
    device: Name
    """`{tenant}/{device}`."""
    op: Name
    seq: Annotated[int, Field(ge=0, le=INTEGER_MAX, strict=True)]
    state: State
    code: Annotated[str, Field(max_length=100)] = ""
    """Why it was not done, for programs: `unknown-op`, `bad-arguments`, `not-allowed`, `replayed`, `stale`, `expired` …"""
    message: Annotated[str, Field(max_length=2000)] = ""
    """The same for people, one line."""
    result: dict[str, Any] = Field(default_factory=dict)
    """What the op answers."""


def audience_of(tenant: str, device: str) -> str:
    """Names one robot in `aud`."""
    return f"{tenant}/{device}"


def audience_of_group(tenant: str, group: str) -> str:
    """Names all robots of a group."""
    return f"{tenant}/@{group}"


def signed(command: Command, key: SigningKey) -> bytes:
    """As it is published."""
    return jws.sign(COMMAND, orjson.dumps(command.model_dump(), option=orjson.OPT_SORT_KEYS), key)


def read(content: bytes, trusted: Mapping[str, bytes]) -> tuple[str, Command]:
    """The id of the trusted key that signed, and the command.

    Raises BadSignature for what no trusted key signed, BadInput for what was signed and is no command.
    """
    key_id, payload = jws.read(COMMAND, content, trusted, bytes_max=COMMAND_BYTES_MAX, what="the command")
    return key_id, parsed(payload, Command, "the command")


def written(result: Result) -> bytes:
    return orjson.dumps(result.model_dump(), option=orjson.OPT_SORT_KEYS)


def read_result(content: bytes) -> Result:
    """Raises BadInput in one line."""
    if len(content) > RESULT_BYTES_MAX:
        raise BadInput(f"the result has {len(content)} bytes; the most is {RESULT_BYTES_MAX}")
    return parsed(content, Result, "the result")


def parsed(content: bytes, model: type[Told], what: str) -> Told:
    """JSON as that model. Raises BadInput naming `what` it should have been."""
    try:
        return model.model_validate(orjson.loads(content))
    except ValidationError as error:
        raise BadInput(f"{what} is wrong: {first_problem(error)}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{what} is not JSON: {error}") from error
