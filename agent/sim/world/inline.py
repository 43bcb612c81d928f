"""Writes at once, in whoever's thread asks: what a ledger's writer does, for a world in which nothing may depend on threads."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from agent.errors import LedgerDamaged
from agent.store.ledger.writer import Work, Writer

T = TypeVar("T")


class InlineWriter(Writer):
    """Each piece of work has a transaction of its own and is done when `submit` returns."""

    def __init__(self, connection: Any, begin: Callable[[], None], undo: Callable[[], None]) -> None:
        self._connection, self._begin, self._undo = connection, begin, undo
        self._closed = False  # and neither queue nor thread, unlike the base

    def submit(self, run: Callable[[Any], T], *, alone: bool = False) -> "asyncio.Future[T]":
        """The future is done. Raises LedgerDamaged after `close`."""
        if self._closed:
            raise LedgerDamaged("the ledger is closed", "start the robot again")
        loop = asyncio.get_running_loop()
        work: Work[T] = Work(run, alone, loop, loop.create_future())
        for done in self._done([work]):
            done.tell()
        return work.done

    def close(self) -> None:
        """Nothing waits, so nothing is left to be finished."""
        self._closed = True
        self._connection.close()
