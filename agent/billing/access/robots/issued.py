"""Decides which certificate a robot gets, and keeps every one that was issued, so that it can be taken back."""

import datetime
import hashlib
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from agent.billing.access import audit
from agent.billing.access.denied import TooMany
from agent.billing.access.robots.authority import Authority, ids_of
from agent.billing.access.tables import ISSUED
from agent.contract import certificates

A_DAY_MAX = 10
"""New certificates of one robot: it needs one in weeks, and a broken one must not fill the books."""

DAY = datetime.timedelta(days=1)

AFTER_MS = 3_600_000
"""A robot that asked too often looks again after an hour."""


def certificate(
    connection: Connection, authority: Authority, whose: tuple[str, str], csr: str, now: datetime.datetime, *, actor: str
) -> str:
    """A chain (PEM) for a robot (tenant, device); for the same key the same one, while half of its life is left.

    So an answer that is lost on its way can be asked for again. Raises BadInput for the request, TooMany.
    """
    name = certificates.device_name(*whose)
    key_hash = hashlib.sha256(certificates.requested(csr.encode(), name)).digest()
    soon = audit.stamp(now + datetime.timedelta(days=authority.days) / 2)
    same = _of(*whose) & (ISSUED.c.key_hash == key_hash) & ISSUED.c.authority.in_(ids_of(authority.held)) & (ISSUED.c.revoked == "")
    held = connection.execute(select(ISSUED.c.certificate).where(same & (ISSUED.c.expires > soon)).limit(1)).scalar()
    if held is not None:
        return str(held)
    today = _of(*whose) & (ISSUED.c.issued > audit.stamp(now - DAY))
    if int(connection.execute(select(func.count(ISSUED.c.serial)).where(today)).scalar_one()) >= A_DAY_MAX:
        raise TooMany(f"{A_DAY_MAX} certificates of this robot in a day", "see why it asks for so many", AFTER_MS)
    chain = authority.issue(csr, name, now)
    shown = certificates.read(chain)
    row = {"tenant": whose[0], "device": whose[1], "authority": authority.id, "key_hash": key_hash, "revoked": ""}
    row |= {"serial": f"{shown.serial:x}", "certificate": chain.decode(), "issued": audit.stamp(now)}
    connection.execute(insert(ISSUED).values(row | {"expires": audit.stamp(shown.not_after)}))
    told = {"serial": row["serial"], "expires": audit.stamp(shown.not_after)}
    audit.append(connection, now, actor, "certificate.issued", tenant=whose[0], device=whose[1], **told)
    return chain.decode()


def revoke(connection: Connection, tenant: str, device: str, now: datetime.datetime) -> int:
    """How many good ones of a robot there were; none is left."""
    good = _of(tenant, device) & (ISSUED.c.revoked == "")
    return int(connection.execute(update(ISSUED).where(good).values(revoked=audit.stamp(now))).rowcount)


def revoked(connection: Connection, authority: Authority, now: datetime.datetime) -> list[dict[int, datetime.datetime]]:
    """Serial -> since when, of those that each in `listing` issued and that would still be good."""
    found: list[dict[int, datetime.datetime]] = []
    for one in authority.listing:
        wanted = select(ISSUED).where(_lost(now) & ISSUED.c.authority.in_(ids_of(one))).order_by(ISSUED.c.revoked)
        found.append({int(row.serial, 16): _moment(row) for row in connection.execute(wanted)})
    return found


def unlisted(connection: Connection, authority: Authority, now: datetime.datetime, whose: tuple[str, str] | None = None) -> int:
    """How many that are revoked and would still be good stand on no list, for their authority's key is not here; `whose`: of one robot."""
    known = [id_ for one in authority.listing for id_ in ids_of(one)]
    lost = _lost(now) & ISSUED.c.authority.not_in(known)
    lost = lost & _of(*whose) if whose else lost
    return int(connection.execute(select(func.count(ISSUED.c.serial)).where(lost)).scalar_one())


def _lost(now: datetime.datetime) -> Any:
    return (ISSUED.c.revoked != "") & (ISSUED.c.expires > audit.stamp(now))


def listed(connection: Connection, tenant: str, device: str) -> list[dict[str, Any]]:
    """`[{serial, issued, expires, revoked}]` of a robot, oldest first; `revoked` is empty for a good one."""
    rows = connection.execute(select(ISSUED).where(_of(tenant, device)).order_by(ISSUED.c.issued, ISSUED.c.serial))
    return [{name: getattr(row, name) for name in ("serial", "issued", "expires", "revoked")} for row in rows]


def _of(tenant: str, device: str) -> Any:
    return (ISSUED.c.tenant == tenant) & (ISSUED.c.device == device)


def _moment(row: Row[Any]) -> datetime.datetime:
    return datetime.datetime.fromisoformat(row.revoked)
