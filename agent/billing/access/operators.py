"""Keeps who may command the fleet: operators by name, each with one public key. Robots learn the keys when they enrol."""

import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from agent.billing.access import audit
from agent.billing.access.credentials import NAME_CHARACTERS_MAX
from agent.billing.access.tables import OPERATOR
from agent.contract.registration import jwks
from agent.contract.signing import SEED_BYTES, encode, key_id_of
from agent.errors import BadInput

OPERATORS_MAX = 32
"""A robot keeps all of them, and a twin carries them: enough for every shift of a site."""


def add(connection: Connection, name: str, public: bytes, now: datetime.datetime) -> dict[str, Any]:
    """As `listed` shows it; the same again changes nothing. Raises BadInput for a name that is taken, or a key that is none."""
    if not 0 < len(name) <= NAME_CHARACTERS_MAX:
        raise BadInput("an operator needs a name", f"give one of 1 to {NAME_CHARACTERS_MAX} characters")
    if len(public) != SEED_BYTES:
        raise BadInput("the operator's key is not an Ed25519 key", "give the x of its JWK: 32 bytes in base64url")
    held = listed(connection)
    known = next((one for one in held if one["name"] == name or one["key"] == key_id_of(public)), None)
    if known:
        if (known["name"], known["key"]) != (name, key_id_of(public)):
            raise BadInput(f"the operator {known['name']} is there with the key {known['key']}", "remove it first, or give another name")
        return known
    if len(held) >= OPERATORS_MAX:
        raise BadInput(f"there are {len(held)} operators, and a robot keeps no more", "remove one: voxmeter billing operator remove")
    connection.execute(insert(OPERATOR).values(name=name, public=public, added=audit.stamp(now)))
    audit.append(connection, now, "operator", "operator.added", name=name, key=key_id_of(public))
    return {"name": name, "key": key_id_of(public), "x": encode(public), "added": audit.stamp(now)}


def listed(connection: Connection) -> list[dict[str, Any]]:
    """`[{name, key, x, added}]` by name; `key` is the key's id, `x` the key in base64url."""
    rows = connection.execute(select(OPERATOR).order_by(OPERATOR.c.name))
    return [{"name": row.name, "key": key_id_of(row.public), "x": encode(row.public), "added": row.added} for row in rows]


def remove(connection: Connection, name: str, now: datetime.datetime) -> bool:
    """Whether there was such an operator. Robots that have learnt the key go on believing it until their twin says otherwise."""
    found = bool(connection.execute(delete(OPERATOR).where(OPERATOR.c.name == name)).rowcount)
    if found:
        audit.append(connection, now, "operator", "operator.removed", name=name)
    return found


def keys(connection: Connection) -> list[dict[str, Any]]:
    """As the list `keys` of a JWKS."""
    return jwks(connection.execute(select(OPERATOR.c.public).order_by(OPERATOR.c.name)).scalars())
