"""The ledger: appends records so that what `append` returned for is durable, chained and on the odometer.

One transaction gives sequence, hash, odometer and journal together and is the commit point; nothing waits in memory before it.
What fails is met here: a disk that is full gets the reserve, a file that is damaged is set aside and the records go into a new
epoch, and only what neither helps is raised.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from agent.clock import Clock
from agent.errors import VoxmeterError
from agent.ports import Appended, Draft, Entry, Posted
from agent.store.db import CORRUPT, DAMAGE, LEDGER_FILE, refused
from agent.store.keys import Keys
from agent.store.ledger import epochs, journal, outbox
from agent.store.ledger.chain import Identity, Ready, ready
from agent.store.ledger.changing import Changing
from agent.store.ledger.commands import Commanded, Running
from agent.store.ledger.leaving.earlier import named
from agent.store.ledger.leaving.sending import Sending
from agent.store.ledger.refused import plainly, said
from agent.store.ledger.salvage import declare
from agent.store.ledger.space import TIDY, Limits, Space
from agent.store.ledger.writer import Writer
from agent.store.state import Lock

T = TypeVar("T")

LOOK_EVERY = 50
"""Appends between two looks at the room on the disk."""

Settle = Callable[[Sequence[tuple[Entry, Appended]]], list[Draft]]
"""Final records for calls that were left open."""

Key = tuple[str, str, int]


class SqliteLedger(Changing, Sending, Commanded):
    """The books of one device in one state folder. Its owner is this process until `aclose`."""

    def __init__(self, state: Path, robot: Identity, clock: Clock, limits: Limits | None = None, writer: type[Writer] = Writer) -> None:
        """Takes the folder's lock and opens or begins the epoch. Raises LedgerBusy, LedgerDamaged or BadInput."""
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        super().__init__(state, robot)
        self._clock, self._running = clock, Running(clock)
        self._counted: dict[str, int] = {}
        self._ours: set[Key] = set()
        self._appends = 0
        self._looking: asyncio.Task[None] | None = None
        self._salvager = ThreadPoolExecutor(1, thread_name_prefix="salvage")
        self._posted = asyncio.Event()
        self.damaged = asyncio.Event()
        """An epoch has given way: there may be something to salvage."""
        self._lock = Lock(state)
        try:
            self.keys = Keys(state, clock)
            self._space = Space(state, limits or Limits(), self.keys)
            connection, self._chain = self._opened()
            self._space.look(connection)
        except DAMAGE as error:
            self._lock.release()
            raise refused(state / LEDGER_FILE, error) from error
        except BaseException:
            self._lock.release()
            raise
        self._writer = writer(connection, lambda: self._chain.remember(), lambda: self._chain.undo())  # noqa: PLW0108  it may change

    def room(self) -> bool:
        """See the port."""
        return self._space.room

    async def append(self, drafts: Sequence[Draft], journal: Sequence[Entry] = ()) -> list[Appended]:
        """See the port."""
        prepared = [ready(draft) for draft in drafts]
        before = self._chain
        try:
            return await self._commit(prepared, journal)
        except sqlite3.ProgrammingError:  # a change of epoch that the disk refused has left it closed
            await self._alone(self._reopened)
            return await self._commit_or_say(prepared, journal)
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_FULL and await self._alone(lambda _: self._space.spend_reserve()):
                return await self._commit_or_say(prepared, journal)
            if code in CORRUPT:
                if self._chain is before:  # whoever met the damage first has begun the next epoch
                    await self.begin_epoch("damaged", damaged=True)
                return await self._commit_or_say(prepared, journal)
            raise said(error) from error

    async def left_open(self) -> list[tuple[Entry, Appended]]:
        """See the port."""
        return [(entry, intent) for entry, intent in await self._do(journal.left) if _key(entry) not in self._ours]

    async def post(self, topic: str, body: bytes) -> None:
        """See the port Outbox."""
        one = Posted(self._clock.new_id(), topic, body, self._clock.utc().isoformat(timespec="seconds"))
        try:
            await self._keep(lambda connection: outbox.put(connection, [one]))
        finally:  # whoever was stopped meanwhile may have posted it
            self._has_posted()

    def _has_posted(self) -> None:
        self._posted.set()

    async def posted(self, skipped: int = 0) -> list[Posted]:
        """See the port Outbox."""
        return await self._do(lambda connection: outbox.waiting(connection, skipped=skipped))

    async def delivered(self, ids: Sequence[str]) -> None:
        """See the port Outbox."""
        await self._do(lambda connection: outbox.taken(connection, ids))

    async def posting(self) -> None:
        """See the port Outbox."""
        await self._posted.wait()
        self._posted.clear()

    async def salvage(self, settle: Settle) -> int:
        """Brings back what damaged ledgers beside this one still hold; declares what they don't. Returns how many were treated.

        May be stopped at any moment; the next call begins again and nothing is declared twice.
        """
        waiting = epochs.damaged(self._state)
        for damaged in waiting:
            ours = set(self._ours)  # before looking: what ends meanwhile is ended by us
            found = await self._beside(declare.found, self._state, damaged)
            left = [(entry, intent) for entry, intent in found.left if _key(entry) not in ours] if found else []
            await self._declare(damaged.name, [ready(draft) for draft in (*declare.gaps(found), *settle(left))])
            await self._beside(declare.keep, self._state, damaged, found)
        self._sending = None
        return len(waiting)

    async def _declare(self, name: str, drafts: list[Ready]) -> None:
        await self._do(lambda connection: declare.declare(connection, self._chain, drafts, name))

    async def doubt(self, epoch: str) -> None:
        """Sets a ledger aside that a full check has found damaged, so that `salvage` treats it; an earlier one, or the present (empty)."""
        if epoch in ("", self._chain.epoch):
            await self.begin_epoch("damaged", damaged=True)
        else:
            await self._beside(self._earlier.release, named(epoch))
            await self._beside(epochs.doubt, self._state, epoch)
            self._sending = None
            self.damaged.set()

    async def beat(self) -> None:
        """Returns when the thread that writes has done everything given to it so far: it lives."""
        await self._do(lambda _: None)

    async def tidy(self) -> None:
        """Lets go what the room on the disk asks for."""
        await self._alone(lambda connection: self._space.tidy(connection, self._chain))

    async def aclose(self) -> None:
        if self._looking is not None and not self._looking.done():
            await self._looking
        await self._beside(self._earlier.aclose)
        await asyncio.to_thread(self._salvager.shutdown)  # nobody renames files here once the lock is gone
        await asyncio.to_thread(self._writer.close)
        self._lock.release()

    async def _commit(self, drafts: list[Ready], entries: Sequence[Entry]) -> list[Appended]:
        def write(connection: sqlite3.Connection) -> list[Appended]:
            appended = self._chain.put(connection, drafts)
            intents = [one for one, draft in zip(appended, drafts, strict=True) if draft.draft.type == "intent"]
            self._note(entries)
            journal.write(connection, entries, intents[-1] if intents else None)
            return appended

        done = await self._writer.submit(write)
        self._grew.set()
        self._appends += 1
        if self._appends % LOOK_EVERY == 0:
            self._looking = asyncio.create_task(self._look())
        return done

    async def _look(self) -> None:
        """Beside whoever appends: what fails here is no failure of a record that is already durable."""
        with suppress(sqlite3.Error, OSError, VoxmeterError):
            if await self._alone(self._space.look) >= TIDY:
                await self.tidy()

    async def _commit_or_say(self, drafts: list[Ready], entries: Sequence[Entry]) -> list[Appended]:
        try:
            return await self._commit(drafts, entries)
        except sqlite3.Error as error:
            raise said(error) from error

    def _note(self, entries: Sequence[Entry]) -> None:
        """Remembers which calls are this process's own, so that no salvage settles one that is under way."""
        for entry in entries:
            if entry.state == "settled":
                self._ours.discard(_key(entry))
            else:
                self._ours.add(_key(entry))

    async def _beside(self, work: Callable[..., T], *given: object) -> T:
        """In a thread that writes nothing of the present ledger."""
        with plainly():
            return await asyncio.get_running_loop().run_in_executor(self._salvager, work, *given)


def _key(entry: Entry) -> Key:
    return entry.call.turn_id, entry.call.stage, entry.call.attempt
