"""One life of an engine's process, from birth to death; `host` decides who lives, and for how long."""

import asyncio
import contextlib
import os
import signal
import socket
import sys

from agent import processes
from agent.engines.wire import Frame, pack, read
from agent.errors import EngineFailed
from agent.ports import EngineSettings

START_SECONDS_MAX = 60
"""Loading a model from a slow card; longer means it hangs."""

STOP_SECONDS_MAX = 2
"""A child that does not end by itself when its socket closes is killed."""

HELD_BYTES_MAX = 65_536
"""Of frames for the child that are held until the event loop comes round: what is written in one go wakes it once."""

STDERR = 2

ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",  # its threads would only hold memory
    "MALLOC_ARENA_MAX": "1",  # one thread computes; an arena for each other only holds memory
    "ORT_DISABLE_TELEMETRY": "1",  # no library tells anybody what a robot does
}
"""What every engine's process finds set."""

HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""For the language model, where the kernel lets us: its weights pass through the core once per token, a tenth quicker this way. Others
would only hold 50 MB more."""


class Life:
    """A child that lives, ready or still loading. Made by `born`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._name = name
        self._process = process
        self._reader = reader
        self._writer = writer
        self._held = bytearray()

    @property
    def process_id(self) -> int:
        return self._process.pid

    async def ready(self) -> None:
        """Returns when the engine has loaded its model. Raises EngineFailed when it can't, or died before it could say why."""
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                frame = await read(self._reader)
        except TimeoutError:
            raise EngineFailed(f"{self._name} did not start within {START_SECONDS_MAX} s", "run: voxmeter doctor") from None
        if frame is None:
            raise EngineFailed(f"{self._name} {await self.end()} while starting", "run: voxmeter doctor")
        if frame[0] != "ready":
            raise EngineFailed(frame[2], frame[3])

    async def next(self) -> Frame | None:
        """The next frame from it; None when it is gone."""
        return await read(self._reader)

    async def write(self, frame: Frame) -> None:
        if not self._writer.is_closing():
            with contextlib.suppress(ConnectionError):  # the reader notices the death and ends the call
                if not self._held:
                    asyncio.get_running_loop().call_soon(self._flush)
                self._held += pack(frame)
                if len(self._held) >= HELD_BYTES_MAX:
                    self._flush()
                await self._writer.drain()

    def _flush(self) -> None:
        if self._held and not self._writer.is_closing():
            self._writer.write(bytes(self._held))
        self._held.clear()

    def kill(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def end(self) -> str:
        """Closes its socket, waits for it, kills it if it stays; says how it ended."""
        self._flush()
        self._writer.close()
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                status = await self._process.wait()
        except TimeoutError:
            self.kill()
            status = await self._process.wait()
        except asyncio.CancelledError:
            self.kill()
            raise
        return f"was killed ({signal.Signals(-status).name})" if status < 0 else f"ended (exit {status})"

    def pss_mb(self) -> float:
        """Its proportional set size in megabytes; 0 once it is gone."""
        return processes.pss_mb([self.process_id])


def environment(engine: str) -> dict[str, str]:
    """What an engine's process is started with."""
    return {**os.environ, **ENVIRONMENT, **(HUGE_PAGES if engine.startswith("llm_") else {})}


async def born(settings: EngineSettings) -> Life:
    """A child that begins to load its model. Raises OSError where no process can be made."""
    ours, theirs = socket.socketpair()
    with theirs, contextlib.ExitStack() as unused:
        unused.callback(ours.close)
        reader, writer = await asyncio.open_connection(sock=ours)
        unused.callback(writer.close)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "agent.engines.child", settings.engine, str(theirs.fileno())),
            pass_fds=(theirs.fileno(),),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=STDERR,  # what a native library prints must not mix with our JSON
            env=environment(settings.engine),
        )
        unused.pop_all()
    writer.write(pack(("settings", settings)))
    return Life(settings.engine, process, reader, writer)
