"""Looks after the fleet while the backend runs: raises its own alarms, writes down who was heard, lets old events go.

every LOOK_S      a fork that was quarantined, a gap that was declared: an alarm each, once, on whatever run of the backend
every NOTE_S      who was heard since; who has been silent for too long, or is heard again
every SWEEP_S     what was only counted goes on the audit log, old events go
"""

import datetime
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import Connection, Row, and_, insert, select

from agent.billing.access import audit
from agent.billing.access.credentials import struck_off
from agent.billing.fleet import Fleet, books
from agent.billing.fleet.books import Robot
from agent.billing.fleet.silence import Habit
from agent.billing.fleet.tables import ALARM, NOTICED, SEEN
from agent.billing.ledger import Store, sqlite
from agent.billing.ledger.tables import device, finding, meta
from agent.clock import Clock
from agent.contract.fleet.alarm import Alarm
from agent.errors import VoxmeterError

LOOK_S: Final = 5.0
"""A fork is an attack or a cloned card: whoever watches should know within seconds."""

NOTE_S: Final = 60.0

SWEEP_S: Final = 3600.0

AT_ONCE_MAX: Final = 200
"""Alarms raised in one transaction; the rest is raised with the next look."""

BEGUN: Final = "alarms"
"""In `meta`: findings of before this was there have been passed over, so that an update raises no alarm about the past."""

MESSAGES: Final = {
    "fork": "records contradict what the books hold; they are quarantined. Was a card copied or restored, or a key stolen?",
    "gap": "records are missing for good: the robot declares them lost",
}
"""By the kind of a finding, which is the name of the alarm."""

Step = Callable[[], Coroutine[Any, Any, None]]


