"""Scripted engines in the test's own process, one output per input, and a microphone that reads a list."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any

from agent.engines.worker import Worker
from agent.errors import EngineFailed
from agent.ports import HeardFrame
from agent.sim.clock import SimulatedClock
from agent.values import FRAME_MS, StageUsage


class LocalCall:
    """A call of a worker that answers each input at once."""

    def __init__(self, engine: "LocalEngine") -> None:
        self.usage = StageUsage()
        self.begun = False
        self._engine = engine
        self._given: deque[Any] = deque()
        self._steps = engine.worker.run(iter(self._taken, self))
        self._outputs: asyncio.Queue[Any] = asyncio.Queue()

    def _taken(self) -> Any:
        return self._given.popleft() if self._given else self

    async def send(self, item: Any) -> None:
        self.begun = True
        self._engine.asked.append(item)
        await self._engine.before(len(self._engine.asked))
        if self._engine.broken(len(self._engine.asked)):
            self._outputs.put_nowait(EngineFailed(f"{self._engine.name} was killed (SIGKILL) in mid-turn"))
            return
        self._given.append(item)
        self._outputs.put_nowait(next(self._steps)[0])

    async def finish(self) -> None:
        self._outputs.put_nowait(None)

    async def cancel(self) -> None:
        self._outputs.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (output := await self._outputs.get()) is not None:
            if isinstance(output, EngineFailed):
                raise output
            yield output


async def at_once(_: int) -> None:
    """Before each answer: nothing."""


class LocalEngine:
    """A worker seen as the port Engine. `broken` says at which inputs, counted from 1 over all calls, it dies."""

    model = "script"

    def __init__(self, worker: Worker, broken: Callable[[int], bool] = lambda _: False) -> None:
        self.name = type(worker).__name__
        self.worker, self.broken = worker, broken
        self.before: Callable[[int], Awaitable[None]] = at_once
        self.asked: list[Any] = []
        self.calls = 0

    def open(self) -> LocalCall:
        self.calls += 1
        return LocalCall(self)

    async def aclose(self) -> None:
        pass


class ListMicrophone:
    """Gives frames a frame apart on a simulated clock, as fast as they are taken."""

    def __init__(self, frames: Iterator[bytes], clock: SimulatedClock) -> None:
        self._frames, self._clock = frames, clock

    async def frames(self) -> AsyncGenerator[HeardFrame]:
        for pcm in self._frames:
            await self._clock.sleep(FRAME_MS / 1000)
            for _ in range(20):  # whoever is to act on it does so before the next is captured
                await asyncio.sleep(0)
            yield HeardFrame(pcm, self._clock.monotonic())

    def health(self) -> Mapping[str, Any]:
        return {"device": "list", "hearing": True, "why": "", "rate": 1.0, "overruns": 0, "reopened": 0, "clipped": 0}

    async def aclose(self) -> None:
        pass
