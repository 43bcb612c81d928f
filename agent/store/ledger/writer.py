"""The one thread that writes: what waits for it is done in one transaction, so that many turns share one sync of the disk.

    waiting -> taken together -> BEGIN, all of it in order, COMMIT -> everyone is told

If one piece of work fails, the others must not: the transaction is taken back and each is done again alone.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from agent.errors import LedgerDamaged

T = TypeVar("T")

TOGETHER_MAX = 64
"""Pieces of work in one transaction: enough to share a slow sync, few enough that nobody waits for a crowd."""


@dataclass(frozen=True, slots=True)
class Work(Generic[T]):
    """Something to do on the connection, and whoever waits for it."""

    run: Callable[[sqlite3.Connection], T]
    alone: bool
    """It begins and ends its transactions itself."""
    loop: asyncio.AbstractEventLoop
    done: "asyncio.Future[T]"


@dataclass(frozen=True, slots=True)
class Done:
    """How a piece of work ended."""

    work: Work[Any]
    result: Any = None
    failure: BaseException | None = None

    def tell(self) -> None:
        """In the loop of whoever waits, if anybody still does."""
        if self.work.done.cancelled():
            return
        if self.failure is None:
            self.work.done.set_result(self.result)
        else:
            self.work.done.set_exception(self.failure)


class Writer:
    """Owns a connection from a thread of its own until closed."""

    def __init__(self, connection: sqlite3.Connection, begin: Callable[[], None], undo: Callable[[], None]) -> None:
        """`begin` and `undo` are called around each transaction: to remember, and to restore, what is held beside the file."""
        self._connection = connection
        self._begin = begin
        self._undo = undo
        self._waiting: queue.SimpleQueue[Work[Any] | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="ledger", daemon=True)
        self._thread.start()

    def submit(self, run: Callable[[sqlite3.Connection], T], *, alone: bool = False) -> "asyncio.Future[T]":
        """The future is done when the work is durable. Whoever stops waiting does not stop the work. Raises LedgerDamaged after `close`."""
        if self._closed:
            raise LedgerDamaged("the ledger is closed", "start the robot again")
        loop = asyncio.get_running_loop()
        work = Work(run, alone, loop, loop.create_future())
        self._waiting.put(work)
        return work.done

    def replace(self, connection: sqlite3.Connection) -> None:
        """Goes on with another file. Only from work that runs alone."""
        self._connection = connection

    def close(self) -> None:
        """Finishes what waits and ends the thread. Must not be called from the thread."""
        self._closed = True
        self._waiting.put(None)
        self._thread.join()
        self._connection.close()

    def _serve(self) -> None:
        ended = False
        while not ended:
            taken = [self._waiting.get()]
            while len(taken) < TOGETHER_MAX and not self._waiting.empty():
                taken.append(self._waiting.get())
            ended = None in taken
            together: list[Work[Any]] = []
            for work in filter(None, taken):
                if work.alone:
                    self._do(together)
                    self._do([work])
                    together = []
                else:
                    together.append(work)
            self._do(together)

    def _do(self, together: list[Work[Any]]) -> None:
        """Does all of it and tells everyone, each loop once."""
        if together:
            done = self._done(together)
            for loop in {work.loop for work in together}:
                with suppress(RuntimeError):  # whoever waited is gone together with their loop
                    loop.call_soon_threadsafe(_tell, [one for one in done if one.work.loop is loop])

    def _done(self, together: list[Work[Any]]) -> list[Done]:
        try:
            results = [together[0].run(self._connection)] if together[0].alone else self._committed(together)
        except BaseException as failure:  # noqa: BLE001  whatever it is, whoever waits must hear of it
            if len(together) == 1:
                return [Done(together[0], failure=failure)]
            return [done for work in together for done in self._done([work])]
        return [Done(work, result) for work, result in zip(together, results, strict=True)]

    def _committed(self, together: list[Work[Any]]) -> list[Any]:
        self._begin()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            results = [work.run(self._connection) for work in together]
            self._connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # what failed first is what gets told
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            self._undo()
            raise
        return results


def _tell(done: list[Done]) -> None:
    for one in done:
        one.tell()
