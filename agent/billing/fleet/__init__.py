"""Takes in what robots tell besides their books, whatever link it came by, and says what they are answered.

    within its rate? -> makes sense? -> a robot that is registered? -> one transaction -> what it is answered

An event or a final result comes at least once and is kept once. Births, presence and telemetry only change how the robot was seen
last. Nothing here takes a place that a batch could need: a robot has a rate, and what is beyond it is told so and dropped.
"""

import datetime
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sqlalchemy import Connection

from agent.billing.access import audit
from agent.billing.access.denied import TooMany, UnknownDevice
from agent.billing.fleet import books
from agent.billing.fleet.books import Robot, Taking
from agent.billing.fleet.hearing import Said, said
from agent.billing.ledger import Store, devices
from agent.clock import Clock
from agent.contract import wire
from agent.contract.fleet.alarm import Alarm, Refusals
from agent.contract.fleet.presence import Birth
from agent.contract.fleet.twin import AHEAD_MAX, Reported
from agent.contract.registration import signed_time
from agent.contract.signing import SigningKey
from agent.link.bucket import Bucket

PER_SECOND: Final = 5.0
BURST: Final = 12_000
"""Messages of one robot: one that was away for weeks brings a full outbox, 10,000, at once; none of ours tells five a second."""

LINES_PER_SECOND: Final = 0.2
LINES_BURST: Final = 500
"""Lines of one robot on the audit log, which nothing is ever taken from: a broken one makes 5 MB a day."""

ROBOTS_MAX: Final = 20_000
"""Robots whose rate and row are remembered, some 20 MB; beyond, who was heard of longest ago begins anew."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a robot is answered."""

    what: str
    """Below its own subtree."""
    content: bytes
    retained: bool = False


class Twins(Protocol):
    """What the backend wants of each robot."""

    async def signed_for(self, tenant: str, device: str, /) -> tuple[int, bytes] | None:
        """(version, the signed twin) a robot is to have; None where nothing is wanted of it."""
        ...


@dataclass(slots=True)
class _Known:
    """What is remembered of a robot."""

    messages: Bucket
    lines: Bucket
    robot: Robot | None = None
    flooding: bool = False
    """That it tells too much has been said."""
    ahead: bool = False
    """That it reports a twin nobody gave has been said."""


