"""Brings alarms to the webhook: from a table that outlives this process, one at a time, until each is taken.

    waiting -> posted -> taken (2xx): gone from the table
                      -> anything else: to the end of the line, and a wait with full jitter, longer each time, before the next

Who listens may get one twice, with the same id. That it is dead, slow or confused costs nobody but it: nothing waits for this.
"""

import asyncio
import datetime
from collections.abc import Callable
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Row, delete, func, select, update

from agent.billing.access import audit
from agent.billing.fleet.tables import WEBHOOK
from agent.billing.ledger import Store
from agent.clock import Clock
from agent.link.retry import Backoff
from agent.ports import Retry
from agent.tasks import first

FIRST_MS, MOST_MS = 1_000, 60_000
"""A receiver that was restarted hears within seconds, one that was away for hours within a minute."""

DAYS_MAX: Final = 7
"""After a week an alarm is no news; it stands on the audit log."""

LOOK_S: Final = 60.0
"""Between two looks when nobody says that something waits."""


class Receiver(Protocol):
    """Whoever listens; see agent/link/webhook.py."""

    @property
    def host(self) -> str: ...

    async def post(self, id_: str, body: bytes) -> Retry | None: ...


class Telling:
    """One line of alarms to one receiver."""

    def __init__(self, store: Store, receiver: Receiver, clock: Clock, say: Callable[[str], None] = lambda _: None) -> None:
        self._store, self._receiver, self._clock, self._say = store, receiver, clock, say
        self._backoff = Backoff(clock, FIRST_MS, MOST_MS)
        self._wake = asyncio.Event()
        self.problem = ""
        """Why the last one was not taken; empty when it was."""
        self.taken = 0

    def wake(self) -> None:
        """Something waits."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._wake.clear()
            try:
                wait_ms = await self._next()
            except Exception as error:  # noqa: BLE001  a database that refuses now may not later; and batches are taken all the same
                self._trouble(f"{type(error).__name__}: {error}")
                wait_ms = self._backoff.next_ms()
            if wait_ms is None:
                await self._idle()
            elif wait_ms:
                await self._clock.sleep(wait_ms / 1000)

    async def _next(self) -> int | None:
        """Tells one; how long to wait before the next, None where nothing waits."""
        row = await self._store.read(_first)
        if row is None:
            return None
        if row.created < audit.stamp(self._clock.utc() - datetime.timedelta(days=DAYS_MAX)):
            await self._store.write(lambda connection: self._given_up(connection, row))
            return 0
        refused = await self._receiver.post(row.id, row.body)
        if refused is None:
            await self._store.write(lambda connection: connection.execute(delete(WEBHOOK).where(WEBHOOK.c.n == row.n)) and None)
            self._backoff.reset()
            self.taken += 1
            if self.problem:
                self._say(f"the webhook at {self._receiver.host} listens again")
            self.problem = ""
            return 0
        later = update(WEBHOOK).where(WEBHOOK.c.n == row.n).values(tries=row.tries + 1)
        await self._store.write(lambda connection: connection.execute(later) and None)
        self._trouble(refused.why)
        return self._backoff.next_ms(refused.after_ms)

    def _given_up(self, connection: Connection, row: Row[Any]) -> None:
        connection.execute(delete(WEBHOOK).where(WEBHOOK.c.n == row.n))
        audit.append(connection, self._clock.utc(), "webhook", "webhook.given-up", id=row.id, tries=row.tries)

    def _trouble(self, why: str) -> None:
        if why != self.problem:
            self._say(f"the webhook at {self._receiver.host} does not take alarms: {why}; they wait")
        self.problem = why

    async def _idle(self) -> None:
        await first(self._wake.wait(), self._clock.sleep(LOOK_S))


def _first(connection: Connection) -> Row[Any] | None:
    """Who was refused less often goes first, so that one that nobody takes holds up no other."""
    return connection.execute(select(WEBHOOK).order_by(WEBHOOK.c.tries, WEBHOOK.c.n).limit(1)).first()


def waiting(connection: Connection) -> int:
    """How many wait."""
    return connection.execute(select(func.count()).select_from(WEBHOOK)).scalar_one()
