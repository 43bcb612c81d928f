"""What the backend knows of the fleet, in its books: each function is a part of the caller's transaction."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from agent.billing.access import audit
from agent.billing.fleet.hearing import Said
from agent.billing.fleet.silence import Habit
from agent.billing.fleet.tables import ALARM, EVENT, SEEN, UNTOLD, WEBHOOK
from agent.billing.ledger import sqlite
from agent.billing.ledger.tables import device
from agent.contract.fleet.alarm import NAMES, Alarm, Refusals
from agent.contract.fleet.command import FINAL, Result

EVENTS_KEPT: Final = 2_000
"""Of one robot, some 1 MB; the oldest go first, so that one that tells too much crowds out nobody else."""

EVENTS_DAYS: Final = 90
"""What is older nobody asks for; what must be kept stands on the audit log."""

WAITING_MAX: Final = 10_000
"""Alarms kept for a webhook that is dead, some 10 MB; the oldest go first."""

OVERTAKEN: Final = datetime.timedelta(minutes=1)
"""What is older but comes within this after the newer is late. After that the robot's clock was set back, and it is right."""

CODES_MAX: Final = 32
"""Reasons of one robot that are counted apart; ours are fewer. What a broken one invents beyond counts as OTHER."""

OTHER: Final = "other"

EVENTS_A_PAGE_MAX: Final = 1_000

NEVER: Final = {"birth": "", "presence": "", "telemetry": "", "reported": -1, "heard": "", "span_s": 0}


@dataclass(frozen=True, slots=True)
class Robot:
    """A registered robot, as the fleet's tables name it."""

    id: int
    tenant: str
    device: str

    @property
    def name(self) -> str:
        return f"{self.tenant}/{self.device}"


@dataclass(frozen=True, slots=True)
class Taking:
    """With what a message is taken in."""

    now: datetime.datetime
    room: bool
    """There is room on the audit log for a line of this robot."""
    hook: str = ""
    """Id of what is told to the webhook, if one is to be told; empty: there is none."""


@dataclass(frozen=True, slots=True)
class Line:
    """What belongs on the audit log."""

    action: str
    code: str
    more: Mapping[str, str]
    """What else it says, where there is something."""
    count: int = 1


def take(connection: Connection, robot: Robot, said: Said, taking: Taking) -> bool:
    """An event, or a result that is final. False for what is known already."""
    if not _keep(connection, robot, said, audit.stamp(taking.now)):
        return False
    told = said.told
    if isinstance(told, Alarm):
        put_alarm(connection, robot, told, taking)
    elif isinstance(told, Refusals):
        more = {"message": told.message, "first": told.first, "last": told.last}
        tell(connection, robot, taking, Line("command.refused", told.code, more, told.count))
    elif isinstance(told, Result):
        tell(connection, robot, taking, Line("command.result", told.state, {"cmd_id": told.cmd_id, "op": told.op, "why": told.code}))
    return True


def worth_keeping(said: Said) -> bool:
    """A command that is under way will tell how it ended."""
    return not isinstance(said.told, Result) or said.told.state in FINAL


def _keep(connection: Connection, robot: Robot, said: Said, now: str) -> bool:
    wanted = select(EVENT.c.id).where(EVENT.c.device_id == robot.id, EVENT.c.digest == said.digest)
    if connection.execute(wanted).first() is not None:
        return False
    row = {"device_id": robot.id, "name": said.name, "body": said.body, "digest": said.digest, "received": now}
    connection.execute(insert(EVENT).values(row))
    newest = select(EVENT.c.id).where(EVENT.c.device_id == robot.id).order_by(EVENT.c.id.desc())
    last_out = connection.execute(newest.limit(1).offset(EVENTS_KEPT)).scalar()
    if last_out is not None:
        connection.execute(delete(EVENT).where(EVENT.c.device_id == robot.id, EVENT.c.id <= last_out))
    return True


def put_alarm(connection: Connection, robot: Robot, told: Alarm, taking: Taking) -> None:
    """How it stands now; a line on the audit log, and a place in the queue of the webhook."""
    now = audit.stamp(taking.now)
    # A name that nobody here knows is an event: a robot that invents names must not fill the table.
    if told.name in NAMES and not _overtaken(connection, robot, told, taking):
        row: dict[str, Any] = {"device_id": robot.id, "by": told.by, "name": told.name, "state": told.state, "since": told.since}
        row |= {"message": told.message, "facts": orjson.dumps(told.facts).decode(), "changed": now}
        sqlite.put(connection, ALARM, [row])
    tell(connection, robot, taking, Line(f"alarm.{told.state}", told.name, {"message": told.message, "by": told.by}))
    if taking.hook and taking.room:
        body = orjson.dumps(told.model_dump() | {"id": taking.hook, "received": now}, option=orjson.OPT_SORT_KEYS)
        connection.execute(insert(WEBHOOK).values(id=taking.hook, body=body, created=now, tries=0))
        last_out = connection.execute(select(WEBHOOK.c.n).order_by(WEBHOOK.c.n.desc()).limit(1).offset(WAITING_MAX)).scalar()
        if last_out is not None:
            connection.execute(delete(WEBHOOK).where(WEBHOOK.c.n <= last_out))


