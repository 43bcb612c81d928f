"""What is signed as it should be and must be refused all the same: by an operator's desk that errs, by a backend in the wrong hands.

Twins are sent in two waves. Those of the first take nothing; then comes one that a robot may well try, and is opened anew for; those of
the second are older than that.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from agent.contract import wire
from agent.contract.fleet import twin
from agent.contract.fleet.twin import TWIN_BYTES_MAX, Desired
from agent.contract.registration import jwks, signed_time
from agent.contract.signing import SigningKey
from agent.sim.world.fleet.attacker import CLOCK, MEGABYTE, Tried
from agent.sim.world.fleet.operator import VALID_S, Operator

DAY_S = 24 * 3600

LATE = "replayed,stale"
"""What any command may be as well: behind a later one, or for a robot that knows no time and has connected anew."""

OLDER, NEWER = 1, 100
"""Versions; between them lie those of the first wave."""

OPENED_ANEW_S = 6.0
"""A robot that tries a twin is closed and opened meanwhile."""


def commands(operator: Operator, device: str) -> list[Tried]:
    """By the operator's own key; none of them may be done."""
    now = operator.now_s
    old = {"session_nonce": "of another connection"}  # with the present one's it would be new to a robot that knows no time
    wrong: dict[str, tuple[str, dict[str, Any]]] = {
        "command of no kind": ("unknown-op", {"op": "robot.explode"}),
        "command with wrong arguments": (f"bad-arguments,{LATE}", {"args": {"text": "Evil.", "loud": True}}),
        "command from the future": (f"from-the-future,{LATE}", {"iat": now + 3600, "exp": now + 3600 + VALID_S, **old}),
        "expired command": (f"expired,{LATE}", {"iat": now - 2 * DAY_S, "exp": now - DAY_S, **old}),
        "command for ever": (f"too-long,{LATE}", {"exp": now + 400 * DAY_S}),
        "command of another tenant": ("wrong-audience", {"aud": f"evil/{device}"}),
    }
    told = ((kind, code, operator.amiss(device, changes)) for kind, (code, changes) in wrong.items())
    return [Tried(kind, f"{wire.REQUEST}/{one.cmd_id}", one.content, code, cmd_id=one.cmd_id) for kind, code, one in told]


def twins(robot: str, backend: SigningKey, *, big_bytes: int = MEGABYTE) -> list[Tried]:
    """By the backend's own key: with any of these nobody could steer the robot any more, or somebody else could. The first wave."""
    evil = SigningKey.from_seed(b"e" * 32)
    wrong: dict[str, tuple[str, dict[str, Any]]] = {
        "twin that names no operator": ("twin-locks-out", {"trust": {"operator_keys": []}}),
        "twin that forgets its backend": ("twin-locks-out", {"trust": {"ack_keys": jwks([evil.public])}}),
        "twin that allows nothing": ("twin-locks-out", {"settings": {"fleet": {"allow": []}}}),
        "twin that moves the backend": ("twin-not-settable", {"settings": {"sync": {"https": {"host": "evil", "port": 443}}}}),
        "twin of another robot": ("twin-other-robot", {"aud": f"{robot}0"}),
    }
    made = [
        Tried(kind, wire.DESIRED, _twin(robot, number, backend, **changes), code)
        for number, (kind, (code, changes)) in enumerate(wrong.items(), OLDER + 1)
    ]
    long = _twin(robot, NEWER, backend) + b"A" * max(big_bytes, TWIN_BYTES_MAX)
    return [*made, Tried("too long a twin", wire.DESIRED, long, "bad-twin")]


def tried(robot: str, backend: SigningKey) -> bytes:
    """A twin that nothing is wrong with."""
    return _twin(robot, NEWER, backend, settings={"dialog": {"apology": "I am not well."}})


def late(robot: str, backend: SigningKey, *, now: str) -> Sequence[Tried]:
    """What was true once; the second wave. `now`: what a robot of another connection was told, RFC 3339, long ago."""
    older = _twin(robot, OLDER, backend, settings={"dialog": {"apology": "I was better."}})
    time = orjson.dumps(signed_time("0" * 32, now, backend).model_dump())
    return [Tried("older twin", wire.DESIRED, older, "twin-older"), Tried("replayed time", wire.TIME, time, CLOCK)]


def _twin(robot: str, version: int, key: SigningKey, **changes: object) -> bytes:
    return twin.signed(Desired.model_validate({"aud": robot, "version": version, "iat": 0} | changes), key)
