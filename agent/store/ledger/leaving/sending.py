"""The half of a ledger that is for sending: what leaves, what is acknowledged, and what must be issued again.

Implements the port Backlog on what the other half owns: the writing thread, the chain, the keys.
"""

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from agent.contract.ack import Ack, Standing
from agent.contract.batch import Batch, sign
from agent.contract.signing import key_record_data
from agent.ports import BATCHES_MAX, Appended, Draft, Entry
from agent.store.db import meta, put_meta
from agent.store.keys import Keys
from agent.store.ledger.chain import Chain, Identity, Ready, ready
from agent.store.ledger.leaving import asked, backlog, side
from agent.store.ledger.leaving.earlier import Earlier, named
from agent.store.ledger.refused import sendable

T = TypeVar("T")


class Sending(ABC):
    """See the port Backlog."""

    _chain: Chain
    keys: Keys

    def __init__(self, state: Path, robot: Identity) -> None:
        self._state, self._robot = state, robot
        self._earlier = Earlier(state, robot.device)
        self._sending: list[str] | None = None
        """Earlier epochs with something to send; None where that has to be looked up."""
        self._grew = asyncio.Event()

    @property
    def epoch(self) -> str:
        return self._chain.epoch

    @abstractmethod
    async def append(self, drafts: Sequence[Draft], journal: Sequence[Entry] = ()) -> list[Appended]: ...

    @abstractmethod
    async def begin_epoch(self, reason: str, *, follows: str = "", damaged: bool = False) -> str: ...

    @abstractmethod
    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """In the writing thread, in a transaction."""

    @abstractmethod
    async def _alone(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """In the writing thread, outside of any."""

    @abstractmethod
    async def _beside(self, work: Callable[..., T], *given: object) -> T:
        """In a thread that writes nothing of the present ledger."""

    async def epochs(self) -> list[str]:
        """See the port. What of earlier epochs can't be sent is issued again first."""
        if self._sending is None:
            sending, again = await self._beside(self._earlier.waiting)
            for name in again:
                await self._issue_again(name)
            self._sending = sending
        return [*self._sending, self.epoch]

    async def next_batch(self, epoch: str = "") -> Batch | None:
        """See the port; by default of the present epoch."""
        if epoch in ("", self.epoch):
            return await self._do(lambda connection: self._next(connection, epoch))
        with sendable():
            return await self._beside(self._earlier.next_batch, epoch)

    async def unacked(self, epoch: str = "", after: int = 0, most: int = BATCHES_MAX) -> list[Batch]:
        """See the port; by default of the present epoch."""
        if epoch in ("", self.epoch):
            return await self._do(lambda connection: self._unacked(connection, epoch, after, most))
        with sendable():
            return await self._beside(self._earlier.unacked, epoch, after, most)

    def _next(self, connection: sqlite3.Connection, epoch: str) -> Batch | None:
        """An epoch may have given way between the question and its turn in this thread."""
        if epoch not in ("", self.epoch):
            return None
        with sendable():
            return backlog.next_batch(connection, self.epoch, self._robot.device)

    def _unacked(self, connection: sqlite3.Connection, epoch: str, after: int, most: int) -> list[Batch]:
        if epoch not in ("", self.epoch):
            return []
        with sendable():
            return backlog.unacked(connection, self.epoch, self._robot.device, after, most)

    async def signed(self, batch: Batch) -> Mapping[str, str]:
        """See the port. Raises BadInput for a key that can't be used."""
        return sign(batch, self.keys.current)

    async def take(self, ack: Ack, *, mark: bool = False) -> Standing:
        """Moves the cursor as far as the backend and the ledger agree; the side file follows. Only a mark moves it back.

        What the mark says is lost and is pruned here, is declared as a gap. Raises LedgerFull or LedgerDamaged where the disk
        refuses; the ack may then be given again. What to do about `ahead` and `different` is the caller's: `differs`.
        """
        if ack.epoch != self.epoch:
            self._sending = None
            standing, lost = await self._beside(lambda: self._earlier.take(ack, mark=mark))
            if lost:
                await self._do(lambda connection: self._declare_lost(connection, lost))
            return standing
        standing, told = await self._do(lambda connection: self._taken(connection, ack, mark=mark))
        if told:
            await self._alone(lambda _: side.write(self._state, told))
            if self.keys.pending is not None:
                await self._alone(self._promote)
        return standing

    def _taken(self, connection: sqlite3.Connection, ack: Ack, *, mark: bool) -> tuple[Standing, dict[str, object]]:
        if ack.epoch != self.epoch:  # it has given way meanwhile; the next mark is asked of it as an earlier one
            return "agreed", {}
        standing, told = backlog.take(connection, ack, mark=mark)
        if mark and standing in ("agreed", "behind"):
            self._chain.anchor(connection, ack.server_time)
            if lost := asked.lost(connection, ack):
                self._declare_lost(connection, lost)
        return standing, told

    def _declare_lost(self, connection: sqlite3.Connection, lost: dict[str, object]) -> None:
        if not asked.declared(connection, "gap", lost):
            self._chain.put(connection, [ready(Draft("gap", lost))])

    async def differs(self, epoch: str, standing: Standing) -> None:
        """See the port. May be stopped at any moment: the next mark of that epoch begins again.

        That an earlier epoch has lost what had left it is said by a new one as well: nothing else here would tell of it.
        """
        ahead = {"reason": standing, "previous": epoch}
        unsaid = standing == "ahead" and not await self._do(lambda connection: asked.declared(connection, "epoch", ahead))
        if epoch == self.epoch or unsaid:
            await self.begin_epoch(standing, follows=epoch)
        self._sending = None
        await self._issue_again(named(epoch))

    async def _issue_again(self, name: str) -> None:
        """Each piece is noted where it is put, in one transaction. A note that was lost costs a record twice, billed once."""
        note = f"issued_again:{name}"
        done = int((await self._do(meta)).get(note, "0"))
        while found := await self._beside(self._earlier.again, name, done):
            done, drafts = found[-1][0], [ready(draft) for _, draft in found]
            await self._do(self._put_again(drafts, {note: str(done)}))
        await self._beside(self._earlier.close_for_good, name)
        self._grew.set()

    def _put_again(self, drafts: list[Ready], noted: dict[str, str]) -> Callable[[sqlite3.Connection], None]:
        def work(connection: sqlite3.Connection) -> None:
            self._chain.put(connection, drafts)
            put_meta(connection, **noted)

        return work

    async def grown(self) -> None:
        """See the port."""
        await self._grew.wait()
        self._grew.clear()

    async def rotate(self) -> None:
        """Begins to change the usage key, or goes on with it: the new one signs once the backend holds the record that names it."""
        old, new = self.keys.current, self.keys.begin_rotation()
        await self.append([Draft("key", key_record_data(self.epoch, old, new))])

    def _promote(self, connection: sqlite3.Connection) -> None:
        if (pending := self.keys.pending) and asked.key_acked(connection, pending):
            self.keys.promote()