def _overtaken(connection: Connection, robot: Robot, told: Alarm, taking: Taking) -> bool:
    """Whether a later word of the same alarm is on the books: what comes by two links may be taken in another order than sent."""
    mine = (ALARM.c.device_id == robot.id, ALARM.c.by == told.by, ALARM.c.name == told.name)
    recently = ALARM.c.changed > audit.stamp(taking.now - OVERTAKEN)
    return connection.execute(select(ALARM.c.name).where(*mine, ALARM.c.since > told.since, recently)).first() is not None


def tell(connection: Connection, robot: Robot, taking: Taking, line: Line) -> None:
    """A line on the audit log, if there is room; else it is counted, and the next line of its kind says how many there were."""
    mine = (UNTOLD.c.device_id == robot.id, UNTOLD.c.action == line.action, UNTOLD.c.code == line.code)
    before = connection.execute(select(UNTOLD.c.count).where(*mine)).scalar() or 0
    if not taking.room:
        if not before and line.code != OTHER and _codes(connection, robot) >= CODES_MAX:
            tell(connection, robot, taking, replace(line, code=OTHER))
            return
        row = {"device_id": robot.id, "action": line.action, "code": line.code, "count": before + line.count}
        sqlite.put(connection, UNTOLD, [row])
        return
    if before:
        connection.execute(delete(UNTOLD).where(*mine))
    told = {"code": line.code, "count": before + line.count} | {name: value for name, value in line.more.items() if value}
    audit.append(connection, taking.now, robot.name, line.action, tenant=robot.tenant, device=robot.device, **told)


def _codes(connection: Connection, robot: Robot) -> int:
    return connection.execute(select(func.count()).select_from(UNTOLD).where(UNTOLD.c.device_id == robot.id)).scalar_one()


def tell_the_rest(connection: Connection, now: datetime.datetime) -> None:
    """Puts on the audit log what was only counted."""
    rows = connection.execute(select(UNTOLD, device.c.tenant, device.c.name).select_from(UNTOLD.join(device))).all()
    for row in rows:
        told = {"code": row.code, "count": row.count}
        audit.append(connection, now, f"{row.tenant}/{row.name}", row.action, tenant=row.tenant, device=row.name, **told)
    if rows:
        connection.execute(delete(UNTOLD))


def seen(connection: Connection, device_id: int) -> dict[str, Any]:
    """The row of a robot; of one that was never heard, as nothing were."""
    row = connection.execute(select(SEEN).where(SEEN.c.device_id == device_id)).first()
    return dict(row._mapping) if row else {"device_id": device_id} | NEVER


def heard(connection: Connection, device_id: int, at: datetime.datetime) -> dict[str, Any]:
    """What changes in the row of a robot that is heard."""
    row = seen(connection, device_id)
    habit = Habit(datetime.datetime.fromisoformat(row["heard"]), row["span_s"]).again(at) if row["heard"] else Habit(at)
    return {"heard": audit.stamp(habit.heard), "span_s": habit.span_s}


def note(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Changes of the rows of some robots: each `{device_id, …}`; the rest stays."""
    for changes in rows:
        sqlite.insert_new(connection, SEEN, [NEVER | {"device_id": changes["device_id"]}])
        connection.execute(update(SEEN).where(SEEN.c.device_id == changes["device_id"]).values(changes))


def prune(connection: Connection, now: datetime.datetime) -> None:
    oldest = audit.stamp(now - datetime.timedelta(days=EVENTS_DAYS))
    connection.execute(delete(EVENT).where(EVENT.c.received < oldest))


def events(connection: Connection, *, tenant: str, device_name: str, name: str, after: int, limit: int) -> dict[str, Any]:
    """`{events: [{id, tenant, device, name, body, received}], next}`, oldest first; empty names: all; `next` absent at the end."""
    wanted = select(EVENT, device.c.tenant, device.c.name.label("of")).select_from(EVENT.join(device)).where(EVENT.c.id > after)
    for column, value in ((device.c.tenant, tenant), (device.c.name, device_name), (EVENT.c.name, name)):
        wanted = wanted.where(column == value) if value else wanted
    rows = connection.execute(wanted.order_by(EVENT.c.id).limit(limit + 1)).all()
    told: dict[str, Any] = {"events": [_spoken(row) for row in rows[:limit]]}
    return told | ({"next": rows[limit - 1].id} if len(rows) > limit else {})


def _spoken(row: Row[Any]) -> dict[str, Any]:
    shown = {"id": row.id, "tenant": row.tenant, "device": row.of, "name": row.name, "received": row.received}
    return shown | {"body": orjson.loads(row.body)}