class Noticing:
    """One for a backend."""

    def __init__(
        self,
        fleet: Fleet,
        store: Store,
        clock: Clock,
        *,
        listening: Callable[[], bool] = lambda: True,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`listening`: whether robots can be heard at all now; while they can't, nobody is silent."""
        self._fleet, self._store, self._clock = fleet, store, clock
        self._listening, self._say = listening, say
        self._since = clock.utc()
        self._due: dict[Step, float] = {self.look: 0.0, self.note: NOTE_S, self.sweep: SWEEP_S}
        self._every = {self.look: LOOK_S, self.note: NOTE_S, self.sweep: SWEEP_S}

    async def run(self) -> None:
        """Until cancelled. What goes wrong is said, and done with the next look."""
        begun = self._clock.monotonic()
        try:
            while True:
                for step, due in self._due.items():
                    if self._clock.monotonic() - begun >= due:
                        self._due[step] = self._clock.monotonic() - begun + self._every[step]
                        await self._or_said(step)
                await self._clock.sleep(LOOK_S)
        finally:
            await self._or_said(self._fleet.noted)

    async def _or_said(self, step: Step) -> None:
        try:
            await step()
        except VoxmeterError as error:
            self._say(f"the fleet's book: {error}")
        except Exception as error:  # noqa: BLE001  whatever it is, batches are taken all the same
            self._say(f"the fleet's book: {type(error).__name__}: {error}; report this")

    async def look(self) -> None:
        """Raises alarms about what the ingest has found."""
        if not await self._store.read(_begun):
            await self._store.write(_begin)
            return
        found = await self._store.read(_unnoticed)
        if found:
            await self._raise([(Robot(row.device_id, row.tenant, row.name), self._of(row)) for row in found], found)

    async def note(self) -> None:
        """Writes down who was heard; raises and clears alarms about silence."""
        await self._fleet.noted()
        if not self._listening():
            self._since = self._clock.utc()
            return
        now, since = self._clock.utc(), self._since
        turned = await self._store.read(lambda connection: _turned(connection, now, since))
        if turned:
            await self._raise(turned)

    async def sweep(self) -> None:
        now = self._clock.utc()

        def work(connection: Connection) -> None:
            books.tell_the_rest(connection, now)
            books.prune(connection, now)

        await self._store.write(work)

    async def _raise(self, alarms: Sequence[tuple[Robot, Alarm]], found: Sequence[Row[Any]] = ()) -> None:
        """All of them in one transaction, together with what they were raised for."""
        now, hooks = self._clock.utc(), [self._fleet.next_hook() for _ in alarms]

        def work(connection: Connection) -> None:
            for (robot, alarm), hook in zip(alarms, hooks, strict=True):
                self._fleet.raised(connection, robot, alarm, hook, now)
            for row in found:
                noticed = {"device_id": row.device_id, "kind": row.kind, "epoch": row.epoch, "sequence": row.sequence}
                connection.execute(insert(NOTICED).values(noticed))

        await self._store.write(work)
        for robot, alarm in alarms:
            self._fleet.told(robot.name, alarm)

    def _of(self, row: Row[Any]) -> Alarm:
        facts = {"epoch": row.epoch, "sequence": row.sequence} | orjson.loads(row.told)
        told = {"since": row.time, "message": MESSAGES[row.kind], "facts": facts, "by": "backend"}
        return Alarm(name=row.kind, state="raised", device=f"{row.tenant}/{row.name}", **told)


def _begun(connection: Connection) -> bool:
    return connection.execute(select(meta.c.value).where(meta.c.name == BEGUN)).first() is not None


def _begin(connection: Connection) -> None:
    names = ("device_id", "kind", "epoch", "sequence")
    old = select(*(finding.c[name] for name in names)).where(finding.c.kind.in_(MESSAGES))
    connection.execute(insert(NOTICED).from_select(names, old))
    sqlite.put(connection, meta, [{"name": BEGUN, "value": "1"}])


def _unnoticed(connection: Connection) -> Sequence[Row[Any]]:
    """A finding's id may be used again, so what was noticed is known by what it is."""
    same = and_(*(NOTICED.c[name] == finding.c[name] for name in ("device_id", "kind", "epoch", "sequence")))
    joined = finding.join(device, device.c.id == finding.c.device_id).outerjoin(NOTICED, same)
    wanted = select(finding, device.c.tenant, device.c.name).select_from(joined)
    return connection.execute(wanted.where(finding.c.kind.in_(MESSAGES), NOTICED.c.kind.is_(None)).limit(AT_ONCE_MAX)).all()


def _turned(connection: Connection, now: datetime.datetime, since: datetime.datetime) -> list[tuple[Robot, Alarm]]:
    """Robots whose silence has become an alarm, or has ended, be it that they were struck off; what they say themselves counts nothing."""
    ours = and_(ALARM.c.device_id == SEEN.c.device_id, ALARM.c.by == "backend", ALARM.c.name == "silent")
    joined = SEEN.join(device, device.c.id == SEEN.c.device_id).outerjoin(ALARM, ours)
    left = struck_off(connection)
    wanted = select(SEEN, device.c.tenant, device.c.name, ALARM.c.state).select_from(joined).where(SEEN.c.heard != "")
    turned: list[tuple[Robot, Alarm]] = []
    for row in connection.execute(wanted):
        gone = (row.tenant, row.name) in left
        habit = Habit(datetime.datetime.fromisoformat(row.heard), row.span_s)
        silent = habit.silent(now, since) and not gone
        if silent != (row.state == "raised") and (silent or gone or habit.heard >= since) and len(turned) < AT_ONCE_MAX:
            robot = Robot(row.device_id, row.tenant, row.name)
            over = "it was struck off" if gone else "it is heard again"
            said = f"not heard since {row.heard}; it is never silent for so long" if silent else over
            facts = {"heard": row.heard, "usual_s": habit.span_s}
            told = {"since": audit.stamp(now), "message": said, "facts": facts, "by": "backend"}
            turned.append((robot, Alarm(name="silent", state="raised" if silent else "cleared", device=robot.name, **told)))
    return turned
