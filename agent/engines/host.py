"""Runs an engine in a child process and gives it the port's face; a crash fails the call and the engine is started again.

    starting --ready--> idle --open--> busy --end, failed--> idle
    any --the child is gone--> starting, at once if it had served a call, else after a pause that doubles

The call that was under way raises EngineFailed with how the child died; its usage stands as last reported. A call begun
meanwhile waits for the new child, or fails at once when the last start did.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar

from agent.clock import Clock
from agent.engines.wire import Frame, pack, read
from agent.errors import EngineFailed
from agent.ports import EngineSettings
from agent.values import StageUsage

In = TypeVar("In")
Out = TypeVar("Out")

START_SECONDS_MAX = 60
"""Loading a model from a slow card; longer means it hangs."""

RESTART_SECONDS_MAX = 30
"""The pause before a restart doubles up to this while an engine keeps dying."""

RESTART_SECONDS_FIRST = 0.5

STDERR = 2

OUTPUTS_MAX = 1_024
"""Outputs of a call that nobody has taken yet; the child waits beyond."""

ITEMS_AHEAD_MAX = 512
"""Input items the child has not taken yet, 16 s of sound; its inbox is larger, so that a cancel never waits behind them."""

CANCEL_SECONDS_MAX = 10
"""A child that has not stopped by then hangs, and is killed."""

STOP_SECONDS_MAX = 2
"""A child that does not end by itself when its socket closes is killed."""


class HostedCall(Generic[In, Out]):
    """One call of a hosted engine. Made by `Hosted.open`; the child hears of it with its first frame."""

    def __init__(self, host: "Hosted[In, Out]", number: int) -> None:
        self._host = host
        self.number = number
        self._outputs: asyncio.Queue[Out | EngineFailed | None] = asyncio.Queue(OUTPUTS_MAX)
        self._abandoned = False
        self._room = asyncio.Semaphore(ITEMS_AHEAD_MAX)
        self.begun = False
        """The engine has heard of this call."""
        self._ended = asyncio.Event()
        self.usage = StageUsage()

    async def send(self, item: In) -> None:
        if not self._ended.is_set():
            await self._room.acquire()
        await self._write("item", item)

    async def finish(self) -> None:
        await self._write("finish")

    async def cancel(self) -> None:
        """Asks the child to stop and waits until it has; outputs not yet taken are dropped. A child that hangs is killed."""
        self._drop()
        self._outputs.put_nowait(None)  # whoever iterates stops now
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
            await self._host.write((kind, self.number, *rest))


class Hosted(Generic[In, Out]):
    """An engine in its own process, seen as the port Engine."""

    def __init__(self, settings: EngineSettings, clock: Clock) -> None:
        self.name = settings.engine
        self.model = settings.model
        self.process_id = 0
        """Of the child that lives now; 0 while there is none."""
        self._settings = settings
        self._clock = clock
        self._settled = asyncio.Event()  # a start has ended, well or badly
        self._failure: EngineFailed | None = None  # of the last start
        self._calls = 0
        self._served = False  # the child that lives now has given something
        self._call: HostedCall[In, Out] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when the engine has loaded its model. Raises EngineFailed when it can't."""
        self._task = asyncio.create_task(self._keep(), name=f"host of {self.name}")
        await self._until_ready()

    def open(self) -> HostedCall[In, Out]:
        self._calls += 1
        return HostedCall(self, self._calls)

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def kill(self) -> None:
        """Ends a child that hangs; what follows is what follows any death."""
        if self.process_id:
            os.kill(self.process_id, signal.SIGKILL)

    async def begin(self, call: HostedCall[In, Out]) -> None:
        """Makes this the engine's call; the one before it, if still under way, is cancelled by the child."""
        await self._until_ready()
        before, self._call = self._call, call
        if before is not None and before is not call:
            before.supersede(EngineFailed(f"{self.name} has moved on to another call"))
        await self.write(("open", call.number))

    async def write(self, frame: Frame) -> None:
        if self._writer is not None and not self._writer.is_closing():
            with contextlib.suppress(ConnectionError):  # the reader notices the death and ends the call
                self._writer.write(pack(frame))
                await self._writer.drain()

    async def _until_ready(self) -> None:
        await self._settled.wait()
        if self._failure is not None:
            raise self._failure

    async def _keep(self) -> None:
        """Keeps a child alive until cancelled."""
        pause = RESTART_SECONDS_FIRST
        while True:
            self._served = False
            try:
                await self._live_once()
            except Exception as error:  # noqa: BLE001  no process, no descriptor, no memory: whatever it is, it is tried again
                await self._failed_to_live(EngineFailed(f"{self.name} can't be started: {error}", "run: voxmeter doctor"))
            if self._served:
                pause = RESTART_SECONDS_FIRST
            else:
                await self._clock.sleep(pause)
                pause = min(pause * 2, RESTART_SECONDS_MAX)

    async def _failed_to_live(self, failure: EngineFailed) -> None:
        self._failure = failure
        self._settled.set()
        if self._call is not None:
            await self._call.end(failure)

    async def _live_once(self) -> None:
        """One child from birth to death."""
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as unused:
            unused.callback(ours.close)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "agent.engines.child", self.name, str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=STDERR,  # what a native library prints must not mix with our JSON
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # its threads would only hold memory
            )
            unused.pop_all()
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            writer.write(pack(("settings", self._settings)))
            failure = await self._first_word(reader)
            if failure is None:
                self._failure, self._writer, self.process_id = None, writer, process.pid
                self._settled.set()
                await self._relay(reader)
        except asyncio.CancelledError:
            process.kill()  # a child that is still loading would not notice its socket closing
            raise
        finally:
            self._settled.clear()
            self.process_id, self._writer = 0, None
            writer.close()
            ending = await _reap(process)
        if failure is not None:
            self._failure = failure if failure.message else EngineFailed(f"{self.name} {ending} while starting", "run: voxmeter doctor")
            self._settled.set()
        if self._call is not None:
            await self._call.end(EngineFailed(f"{self.name} {ending} in mid-turn", "it is being started again"))

    async def _first_word(self, reader: asyncio.StreamReader) -> EngineFailed | None:
        """What keeps the child from being ready; without a message where it died before it could say."""
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                frame = await read(reader)
        except TimeoutError:
            return EngineFailed(f"{self.name} did not start within {START_SECONDS_MAX} s", "run: voxmeter doctor")
        if frame is None:
            return EngineFailed("")
        return None if frame[0] == "ready" else EngineFailed(frame[2], frame[3])

    async def _relay(self, reader: asyncio.StreamReader) -> None:
        while (frame := await read(reader)) is not None:
            self._served = True
            if self._call is not None and frame[1] == self._call.number:
                await self._call.take(frame)


async def _reap(process: asyncio.subprocess.Process) -> str:
    """Waits for a child whose socket is closed; says how it ended."""
    try:
        async with asyncio.timeout(STOP_SECONDS_MAX):
            status = await process.wait()
    except TimeoutError:
        process.kill()
        status = await process.wait()
    return f"was killed ({signal.Signals(-status).name})" if status < 0 else f"ended (exit {status})"


async def start(settings: EngineSettings, clock: Clock) -> Hosted[Any, Any]:
    """Starts an engine of the registry."""
    host: Hosted[Any, Any] = Hosted(settings, clock)
    try:
        await host.start()
    except BaseException:
        await host.aclose()
        raise
    return host
