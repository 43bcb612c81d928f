"""The one thread that writes: what waits for it is done in one transaction, so that many turns share one sync of the disk.

    waiting -> taken together -> BEGIN, all of it in order, COMMIT -> everyone is told

If one piece of work fails, the others must not: the transaction is taken back and each is done again alone.
"""

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")

TOGETHER_MAX = 64
"""Pieces of work in one transaction: enough to share a slow sync, few enough that nobody waits for a crowd."""


@dataclass(frozen=True, slots=True)
class Work(Generic[T]):
    """Something to do on the connection, and whoever waits for it."""

    run: Callable[[sqlite3.Connection], T]
    alone: bool = False
    """It begins and ends its transactions itself."""
    done: Future[T] = field(default_factory=Future)


class Writer:
    """Owns a connection from a thread of its own until closed."""

    def __init__(self, connection: sqlite3.Connection, begin: Callable[[], None], undo: Callable[[], None]) -> None:
        """`begin` and `undo` are called around each transaction: to remember, and to restore, what is held beside the file."""
        self._connection = connection
        self._begin = begin
        self._undo = undo
        self._waiting: queue.SimpleQueue[Work[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="ledger", daemon=True)
        self._thread.start()

    def submit(self, run: Callable[[sqlite3.Connection], T], *, alone: bool = False) -> "Future[T]":
        """The future is done when the work is durable. After `close` it never is."""
        work = Work(run, alone)
        self._waiting.put(work)
        return work.done

    def replace(self, connection: sqlite3.Connection) -> None:
        """Goes on with another file. Only from work that runs alone."""
        self._connection = connection

    def close(self) -> None:
        """Finishes what waits and ends the thread. Must not be called from the thread."""
        self._waiting.put(None)
        self._thread.join()
        self._connection.close()

    def _serve(self) -> None:
        left: Work[Any] | None = None
        while True:
            first = left or self._waiting.get()
            left = None
            if first is None:
                return
            together = [first]
            while not first.alone and len(together) < TOGETHER_MAX and not self._waiting.empty():
                following = self._waiting.get()
                if following is None or following.alone:
                    left = following
                    if following is None:
                        self._waiting.put(None)
                    break
                together.append(following)
            self._do([work for work in together if work.done.set_running_or_notify_cancel()])

    def _do(self, together: list[Work[Any]]) -> None:
        if not together:
            return
        try:
            results = self._alone(together[0]) if together[0].alone else self._committed(together)
        except BaseException as error:  # noqa: BLE001  whatever it is, whoever waits must hear of it
            if len(together) == 1:
                together[0].done.set_exception(error)
            else:
                for work in together:
                    self._do_again(work)
            return
        for work, result in zip(together, results, strict=True):
            work.done.set_result(result)

    def _do_again(self, work: Work[Any]) -> None:
        try:
            (result,) = self._committed([work])
        except BaseException as error:  # noqa: BLE001  the same
            work.done.set_exception(error)
        else:
            work.done.set_result(result)

    def _alone(self, work: Work[Any]) -> list[Any]:
        return [work.run(self._connection)]

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
