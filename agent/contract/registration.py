"""How robot and backend come to know each other's keys, and part: a one-time token against an API key and a certificate, usage keys."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from agent.contract.record import Epoch, KeyData, KeyText, Name, Open, SignatureText
from agent.contract.signing import SigningKey, decode, encode, key_id_of, verify

REGISTRATION = b"voxmeter-register-v1\0"
"""Begins what a robot signs to show that it holds the key it registers."""

CERTIFICATE = b"voxmeter-certificate-v1\0"
"""Begins what a robot signs with its usage key to ask for another certificate."""

DECOMMISSION = b"voxmeter-decommission-v1\0"
"""Begins what a robot signs with its usage key to be struck off."""

REVOKED = "revoked"
"""The code by which the backend says to a robot that it was struck off; whoever it never knew is told `unauthorized`."""

SERVER_TIME = b"voxmeter-time-v1\0"
"""Begins what the backend signs when it is asked for the time."""


PEM_CHARACTERS_MAX = 16 * 1024
"""A request has some 500."""


class Registration(Open):
    """`POST /v1/devices`: who registers, by which one-time token, with which usage key."""

    token: Name
    tenant: Name
    device: Name
    key: KeyText
    signature: SignatureText
    """Over the rest, `csr` included where there is one."""
    csr: Annotated[str, Field(max_length=PEM_CHARACTERS_MAX)] = ""
    """Asks for a certificate as well (PKCS#10, PEM), named `{tenant}/{device}`."""


class Registered(Open):
    """The answer: what the robot shows from now on, and whose acks it believes."""

    tenant: Name
    device: Name
    account: Name
    """The account that pays, as the backend has it."""
    api_key: Name
    keys: list[dict[str, Any]]
    """As in the JWKS."""
    certificate: str | None = None
    """PEM, the robot's own first; None where none was asked for, or the backend issues none."""
    operator_keys: list[dict[str, Any]] | None = None
    """Whose commands the robot is to obey, as in a JWKS; None from a backend that does not say."""


class CertificateRequest(Open):
    """`POST /v1/devices/{d}/certificates`: asks for another certificate."""

    csr: Annotated[str, Field(min_length=1, max_length=PEM_CHARACTERS_MAX)]
    """PKCS#10, PEM, named `{tenant}/{device}`."""
    key: Name
    """The id of the usage key that signs."""
    signature: SignatureText
    """Over CERTIFICATE, tenant, NUL, device, NUL, csr."""


class Certified(Open):
    """The answer."""

    certificate: str
    """PEM, the robot's own first."""


class Decommissioning(Open):
    """`POST /v1/devices/{d}/decommission`: the robot itself asks to be struck off."""

    key: Name
    """The id of the usage key that signs."""
    signature: SignatureText
    """Over DECOMMISSION, tenant, NUL, device."""


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


def registering(token: str, tenant: str, device: str, key: SigningKey, csr: str = "") -> Registration:
    """What a robot sends to register; with `csr` it asks for a certificate."""
    signature = encode(key.sign(_told(token, tenant, device, csr)))
    return Registration(token=token, tenant=tenant, device=device, key=encode(key.public), signature=signature, csr=csr)


def holds_its_key(registration: Registration) -> bool:
    """Whether whoever registers holds the key."""
    message = _told(registration.token, registration.tenant, registration.device, registration.csr)
    return verify(decode(registration.key), message, decode(registration.signature))


def requesting(tenant: str, device: str, csr: str, key: SigningKey) -> CertificateRequest:
    """What a robot sends for another certificate."""
    return CertificateRequest(csr=csr, key=key.key_id, signature=encode(key.sign(_joined(CERTIFICATE, tenant, device, csr))))


def requests(asked: CertificateRequest, tenant: str, device: str, public: bytes) -> bool:
    """Whether that usage key (raw) asks, for that robot."""
    return verify(public, _joined(CERTIFICATE, tenant, device, asked.csr), decode(asked.signature))


def leaving(tenant: str, device: str, key: SigningKey) -> Decommissioning:
    """What a robot sends to be struck off."""
    return Decommissioning(key=key.key_id, signature=encode(key.sign(_joined(DECOMMISSION, tenant, device))))


def leaves(asked: Decommissioning, tenant: str, device: str, public: bytes) -> bool:
    """Whether that usage key (raw) asks, for that robot."""
    return verify(public, _joined(DECOMMISSION, tenant, device), decode(asked.signature))


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


def signed_time(nonce: str, time: str, key: SigningKey) -> SignedTime:
    """The time (RFC 3339, UTC) as the backend tells it, over HTTP or on `time/att`."""
    return SignedTime(time=time, nonce=nonce, key=key.key_id, signature=encode(key.sign(time_message(nonce, time))))


def _told(token: str, tenant: str, device: str, csr: str) -> bytes:
    """Without a request as robots that know of none sign it."""
    return _joined(REGISTRATION, token, tenant, device, *([csr] if csr else []))


def _joined(begun: bytes, *parts: str) -> bytes:
    return begun + b"\0".join(part.encode() for part in parts)