class Fleet:
    """The way in for all that is no batch."""

    def __init__(
        self,
        store: Store,
        key: SigningKey,
        clock: Clock,
        *,
        twins: Twins | None = None,
        hooked: Callable[[], None] | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`hooked` is called when something waits for the webhook; None: there is none."""
        self._store, self._key, self._clock = store, key, clock
        self._twins, self._hooked, self._say = twins, hooked, say
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._fresh: dict[int, dict[str, Any]] = {}
        self._heard: dict[tuple[str, str], datetime.datetime] = {}
        self.counts: Counter[str] = Counter()
        """Messages by their kind, and what was dropped: `flooded`, `unknown`, `garbage`; `again` came twice; `ahead`: of a twin nobody
        gave."""

    async def hear(self, tenant: str, device: str, what: str, content: bytes, *, retained: bool = False) -> list[Reply]:
        """What the robot is answered, after what it said is committed.

        Raises TooMany beyond its rate, BadInput for what nobody can use, UnknownDevice; LedgerFull or LedgerDamaged where the
        database refuses.
        """
        known = self._remembered(tenant, device)
        if not known.messages.take():
            self._flooded(f"{tenant}/{device}", known)
            raise TooMany(f"{tenant}/{device} tells more than {PER_SECOND:g} things a second", "tell less", known.messages.wait_ms())
        found = said(tenant, device, what, content, retained=retained)
        if known.robot is None:
            known.robot = await self._find(tenant, device)
        if found.kind not in ("event", "result"):  # which the broker keeps for days: they do not say that the robot is well now
            self.heard(tenant, device)
        self.counts[found.kind] += 1
        await self._taken(known.robot, known, found)
        return await self._replies(known.robot, found)

    def heard(self, tenant: str, device: str) -> None:
        """Something came of it: a batch, maybe."""
        self._heard[tenant, device] = self._clock.utc()
        if len(self._heard) > ROBOTS_MAX:
            del self._heard[next(iter(self._heard))]

    def raised(self, connection: Connection, robot: Robot, alarm: Alarm, hook: str, now: datetime.datetime) -> None:
        """An alarm of the backend's own, in the caller's transaction; `hook` is `next_hook()`, made before."""
        books.put_alarm(connection, robot, alarm, Taking(now, room=True, hook=hook))

    def next_hook(self) -> str:
        """An id for the webhook; empty where there is none."""
        return self._clock.new_id() if self._hooked else ""

    def told(self, robot: str, alarm: Alarm) -> None:
        """After the commit: a line for whoever watches the backend, and the webhook is woken."""
        self._say(f"alarm: {robot}: {alarm.name} {alarm.state}: {alarm.message}")
        if self._hooked:
            self._hooked()

    async def noted(self) -> None:
        """Writes down of whom anything was heard since the last time."""
        heard, self._heard = self._heard, {}
        fresh, self._fresh = self._fresh, {}
        if not heard and not fresh:
            return

        def work(connection: Connection) -> None:
            rows = list(fresh.values())
            for (tenant, device), at in heard.items():
                if (owner := devices.find(connection, tenant, device)) is not None:
                    rows.append({"device_id": owner.id} | books.heard(connection, owner.id, at))
            books.note(connection, rows)

        await self._store.write(work)

    def _flooded(self, robot: str, known: _Known) -> None:
        """Said once, until it has told nothing for so long that its rate is whole again."""
        self.counts["flooded"] += 1
        if not known.flooding:
            self._say(f"{robot} tells more than {PER_SECOND:g} things a second; what is beyond is dropped")
        known.flooding = True

    def _remembered(self, tenant: str, device: str) -> _Known:
        known = self._known.get((tenant, device))
        if known is None:
            rates = Bucket(self._clock, PER_SECOND, BURST), Bucket(self._clock, LINES_PER_SECOND, LINES_BURST)
            known = self._known[tenant, device] = _Known(*rates)
            if len(self._known) > ROBOTS_MAX:
                self._known.popitem(last=False)
        self._known.move_to_end((tenant, device))
        known.flooding = known.flooding and not known.messages.full
        return known

    async def _find(self, tenant: str, device: str) -> Robot:
        owner = await self._store.read(lambda connection: devices.find(connection, tenant, device))
        if owner is None:
            raise UnknownDevice(f"no robot is called {tenant}/{device}", "register it first")
        return Robot(owner.id, tenant, device)

    async def _taken(self, robot: Robot, known: _Known, found: Said) -> None:
        if found.kind == "telemetry":
            self._fresh[robot.id] = {"device_id": robot.id, "telemetry": found.body}
        elif isinstance(found.told, Reported):
            await self._reported(robot, known, found.told.version)
        elif found.kind in ("birth", "presence"):
            row = {"device_id": robot.id, found.kind: found.body}
            await self._store.write(lambda connection: books.note(connection, [row]))
        elif books.worth_keeping(found):
            await self._kept(robot, known, found)

    async def _reported(self, robot: Robot, known: _Known, version: int) -> None:
        """Not noted where it is far above what this robot was ever given: versions would soon be used up."""
        wanted = await self._twins.signed_for(robot.tenant, robot.device) if self._twins else None
        if version <= (wanted[0] if wanted else 0) + AHEAD_MAX:
            known.ahead = False
            row = {"device_id": robot.id, "reported": version}
            await self._store.write(lambda connection: books.note(connection, [row]))
            return
        self.counts["ahead"] += 1
        if not known.ahead:
            self._say(f"{robot.name} reports version {version} of its twin, which nobody gave it; that counts nothing")
        known.ahead = True

    async def _kept(self, robot: Robot, known: _Known, found: Said) -> None:
        """An event told again takes no room on the audit log; one that is new does, if it belongs there."""
        lines = found.kind == "result" or isinstance(found.told, Alarm | Refusals)
        taking = Taking(self._clock.utc(), room=not lines or known.lines.take(), hook=self.next_hook())
        new = await self._store.write(lambda connection: books.take(connection, robot, found, taking))
        if not new:
            self.counts["again"] += 1
        elif isinstance(found.told, Alarm):
            self.told(robot.name, found.told)

    async def _replies(self, robot: Robot, found: Said) -> list[Reply]:
        if isinstance(found.told, Birth):
            told = signed_time(found.told.nonce, audit.stamp(self._clock.utc()), self._key)
            reported = (await self._store.read(lambda connection: books.seen(connection, robot.id)))["reported"]
            return [Reply(wire.TIME, told.model_dump_json().encode()), *await self._twin(robot, reported)]
        return await self._twin(robot, found.told.version) if isinstance(found.told, Reported) else []

    async def _twin(self, robot: Robot, reported: int) -> list[Reply]:
        """What is wanted of it, where it has told another version: its broker may have lost what was retained."""
        wanted = await self._twins.signed_for(robot.tenant, robot.device) if self._twins else None
        return [Reply(wire.DESIRED, wanted[1], retained=True)] if wanted and wanted[0] != reported else []
