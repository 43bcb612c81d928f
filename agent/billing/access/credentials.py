"""Makes, finds and revokes credentials: API keys and OAuth2 clients are the same thing, shown in one piece or as id and secret.

    vx_{id}_{secret}    id: 16 hex digits, in lists and logs; secret: 256 bits, shown once, kept as its SHA-256

A secret this long cannot be guessed, so a quick hash is enough; it is compared in constant time.
"""

import datetime
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, select, update

from agent.billing.access import audit
from agent.billing.access.denied import Forbidden, Unauthorized
from agent.billing.access.tables import CREDENTIAL
from agent.contract.signing import decode, encode
from agent.errors import BadInput

SCOPES: Final = ("usage:write", "statements:read", "budgets:write", "fleet:command", "gateway:use", "erase", "admin")
"""None of them includes another."""

PREFIX = "vx_"
"""Lets scanners of code and logs find a key that was left there."""

ID_DIGITS = 16
SECRET_BYTES = 32
NAME_CHARACTERS_MAX = 100


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, as their credential says."""

    id: str
    name: str
    tenant: str
    """Empty: every tenant."""
    device: str
    """Empty: every device of the tenant."""
    scopes: frozenset[str]

    def demand(self, scope: str) -> None:
        """Raises Forbidden without the scope."""
        if scope not in self.scopes:
            raise Forbidden(f"this credential has no scope {scope}", "use one that has it")

    def tenant_of(self, device: str) -> str:
        """The tenant under which it speaks for a device. Raises Forbidden for another device."""
        if not self.tenant:
            raise Forbidden("this credential belongs to no tenant, so it speaks for no robot", "use the robot's own")
        if self.device not in ("", device):
            raise Forbidden("this credential is another device's", "use the device's own")
        return self.tenant


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential as it is kept."""

    principal: Principal
    secret_hash: bytes
    public: bytes
    """Raw Ed25519 key of a client that signs its requests for a token; empty otherwise."""
    revoked: bool


def spoken(id_: str, secret: bytes) -> str:
    """An API key as its owner has it."""
    return f"{PREFIX}{id_}_{encode(secret)}"


def parted(api_key: str) -> tuple[str, bytes]:
    """(id, secret) of an API key. Raises Unauthorized for what is none."""
    id_, _, secret = api_key.removeprefix(PREFIX).partition("_")
    return id_, secret_of(secret)


def secret_of(text: str) -> bytes:
    """Raises Unauthorized for what can't be a secret of ours."""
    try:
        return decode(text)
    except BadInput as error:
        raise Unauthorized("this is no API key of ours", "create one: voxmeter billing keys create") from error


def hash_of(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def matches(credential: Credential | None, secret: bytes) -> bool:
    """Whether a secret opens it; takes as long for a credential that doesn't exist."""
    expected = credential.secret_hash if credential else b""
    return hmac.compare_digest(expected or bytes(SECRET_BYTES), hash_of(secret)) and bool(expected)


def add(connection: Connection, principal: Principal, now: datetime.datetime, *, secret_hash: bytes = b"", public: bytes = b"") -> None:
    scopes = " ".join(scope for scope in SCOPES if scope in principal.scopes)
    row = {"id": principal.id, "name": principal.name, "tenant": principal.tenant, "device": principal.device, "scopes": scopes}
    secrets = {"secret_hash": secret_hash, "public": public}
    connection.execute(insert(CREDENTIAL).values(row | secrets | {"created": audit.stamp(now), "revoked": ""}))


def find(connection: Connection, id_: str) -> Credential | None:
    row = connection.execute(select(CREDENTIAL).where(CREDENTIAL.c.id == id_[:ID_DIGITS])).first()
    if row is None or row.id != id_:
        return None
    principal = Principal(row.id, row.name, row.tenant, row.device, frozenset(row.scopes.split()))
    return Credential(principal, row.secret_hash, row.public, bool(row.revoked))


def listed(connection: Connection) -> list[dict[str, Any]]:
    """All there are, oldest first, without anything secret."""
    return [_shown(row) for row in connection.execute(select(CREDENTIAL).order_by(CREDENTIAL.c.created, CREDENTIAL.c.id))]


def struck_off(connection: Connection, whose: tuple[str, str] | None = None) -> set[tuple[str, str]]:
    """Robots, (tenant, device), that had credentials of their own and have none that is good: they were revoked, or left.

    One that is enrolled again has another. `whose`: only that robot is looked at.
    """
    of = (CREDENTIAL.c.tenant, CREDENTIAL.c.device)
    wanted = select(*of).where(CREDENTIAL.c.device != "").group_by(*of).having(func.min(CREDENTIAL.c.revoked) != "")
    wanted = wanted.where(CREDENTIAL.c.tenant == whose[0], CREDENTIAL.c.device == whose[1]) if whose else wanted
    return {(tenant, device) for tenant, device in connection.execute(wanted)}


def revoke(connection: Connection, id_: str, now: datetime.datetime) -> bool:
    """Whether there was such a credential; one that was revoked before stays as it was."""
    good = (CREDENTIAL.c.id == id_) & (CREDENTIAL.c.revoked == "")
    changed = connection.execute(update(CREDENTIAL).where(good).values(revoked=audit.stamp(now))).rowcount
    return bool(changed) or find(connection, id_) is not None


def checked_scopes(scopes: Iterable[str]) -> frozenset[str]:
    """Raises BadInput for one that doesn't exist, or none at all."""
    given = frozenset(scopes)
    if unknown := sorted(given - set(SCOPES)):
        raise BadInput(f"no scope is called {unknown[0][:NAME_CHARACTERS_MAX]!r}", f"there are: {', '.join(SCOPES)}")
    if not given:
        raise BadInput("a credential without a scope may do nothing", f"give some of: {', '.join(SCOPES)}")
    return given


def _shown(row: Row[Any]) -> dict[str, Any]:
    told = {name: getattr(row, name) for name in ("id", "name", "tenant", "device", "created", "revoked") if getattr(row, name)}
    return told | {"scopes": row.scopes.split(), "kind": "signing" if row.public else "secret"}
