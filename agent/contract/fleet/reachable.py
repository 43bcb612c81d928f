"""Decides whether a robot can still be steered by those who steer it when a twin is in force. Both sides ask it: who signs, who takes."""

from collections.abc import Mapping, Sequence
from typing import Any

from agent.contract.fleet.command import OPS
from agent.contract.fleet.twin import Desired, Keys, Settings
from agent.contract.registration import trusted_of
from agent.errors import BadInput
from agent.profile import remote
from agent.profile.remote import AFAR, LocksOut, suggest

KEYS_MAX = 64
"""Of one list: a robot looks a key up at every message, and nobody has more operators who sign."""


class BadKeys(BadInput):
    """A list of keys with something in it that is none."""

    code = "bad-keys"


def check(desired: Desired, signer: str) -> None:
    """`signer`: id of the key that signs the twin. Raises LocksOut, NotSettable, BadKeys or BadProfile, in one line."""
    check_settings(laid(desired))
    check_keys(desired.trust, signer)


def laid(desired: Desired) -> Settings:
    """What is laid over the profile: the settings, with the groups at their place in `[fleet]`."""
    if desired.groups is None:
        return {table: dict(keys) for table, keys in desired.settings.items()}
    return remote.merged(desired.settings, {"fleet": {"groups": desired.groups}})


def check_settings(settings: Mapping[str, Mapping[str, Any]]) -> None:
    """As far as it can be told without the robot's own profile. Raises LocksOut, NotSettable or BadProfile."""
    remote.check(settings)
    for op in settings.get("fleet", {}).get("allow") or ():
        if op not in OPS:
            raise BadInput(f"{AFAR}: fleet.allow names {op[:100]!r}, which is no command", suggest(op, OPS))


def check_keys(trust: Keys, signer: str) -> None:
    """Raises LocksOut or BadKeys."""
    if trust.ack_keys is not None and signer not in _held(trust.ack_keys, "ack_keys"):
        raise LocksOut("trust.ack_keys leaves out the key that signs this twin", "with that no other twin could follow it; add the key")
    if trust.operator_keys is not None and not _held(trust.operator_keys, "operator_keys"):
        raise LocksOut("trust.operator_keys names nobody", "with that nobody could command the robot; name an operator's key")


def _held(keys: Sequence[Mapping[str, Any]], what: str) -> dict[str, bytes]:
    if len(keys) > KEYS_MAX:
        raise BadKeys(f"trust.{what} has {len(keys)} keys; the most is {KEYS_MAX}")
    held = trusted_of(keys)
    if len(held) < len(keys):
        raise BadKeys(f"trust.{what} names a key that is none, or one twice", "give keys as in a JWKS: kty OKP, crv Ed25519, kid, x")
    return held
