"""Keeps the log of who was let in and who was not: append-only, each line chained to the one before by its hash."""

import datetime
import hashlib
from typing import Any

import orjson
from sqlalchemy import Connection, Row, func, insert, select

from agent.billing.access.tables import AUDIT
from agent.contract.canonical import INTEGER_MAX

GENESIS = hashlib.sha256(b"voxmeter-audit-v1\0").digest()

PAGE_LINES_MAX = 1000
"""What one answer carries."""

LAST_LINES = 20
"""Shown to the operator on the command line; the rest is at /v1/audit."""

TEXT_CHARACTERS_MAX = 200
"""Of anything a stranger says: enough to recognise it."""


def stamp(moment: datetime.datetime) -> str:
    """RFC 3339, UTC, with a fixed number of digits, so that text sorts as time does."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def append(
    connection: Connection, now: datetime.datetime, actor: str, action: str, *, tenant: str = "", device: str = "", **told: Any
) -> None:
    """Writes a line in the caller's transaction: it is on record exactly if what it tells of has happened.

    `actor` is a credential's id, `operator` for the command line, or the address of somebody unknown.
    """
    last = connection.execute(select(AUDIT.c.id, AUDIT.c.hash).order_by(AUDIT.c.id.desc()).limit(1)).first()
    line: dict[str, Any] = {"id": last.id + 1 if last else 1, "time": stamp(now), "actor": actor, "action": action}
    line |= {"tenant": _short(tenant), "device": _short(device)}
    line["told"] = orjson.dumps({name: _short(value) for name, value in told.items()}, option=orjson.OPT_SORT_KEYS).decode()
    line["hash"] = _linked(last.hash if last else GENESIS, line)
    connection.execute(insert(AUDIT).values(line))


def page(connection: Connection, *, tenant: str = "", after: int = 0, limit: int = PAGE_LINES_MAX) -> dict[str, Any]:
    """`{entries: [{id, time, actor, action, tenant, device, told, hash}], next}`, oldest first; `next` absent at the end.

    With a tenant: only its lines.
    """
    wanted = select(AUDIT).where(AUDIT.c.id > min(after, INTEGER_MAX)).order_by(AUDIT.c.id).limit(limit + 1)
    rows = connection.execute(wanted.where(AUDIT.c.tenant == tenant) if tenant else wanted).all()
    told: dict[str, Any] = {"entries": [_spoken(row) for row in rows[:limit]]}
    return told | ({"next": rows[limit - 1].id} if len(rows) > limit else {})


def checked(connection: Connection) -> dict[str, Any]:
    """`{lines, first_broken, entries}`: how many there are, the first that is not as it was written (None: all are), the last ones.

    Lines cut off at the end leave no trace in those that stay; whoever wants to know keeps the last hash elsewhere.
    """
    newest, lines = connection.execute(select(func.max(AUDIT.c.id), func.count(AUDIT.c.id))).one()
    entries = page(connection, after=max((newest or 0) - LAST_LINES, 0), limit=LAST_LINES)["entries"]
    return {"lines": lines, "first_broken": first_broken(connection), "entries": entries}


def first_broken(connection: Connection) -> int | None:
    """The id of the first line that is not as it was written, or not where it was; None if all are."""
    link, expected = GENESIS, 1
    for row in connection.execute(select(AUDIT).order_by(AUDIT.c.id)):
        line = _line(row)
        link = _linked(link, line)
        if line["id"] != expected or line["hash"] != link:
            return expected
        expected += 1
    return None


def _line(row: Row[Any]) -> dict[str, Any]:
    return {str(name): value for name, value in row._mapping.items()}  # the library's names are not quite str


def _linked(before: bytes, line: dict[str, Any]) -> bytes:
    content = orjson.dumps({name: value for name, value in line.items() if name != "hash"}, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(before + content).digest()


def _spoken(row: Row[Any]) -> dict[str, Any]:
    line = _line(row)
    return line | {"told": orjson.loads(line["told"]), "hash": line["hash"].hex()}


def _short(value: Any) -> Any:
    """Strangers' text is cut, and made text that any database takes."""
    return value[:TEXT_CHARACTERS_MAX].encode("utf-8", "replace").decode().replace("\0", "�") if isinstance(value, str) else value
