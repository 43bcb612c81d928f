"""How a robot and the backend come to know each other's keys: a one-time token against an API key, usage keys, the backend's own keys."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from agent.contract.record import Epoch, KeyData, KeyText, Name, Open, SignatureText
from agent.contract.signing import SigningKey, decode, encode, key_id_of, verify

REGISTRATION = b"voxmeter-register-v1\0"
"""Begins what a robot signs to show that it holds the key it registers."""

SERVER_TIME = b"voxmeter-time-v1\0"
"""Begins what the backend signs when it is asked for the time."""


class Registration(Open):
    """`POST /v1/devices`: who registers, by which one-time token, with which usage key."""

    token: Name
    tenant: Name
    device: Name
    key: KeyText
    signature: SignatureText


class Registered(Open):
    """The answer: what the robot shows from now on, and whose acks it believes."""

    tenant: Name
    device: Name
    account: Name
    """The account that pays, as the backend has it."""
    api_key: Name
    keys: list[dict[str, Any]]
    """As in the JWKS."""


class NewKey(KeyData):
    """`POST /v1/devices/{d}/keys`: the data of a `key` record and the epoch it will stand in."""

    epoch: Epoch


class SignedTime(Open):
    """`GET /v1/time?nonce=`: `signature` is over SERVER_TIME, the nonce, NUL, the time."""

    time: Name
    nonce: Annotated[Name, Field(max_length=64)]
    key: Name
    signature: SignatureText


class _PublicKey(Open):
    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    kid: Name
    x: KeyText


def registering(token: str, tenant: str, device: str, key: SigningKey) -> Registration:
    """What a robot sends to register."""
    signature = encode(key.sign(_told(token, tenant, device)))
    return Registration(token=token, tenant=tenant, device=device, key=encode(key.public), signature=signature)


def holds_its_key(registration: Registration) -> bool:
    """Whether whoever registers holds the key."""
    message = _told(registration.token, registration.tenant, registration.device)
    return verify(decode(registration.key), message, decode(registration.signature))


def jwks(publics: Iterable[bytes]) -> list[dict[str, Any]]:
    """Raw Ed25519 public keys as the list `keys` of a JWKS (RFC 8037)."""
    return [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": key_id_of(one), "x": encode(one)} for one in publics]


def trusted_of(keys: Iterable[Mapping[str, Any]]) -> dict[str, bytes]:
    """Key id -> raw public key, of those in a JWKS that can sign acks; a key under another's id is passed over."""
    held = {}
    for one in keys:
        try:
            key = _PublicKey.model_validate(one)
        except ValidationError:
            continue
        if key_id_of(public := decode(key.x)) == key.kid:
            held[key.kid] = public
    return held


def time_message(nonce: str, time: str) -> bytes:
    return SERVER_TIME + nonce.encode() + b"\0" + time.encode()


def _told(token: str, tenant: str, device: str) -> bytes:
    return REGISTRATION + b"\0".join(part.encode() for part in (token, tenant, device))
