"""What a robot is to be (desired) and what it is (reported).

Desired is a JWS of kind TWIN, signed by the backend, retained on `twin/desired`, with a version that only grows. Reported is plain
JSON, retained on `twin/reported`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import Field

from agent.contract.canonical import INTEGER_MAX
from agent.contract.fleet import jws
from agent.contract.fleet.command import Moment, parsed
from agent.contract.record import Name, Open
from agent.contract.signing import SigningKey

TWIN: Final = "voxmeter-twin+jws"

TWIN_BYTES_MAX = 64 * 1024

Settings = dict[str, dict[str, Any]]
"""What differs from the device profile: table -> key -> value, as in the profile's TOML."""

AHEAD_MAX: Final = 10_000
"""What a robot reports counts up to so many versions above what the backend ever gave: books from an older backup are behind by what
was set since, and a robot, which signs nothing here, must not use the versions up."""

Version = Annotated[int, Field(ge=1, le=INTEGER_MAX, strict=True)]


class Keys(Open):
    """Whom the robot is to believe from now on: lists as in a JWKS. A list that is absent stays as it is."""

    ack_keys: list[dict[str, Any]] | None = None
    """The backend's."""
    operator_keys: list[dict[str, Any]] | None = None


class Desired(Open):
    """What the backend wants of one robot; whole, never a part of it."""

    aud: Name
    """`{tenant}/{device}`."""
    version: Version
    settings: Settings = Field(default_factory=dict)
    """All settings that differ from the profile; what is not named is as the profile has it."""
    trust: Keys = Keys()
    groups: list[Name] | None = None
    """The groups this robot belongs to; absent: as its profile says."""
    iat: Moment


ReportedState = Literal["applied", "trial", "refused", "failed", "none"]


class Reported(Open):
    """What a robot runs with."""

    version: Annotated[int, Field(ge=0, le=INTEGER_MAX, strict=True)]
    """Of the twin that was looked at last; 0: none."""
    state: ReportedState
    """What became of it: in force, being tried, not taken, tried and taken back."""
    why: Annotated[str, Field(max_length=2000)] = ""
    in_force: Annotated[int, Field(ge=0, le=INTEGER_MAX, strict=True)]
    """The version whose settings the robot runs with; 0: its profile alone."""
    settings: Settings = Field(default_factory=dict)
    """Those that are in force, beside the profile's."""
    software: Annotated[str, Field(max_length=100)] = ""


def signed(desired: Desired, key: SigningKey) -> bytes:
    """As it is published."""
    return jws.sign(TWIN, orjson.dumps(desired.model_dump(exclude_none=True), option=orjson.OPT_SORT_KEYS), key)


def read(content: bytes, trusted: Mapping[str, bytes]) -> Desired:
    """Raises BadSignature for what no trusted key signed, BadInput for what was signed and is no twin."""
    return read_signed(content, trusted)[1]


def read_signed(content: bytes, trusted: Mapping[str, bytes]) -> tuple[str, Desired]:
    """The id of the trusted key that signed, and the twin. Raises as `read`."""
    key_id, payload = jws.read(TWIN, content, trusted, bytes_max=TWIN_BYTES_MAX, what="the twin")
    return key_id, parsed(payload, Desired, "the twin")


def written(reported: Reported) -> bytes:
    return orjson.dumps(reported.model_dump(), option=orjson.OPT_SORT_KEYS)


def read_reported(content: bytes) -> Reported:
    """Raises BadInput in one line."""
    return parsed(content, Reported, "the reported twin")
