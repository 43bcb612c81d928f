"""Runs one command to its end: under its time limit, told as it begins, its result durable when it returns.

accepted -> running -> succeeded | failed    what it raises, and a limit it exceeds, is a failure with one line
accepted -> expired                          it had to wait until its time was over
accepted -> succeeded -> the agent ends      a command that ends the agent is written down first, or it would never be

A ledger that refuses is asked again until it takes the result: what was done is not done again because a disk was full.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from agent.clock import Clock
from agent.contract import wire
from agent.contract.fleet.command import Command, State
from agent.errors import BadInput, VoxmeterError
from agent.fleet.commands import Spec, spec
from agent.fleet.order import late
from agent.fleet.running.results import told
from agent.ports import CommandBook, Known, Steerable

T = TypeVar("T")

Say = Callable[[str], None]

Post = Callable[[str, bytes], Awaitable[object]]
"""(topic below the device's subtree, body): carries it, or does not."""

STOP_S = 2.0
"""What a command that is stopped gets to put things in order; after that it is left to itself."""

AGAIN_S_MIN, AGAIN_S_MAX = 1.0, 60.0
"""Before a ledger that refused is asked again: doubled each time."""

POSTING_MAX = 16
"""States on their way at once; a link that is slow gets no more of them, for they are only news."""


class Outcome(NamedTuple):
    """What came of a command."""

    state: State
    code: str = ""
    message: str = ""
    result: Mapping[str, Any] = {}


class Runner:
    """Of one robot."""

    def __init__(self, book: CommandBook, robot: Steerable, clock: Clock, *, device: Callable[[], str], say: Say, post: Post) -> None:
        """`device`: `{tenant}/{device}`."""
        self._book, self._robot, self._clock = book, robot, clock
        self._device, self._say, self._post = device, say, post
        self._posting: set[asyncio.Task[None]] = set()
        self._left: set[asyncio.Task[Any]] = set()
        """Commands that did not stop when they were told to."""
        self._refusing = False

    async def run(self, known: Known, command: Command, *, again: bool = False) -> bool:
        """Returns when its result is durable; True where it has ended the agent. `again`: after a power cut, whatever the time."""
        one: Spec[Any] = spec(command.op)
        try:
            given = one.given(command.args)
        except BadInput as error:  # only after an update: whoever accepted it has looked
            await self.settle(known, Outcome("failed", "bad-arguments", str(error)))
            return False
        if not again and (over := late(command, self._clock.utc().timestamp(), self._clock.quality())):
            await self.settle(known, Outcome("expired", over.code, over.message))
            return False
        if one.ends:
            return await self._end(known, one, given)
        if not one.quick:
            await self.patiently(lambda: self._book.began(known.cmd_id))
            self.tell(known, "running")
        await self.settle(known, await self._outcome(one, given))
        return False

    async def _end(self, known: Known, one: Spec[Any], given: Any) -> bool:
        await self.settle(known, Outcome("succeeded"))
        outcome = await self._outcome(one, given)
        if outcome.state != "succeeded":
            self._say(f"{known.op} did nothing: {outcome.message}")
        return outcome.state == "succeeded"

    async def settle(self, known: Known, outcome: Outcome) -> None:
        """Returns when it is durable and waits for the broker."""
        try:
            result = told(known, self._device(), **outcome._asdict())
        except BadInput as error:
            outcome = Outcome("failed", "bad-answer", str(error))
            result = told(known, self._device(), **outcome._asdict())
        final = replace(known, state=outcome.state, result=result)
        await self.patiently(lambda: self._book.settle(final, topic_of(known.cmd_id)))

    def tell(self, known: Known, state: State, code: str = "", message: str = "") -> None:
        """News, at best effort: it may be lost, or come after the result."""
        self.tell_as_is(known, told(known, self._device(), state, code=code, message=message))

    def tell_as_is(self, known: Known, result: bytes) -> None:
        """Likewise, a result as it is published."""
        if len(self._posting) < POSTING_MAX:
            self._keep(self._posting, self._news(known, result))

    async def _news(self, known: Known, result: bytes) -> None:
        with suppress(VoxmeterError, OSError):
            await self._post(topic_of(known.cmd_id), result)

    async def patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Until the ledger takes it. That it does not is said once."""
        wait_s = AGAIN_S_MIN
        while True:
            try:
                done = await work()
            except VoxmeterError as error:
                if not self._refusing:
                    self._say(f"commands wait: {error}")
                self._refusing = True
                await self._clock.sleep(wait_s)
                wait_s = min(2 * wait_s, AGAIN_S_MAX)
            else:
                self._refusing = False
                return done

    async def aclose(self) -> None:
        """Stops what is still under way."""
        for task in (*self._posting, *self._left):
            task.cancel()
        await asyncio.gather(*self._posting, return_exceptions=True)

    async def _outcome(self, one: Spec[Any], given: Any) -> Outcome:
        task = asyncio.ensure_future(one.run(self._robot, given))
        try:
            await asyncio.wait({task}, timeout=one.limit_s)
        finally:
            in_time = task.done()
            if not in_time:
                await self._stop(task)
        if not in_time:
            return Outcome("failed", "timeout", f"it was stopped after {one.limit_s:g} s")
        return _outcome_of(task)

    async def _stop(self, task: asyncio.Future[Any]) -> None:
        task.cancel()
        await asyncio.wait({task}, timeout=STOP_S)
        if not task.done():
            self._say("a command does not stop and is left to itself")
            self._keep(self._left, _ended(task))

    @staticmethod
    def _keep(tasks: set[asyncio.Task[Any]], work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _ended(task: asyncio.Future[Any]) -> None:
    await asyncio.wait({task})


def _outcome_of(task: asyncio.Future[Any]) -> Outcome:
    if task.cancelled():
        return Outcome("failed", "stopped", "it was stopped")
    error = task.exception()
    if isinstance(error, VoxmeterError):
        return Outcome("failed", error.code, str(error))
    if error is not None:
        return Outcome("failed", "error", f"{type(error).__name__}: {error}")
    return Outcome("succeeded", result=task.result())


def topic_of(cmd_id: str) -> str:
    """Where a command's states and result are told."""
    return f"{wire.RESULT}/{cmd_id}"
