"""Decides whether a one-time token lets a robot in: once, for whom it was made, while it lives.

A robot whose answer was cut off on its way sends the same again, within the token's life, and gets the same answer: the API key
is made from the token and the backend's own key, so it need not be kept to be said twice.
"""

import datetime
import hashlib
import hmac
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, Row, insert, select, update

from agent.billing.access import audit, credentials, operators
from agent.billing.access.credentials import Principal
from agent.billing.access.denied import Conflict, Forbidden, Unauthorized
from agent.billing.access.robots import issued
from agent.billing.access.robots.authority import Authority
from agent.billing.access.tables import REGISTRATION
from agent.billing.ledger import devices
from agent.contract.registration import Registered, Registration, holds_its_key, jwks
from agent.contract.signing import SigningKey, decode, encode, key_id_of
from agent.errors import BadInput
from agent.profile import Word

TOKEN_BYTES = 32
HOURS_MAX = 24 * 90
"""A robot is unpacked within a quarter of a year; a token that lies about for longer is a risk."""

OPERATOR = "operator"
"""Begins the name on an operator's certificate, where a robot's has its tenant; see docs/broker.md."""

WORD = TypeAdapter(Word)

API_KEY = b"voxmeter-api-key-v1\0"
"""Begins what an API key is made from, so that it is nothing else."""


class Minting(NamedTuple):
    """What a one-time token is good for."""

    tenant: str
    account: str
    device: str
    """Empty: one new robot, of any name."""


def checked(minting: Minting) -> Minting:
    """Raises BadInput for names that can't stand in a topic."""
    for what, name in zip(("tenant", "account", "device"), minting, strict=True):
        if name or what != "device":
            _check_word(what, name)
    if minting.tenant == OPERATOR:
        raise BadInput(f"no tenant can be called {OPERATOR}: brokers know operators by it", "use another name")
    return minting


def mint(connection: Connection, token: bytes, minting: Minting, now: datetime.datetime, hours: float) -> None:
    row: dict[str, Any] = minting._asdict() | {"token_hash": _hash(token), "created": audit.stamp(now)}
    row |= {"expires": audit.stamp(now + datetime.timedelta(hours=hours)), "used_device": "", "used_key": b"", "credential": ""}
    connection.execute(insert(REGISTRATION).values(row))
    audit.append(connection, now, "operator", "token.minted", tenant=minting.tenant, device=minting.device, expires=row["expires"])


def check(registration: Registration) -> None:
    """What can be said without looking anything up. Raises BadInput."""
    _check_word("tenant", registration.tenant)
    _check_word("device", registration.device)
    if not holds_its_key(registration):
        raise BadInput("the signature of the registration is wrong", "sign it with the key that is registered")


def register(
    connection: Connection, asked: Registration, now: datetime.datetime, key: SigningKey, authority: Authority | None = None
) -> Registered:
    """Lets a robot in, in the caller's transaction; with a certificate where it asks and an authority is there.

    Raises Unauthorized, Forbidden or Conflict, each with its reason, BadInput for a certificate request that can't be granted.
    """
    token = _token(asked.token)
    row = _good(connection, token, asked, now)
    public = decode(asked.key)
    secret = hmac.digest(key.seed, API_KEY + token + public, hashlib.sha256)
    id_ = row.credential or hashlib.sha256(secret).hexdigest()[: credentials.ID_DIGITS]
    if row.used_device:
        _check_again(connection, row, asked, id_)
    else:
        _let_in(connection, row, asked, now)
        robot = Principal(id_, f"robot {asked.device}", asked.tenant, asked.device, frozenset({"usage:write"}))
        credentials.add(connection, robot, now, secret_hash=credentials.hash_of(secret))
        used = {"used_device": asked.device, "used_key": public, "credential": id_}
        connection.execute(update(REGISTRATION).where(REGISTRATION.c.token_hash == row.token_hash).values(used))
    shown = {"tenant": asked.tenant, "device": asked.device, "account": row.account, "api_key": credentials.spoken(id_, secret)}
    certificate = None
    if asked.csr and authority:
        certificate = issued.certificate(connection, authority, (asked.tenant, asked.device), asked.csr, now, actor="token")
    return Registered(**shown, keys=jwks([key.public]), certificate=certificate, operator_keys=operators.keys(connection))


def _good(connection: Connection, token: bytes, asked: Registration, now: datetime.datetime) -> Row[Any]:
    row = connection.execute(select(REGISTRATION).where(REGISTRATION.c.token_hash == _hash(token))).first()
    if row is None or row.expires <= audit.stamp(now):
        raise Unauthorized("this one-time token is not known, or has expired", "ask the operator for another one")
    if row.tenant != asked.tenant or row.device not in ("", asked.device):
        raise Forbidden("this one-time token is for another robot", "ask the operator for one for this robot")
    return row


def _check_again(connection: Connection, row: Row[Any], asked: Registration, id_: str) -> None:
    held = credentials.find(connection, id_)
    if (row.used_device, row.used_key) != (asked.device, decode(asked.key)) or held is None or held.revoked:
        raise Unauthorized("this one-time token has been used", "ask the operator for another one")


def _let_in(connection: Connection, row: Row[Any], asked: Registration, now: datetime.datetime) -> None:
    if not row.device and devices.find(connection, asked.tenant, asked.device) is not None:
        raise Conflict(f"a robot called {asked.device} is registered", "use a one-time token that names this robot")
    public = decode(asked.key)
    owner = devices.device_of_key(connection, key_id_of(public))
    if owner is not None and (owner.device.tenant, owner.device.name) != (asked.tenant, asked.device):
        raise Conflict("this usage key is another robot's", "use the robot's own key")
    devices.register(connection, asked.tenant, asked.device, row.account, public, audit.stamp(now))
    told = {"account": row.account, "key": key_id_of(public)}
    audit.append(connection, now, "token", "device.registered", tenant=asked.tenant, device=asked.device, **told)


def _token(text: str) -> bytes:
    try:
        return decode(text)
    except BadInput:
        return b""


def spoken(token: bytes) -> str:
    """A one-time token as the operator hands it over."""
    return encode(token)


def _hash(token: bytes) -> bytes:
    return hashlib.sha256(b"voxmeter-token-v1\0" + token).digest()


def _check_word(what: str, name: str) -> None:
    try:
        WORD.validate_python(name, strict=True)
    except ValidationError as error:
        raise BadInput(f"the {what} {name[:100]!r} is no name", "use up to 100 letters, digits, dots, dashes and underscores") from error
