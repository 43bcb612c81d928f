"""One call of a hosted engine: what it sends, what has come back and was not taken yet, and how it ends.

    made --first frame--> begun --end, failed, superseded, the child is gone--> ended

Frames of a call that has ended go nowhere. Whoever iterates gets what came before the end, and then learns how it ended.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, Protocol, TypeVar

from agent.engines.wire import Frame
from agent.errors import EngineFailed
from agent.values import StageUsage

In = TypeVar("In")
Out = TypeVar("Out")

OUTPUTS_MAX = 1_024
"""Outputs of a call that nobody has taken yet; the child waits beyond."""

ITEMS_AHEAD_MAX = 512
"""Input items the child has not taken yet, 16 s of sound; its inbox is larger, so that a cancel never waits behind them."""

CANCEL_SECONDS_MAX = 10
"""A child that has not stopped by then hangs, and is killed."""


class Host(Protocol[In, Out]):
    """What a call needs of its engine's host."""

    async def begin(self, call: "HostedCall[In, Out]") -> None: ...

    async def write(self, frame: Frame) -> None: ...

    def kill(self) -> None: ...


class HostedCall(Generic[In, Out]):
    """One call of a hosted engine. Made by `Hosted.open`; the child hears of it with its first frame."""

    def __init__(self, host: Host[In, Out], number: int, *, answers_each: bool = False) -> None:
        self._host = host
        self._answers_each = answers_each
        self._unanswered = 0
        self.number = number
        self._outputs: asyncio.Queue[Out | EngineFailed | None] = asyncio.Queue(OUTPUTS_MAX)
        self._abandoned = False
        self._room = asyncio.Semaphore(ITEMS_AHEAD_MAX)
        self._all_sent = False
        self._stuffed = False  # a frame is on its way into the child, whose pipe may be full
        self.begun = False
        """The engine has heard of this call."""
        self._ended = asyncio.Event()
        self.usage = StageUsage()

    @property
    def ended(self) -> bool:
        """Nothing of it is under way any more."""
        return self._ended.is_set()

    @property
    def owed(self) -> bool:
        """The child has all it needs, or does not take what it is given, and is to say something; not where whoever iterates is what it
        waits for."""
        due = self._all_sent or self._stuffed or (self._answers_each and self._unanswered > 0)
        return due and self.begun and not self._ended.is_set() and not self._outputs.full()

    async def send(self, item: In) -> None:
        if not self._ended.is_set():
            await self._room.acquire()
        self._unanswered += 1
        await self._write("item", item)

    async def finish(self) -> None:
        self._all_sent = True
        await self._write("finish")

    async def cancel(self) -> None:
        """Asks the child to stop and waits until it has; outputs not yet taken are dropped. A child that hangs is killed."""
        self._drop()
        self._outputs.put_nowait(None)  # whoever iterates stops now
        self._all_sent = True
        if self.begun and not self._ended.is_set():
            try:
                async with asyncio.timeout(CANCEL_SECONDS_MAX):
                    await self._write("cancel")
                    await self._ended.wait()
            except TimeoutError:
                self._host.kill()
                await self._ended.wait()

    async def __aiter__(self) -> AsyncIterator[Out]:
        while (output := await self._outputs.get()) is not None:
            if isinstance(output, EngineFailed):
                raise output
            yield output

    async def take(self, frame: Frame) -> None:
        """Takes a frame of this call from the child."""
        match frame:
            case ("step", _, output, usage):
                self.usage = usage
                if output is not None:
                    self._unanswered -= 1
                    await self._put(output)
            case ("took", _, items):
                self._make_room(items)
            case ("failed", _, message, todo):
                await self.end(EngineFailed(message, todo))
            case _:
                await self.end(None)

    async def end(self, failure: EngineFailed | None) -> None:
        if not self._ended.is_set():
            self._ended.set()
            self._make_room(ITEMS_AHEAD_MAX)
            await self._put(failure)

    def supersede(self, failure: EngineFailed) -> None:
        """Ends a call that gave way to another, without waiting for whoever may have stopped taking its outputs."""
        if not self._ended.is_set():
            self._ended.set()
            self._make_room(ITEMS_AHEAD_MAX)
            self._drop()
            self._outputs.put_nowait(failure)

    def _make_room(self, items: int) -> None:
        for _ in range(items):
            self._room.release()

    def _drop(self) -> None:
        self._abandoned = True
        while not self._outputs.empty():
            self._outputs.get_nowait()

    async def _put(self, output: Out | EngineFailed | None) -> None:
        if not self._abandoned:
            await self._outputs.put(output)

    async def _write(self, kind: str, *rest: In) -> None:
        """Frames of a call that has ended go nowhere; whoever iterates learns how it ended."""
        if not self.begun and not self._ended.is_set():
            try:
                await self._host.begin(self)
                self.begun = True
            except EngineFailed as error:
                await self.end(error)
        if not self._ended.is_set():
            self._stuffed = True
            try:
                await self._host.write((kind, self.number, *rest))
            finally:
                self._stuffed = False
