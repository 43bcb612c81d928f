"""The backend's books: one database, one process, one writer whose waiting work shares a transaction.

    waiting -> taken together -> BEGIN, all of it in order, COMMIT -> everyone is told

If one piece of work fails, the transaction is taken back and each is done again alone, so work must change nothing but the database.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.exc import DatabaseError

from agent.billing.ledger import sqlite
from agent.billing.ledger.folder import Folder
from agent.billing.ledger.tables import epoch, meta
from agent.clock import Clock
from agent.errors import LedgerDamaged

T = TypeVar("T")

TOGETHER_MAX = 32
"""Pieces of work in one transaction: enough to share a slow sync, few enough that nobody waits for a crowd."""

READERS = 2
"""Threads that read: a long statement must not keep a mark waiting."""

SET_COMMITS = update(meta).where(meta.c.name == "commits")
SET_DURABLE = update(epoch).where(epoch.c.id == bindparam("id_"), epoch.c.durable < bindparam("cum_")).values(durable=bindparam("cum_"))


@dataclass(frozen=True, slots=True)
class Work:
    """Something to do in the transaction, and whoever waits for it."""

    run: Callable[[Connection], Any]
    done: "asyncio.Future[Any]"


@dataclass(frozen=True, slots=True)
class Failed:
    """How a piece of work ended that did not end well."""

    failure: BaseException


class Store:
    """The books in one folder. Their owner is this process until `aclose`, or `abandon`."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        """Takes the folder's lock; makes the database if there is none. Raises LedgerBusy or LedgerDamaged."""
        self._folder = Folder(folder)
        self._path = folder / sqlite.DATABASE_FILE
        try:
            self._writer = sqlite.writer(self._path)
            self._connection = self._writer.connect()
            self.backend_id, self._commits = self._identified(clock)
            self._reader = sqlite.reader(self._path)
        except BaseException as error:
            self._release()
            if isinstance(error, DatabaseError | OSError):
                raise sqlite.refused(self._path, error) from error
            raise
        self._write_pool = ThreadPoolExecutor(1, thread_name_prefix="books")
        self._read_pool = ThreadPoolExecutor(READERS, thread_name_prefix="books-read")
        self._waiting: list[Work] = []
        self._draining: asyncio.Task[None] | None = None
        self._closed = False

    def _identified(self, clock: Clock) -> tuple[str, int]:
        """Who this backend is: whoever it was, unless the database is a backup or an older copy."""
        with self._connection.begin():
            held = {row.name: row.value for row in self._connection.execute(select(meta))}
            commits = int(held.get("commits", "0"))
            backend_id = held.get("backend_id", "")
            if not backend_id or not self._folder.is_as_left(backend_id, commits):
                backend_id = clock.new_epoch()
            told = {"backend_id": backend_id, "commits": str(commits)}
            sqlite.put(self._connection, meta, [{"name": name, "value": value} for name, value in told.items()])
        self._folder.note(backend_id, commits)
        return backend_id, commits

    @property
    def waiting(self) -> int:
        """Pieces of work that wait to be written."""
        return len(self._waiting)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """What the work returned, durable when this returns. The work may run twice and must change nothing but the database.

        Raises what the work raised; LedgerFull or LedgerDamaged where the disk refuses. Whoever stops waiting does not stop the work.
        """
        if self._closed:
            raise LedgerDamaged("the books are closed", "start the backend again")
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(Work(work, done))
        if self._draining is None or self._draining.done():
            self._draining = asyncio.create_task(self._drain())
        return await done

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What the work found; it sees one moment, all commits before it included."""

        def run() -> T:
            try:
                with self._reader.connect() as connection:
                    return work(connection)
            except DatabaseError as error:
                raise sqlite.refused(self._path, error) from error

        return await asyncio.get_running_loop().run_in_executor(self._read_pool, run)

    async def backup(self, path: Path) -> None:
        """A copy of the books as of now; what it holds is told to the robots as durable once it is on the disk."""

        def run() -> list[tuple[int, int]]:
            try:
                return sqlite.back_up(self._reader, path)
            except (DatabaseError, OSError) as error:
                raise sqlite.refused(path, error) from error

        held = await asyncio.get_running_loop().run_in_executor(self._read_pool, run)
        rows = [{"id_": id_, "cum_": cum} for id_, cum in held]
        if rows:
            await self.write(lambda connection: connection.execute(SET_DURABLE, rows) and None)

    async def aclose(self) -> None:
        """Finishes what waits."""
        self._closed = True
        if self._draining is not None:
            await self._draining
        self._let_go()

    def abandon(self) -> None:
        """Lets go of the folder as a kill would: what is committed stays, what waits is never done."""
        self._closed = True
        self._waiting.clear()
        if self._draining is not None:
            self._draining.cancel()
        self._let_go()

    def _let_go(self) -> None:
        self._write_pool.shutdown()
        self._read_pool.shutdown()
        self._reader.dispose()
        self._release()

    def _release(self) -> None:
        if hasattr(self, "_connection"):
            self._connection.close()
        if hasattr(self, "_writer"):
            self._writer.dispose()
        self._folder.release()

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            together = self._waiting[:TOGETHER_MAX]
            del self._waiting[:TOGETHER_MAX]
            for work, result in zip(together, await loop.run_in_executor(self._write_pool, self._done, together), strict=True):
                if work.done.done():
                    continue
                if isinstance(result, Failed):
                    work.done.set_exception(result.failure)
                else:
                    work.done.set_result(result)

    def _done(self, together: list[Work]) -> list[Any]:
        try:
            return self._committed(together)
        except BaseException as failure:  # noqa: BLE001  whatever it is, whoever waits must hear of it
            if len(together) > 1:
                return [result for work in together for result in self._done([work])]
            return [Failed(sqlite.refused(self._path, failure) if isinstance(failure, DatabaseError) else failure)]

    def _committed(self, together: list[Work]) -> list[Any]:
        with self._connection.begin():
            results = [work.run(self._connection) for work in together]
            self._connection.execute(SET_COMMITS, {"value": str(self._commits + 1)})
        self._commits += 1
        self._folder.note(self.backend_id, self._commits)
        return results
