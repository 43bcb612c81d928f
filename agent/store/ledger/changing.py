"""The file under the ledger: changes it for the next epoch's, and sees that all work finds an open one with room in it.

closed   a change that the disk refused may leave it so: whoever comes next opens it, or is refused; it is never taken for empty
full     what must not be lost is tried once more in the room that the reserve kept free
"""

import asyncio
import sqlite3
from abc import ABC
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from agent.clock import Clock
from agent.errors import LedgerFull
from agent.ports import Appended, Entry, Posted
from agent.store.db import DAMAGE
from agent.store.ledger import commands, epochs, journal, opening, outbox
from agent.store.ledger.chain import Chain, Identity
from agent.store.ledger.refused import plainly
from agent.store.ledger.space import Space
from agent.store.ledger.writer import Writer

T = TypeVar("T")


class Changing(ABC):
    """Of one ledger: what it does to its present file."""

    _state: Path
    _robot: Identity
    _clock: Clock
    _chain: Chain
    _space: Space
    _writer: Writer
    _sending: list[str] | None
    _counted: dict[str, int]
    damaged: asyncio.Event

    async def begin_epoch(self, reason: str, *, follows: str = "", damaged: bool = False) -> str:
        """Sets the present epoch aside and begins the next; calls that are under way stay in the journal. Returns the new epoch.

        `follows`: the epoch it comes after, where that is not the present one but one that only the backend still has.
        Raises LedgerFull or LedgerDamaged where the disk refuses; then nothing is lost, and it may be asked for again.
        """

        def change(present: sqlite3.Connection) -> str:
            old = self._reopened(present)
            known, (left, posted), book = epochs.odometer_of(old), _readable(old), commands.carried(old, self._counted)
            with suppress(sqlite3.Error):
                old.close()
            try:
                after = opening.Ended(self._chain.epoch, reason, known, follows, left, posted, book)
                opening.succeed(self._state, self._robot, self._clock, after=after, damaged=damaged)
            finally:
                self._reopen()
            return self._chain.epoch

        epoch = await self._alone(change)
        self._sending = None
        self.damaged.set()
        return epoch

    def _opened(self) -> tuple[sqlite3.Connection, Chain]:
        """On a full disk SQLite can't even open; what the reserve kept free lets the robot start, to say that it is full."""
        try:
            return opening.opened(self._state, self._robot, self._clock)
        except (sqlite3.OperationalError, OSError):
            if not self._space.spend_reserve():
                raise
            return opening.opened(self._state, self._robot, self._clock)

    def _reopen(self) -> sqlite3.Connection:
        """Goes on with whichever file is the present one; a disk that refused it may let it now."""
        connection, self._chain = self._opened()
        self._writer.replace(connection)
        return connection

    def _reopened(self, present: sqlite3.Connection) -> sqlite3.Connection:
        """The same, unless a change that the disk refused has left it closed."""
        if not _is_closed(present):
            return present
        before, connection = self._chain.epoch, self._reopen()
        if self._chain.epoch != before:  # it was damaged meanwhile
            commands.count(connection, self._counted)
        return connection

    async def _keep(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """In a transaction; on a full disk once more, into the reserve."""
        try:
            return await self._do(work)
        except LedgerFull:
            await self._alone(lambda _: self._space.spend_reserve())
            return await self._do(work)

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """In the writing thread, in a transaction."""
        return await self._submitted(work, alone=False)

    async def _alone(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """In the writing thread, outside of any."""
        return await self._submitted(work, alone=True)

    async def _submitted(self, work: Callable[[sqlite3.Connection], T], *, alone: bool) -> T:
        with plainly():
            try:
                return await self._writer.submit(work, alone=alone)
            except sqlite3.ProgrammingError:  # closed: nothing of it was done
                await self._writer.submit(self._reopened, alone=True)
                return await self._writer.submit(work, alone=alone)


def _is_closed(connection: sqlite3.Connection) -> bool:
    try:
        return connection.total_changes < 0
    except sqlite3.ProgrammingError:
        return True


def _readable(old: sqlite3.Connection) -> tuple[list[tuple[Entry, Appended]], list[Posted]]:
    """The calls that go on in the next epoch's journal, and what waits in the outbox; a damaged file's calls are left to its salvage."""
    left: list[tuple[Entry, Appended]] = []
    try:
        left = journal.left(old)
        return left, outbox.waiting(old, outbox.WAITING_MAX)
    except (*DAMAGE, ValueError, KeyError, TypeError):
        return left, []
