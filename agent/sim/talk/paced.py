"""Runs an engine's worker in the caller's process and takes time for its steps on the Clock: an engine for simulated conversations.

    call --step--> worker runs until it yields, or wants an input that is not there --> call sleeps as long as that took

The worker has a thread of its own, and only ever one of the two runs: the same inputs at the same times give the same outputs.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from pkgutil import resolve_name
from typing import Any

from agent.clock import Clock
from agent.engines import ENGINES
from agent.engines.worker import Worker
from agent.errors import EngineFailed
from agent.ports import EngineSettings
from agent.values import StageUsage

WANTS, ENDED = "wants", "ended"


class _Cancelled(BaseException):
    """Ends a worker's thread that waits for an input which will never come."""


class PacedCall:
    """One use. Implements the port Call."""

    def __init__(self, worker: Worker, clock: Clock, step_seconds: float, begins: Callable[["PacedCall"], None]) -> None:
        self.usage = StageUsage()
        self.begun = False
        self._worker = worker
        self._clock = clock
        self._step_seconds = step_seconds
        self._begins = begins
        self._given: deque[Any] = deque()
        self._finished = False
        self._stopped = False
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._told: Any = WANTS
        self._thread: threading.Thread | None = None
        self._outputs: asyncio.Queue[Any] = asyncio.Queue()
        self._driving: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def send(self, item: Any) -> None:
        self._given.append(item)
        self._begin()

    async def finish(self) -> None:
        self._finished = True
        self._begin()

    async def cancel(self) -> None:
        self._stopped = True
        self._news.set()
        if self._driving is not None:
            await asyncio.gather(self._driving, return_exceptions=True)
        self._outputs.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (output := await self._outputs.get()) is not None:
            if isinstance(output, EngineFailed):
                raise output
            yield output

    def supersede(self, failure: EngineFailed) -> None:
        """The engine has moved on to another call; if this one has not ended, it fails."""
        if self._driving is not None and not self._driving.done() and not self._stopped:
            self._stopped = True
            self._news.set()
            self._outputs.put_nowait(failure)

    def _begin(self) -> None:
        if not self.begun:
            self._begins(self)
        self.begun = True
        self._news.set()
        if self._driving is None and not self._stopped:
            self._driving = asyncio.create_task(self._drive())

    async def _drive(self) -> None:
        """Takes step after step until the worker has ended or the call is cancelled."""
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        try:
            while not self._stopped and (told := self._step()) is not ENDED:
                if told is WANTS:
                    self._news.clear()
                    if not self._given and not self._finished:
                        await self._news.wait()
                    continue
                if isinstance(told, EngineFailed):
                    self._outputs.put_nowait(told)
                    return
                output, usage = told
                if output is not None or usage != self.usage:
                    await self._clock.sleep(self._step_seconds)
                self.usage = usage
                if output is not None and not self._stopped:
                    self._outputs.put_nowait(output)
        finally:
            self._end_thread()
        self._outputs.put_nowait(None)

    def _step(self) -> Any:
        self._go.release()
        self._done.acquire()
        return self._told

    def _end_thread(self) -> None:
        self._stopped = True
        while self._thread is not None and self._thread.is_alive():
            self._go.release()
            self._thread.join(0.01)

    def _work(self) -> None:
        self._go.acquire()
        try:
            for step in self._worker.run(self._inputs()):
                self._tell(step)
            self._last(ENDED)
        except EngineFailed as failure:
            self._last(failure)
        except _Cancelled:
            pass
        except Exception as error:  # noqa: BLE001  as in a child: a broken call must not end the engine
            self._last(EngineFailed(f"{type(error).__name__}: {error}"))

    def _tell(self, told: Any) -> None:
        self._told = told
        self._done.release()
        self._go.acquire()
        if self._stopped:
            raise _Cancelled

    def _last(self, told: Any) -> None:
        self._told = told
        self._done.release()

    def _inputs(self) -> Iterator[Any]:
        while True:
            while not self._given:
                if self._finished:
                    return
                self._tell(WANTS)
            yield self._given.popleft()


class PacedEngine:
    """A worker of the registry in this process. Implements the port Engine."""

    def __init__(self, settings: EngineSettings, clock: Clock, step_seconds: float = 0.0) -> None:
        """`step_seconds` passes for each step in which something was made."""
        self.name, self.model = settings.engine, settings.model
        self._worker: Worker = resolve_name(ENGINES[settings.engine])(settings)
        self._clock = clock
        self._step_seconds = step_seconds
        self._call: PacedCall | None = None

    def open(self) -> PacedCall:
        return PacedCall(self._worker, self._clock, self._step_seconds, self._begin)

    def _begin(self, call: PacedCall) -> None:
        """As a child does, it serves one call at a time."""
        before, self._call = self._call, call
        if before is not None:
            before.supersede(EngineFailed(f"{self.name} has moved on to another call"))

    async def aclose(self) -> None:
        """It has no process."""
