"""A child process that takes orders and answers, in JSON lines over its standard input and output, and ends when it is let go.

{"id": 7, "op": "turn", …} -> {"id": 7, "told": …} | {"id": 7, "error": "one line"}
what it says unasked has no id: {"ready": …}, {"heard": …}, {"say": …}
"""

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from agent.errors import NoLink

LINE_BYTES_MAX = 1024 * 1024
"""A status or an ack has well under a thousandth of it."""

WORDS_BYTES = 4000
"""Of what it wrote to standard error, for whoever asks why it ended."""

Unasked = Callable[[dict[str, Any]], None]


class Child:
    """One running process. It has a session of its own: Ctrl-C is for whoever started it to act on."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, unasked: Unasked) -> None:
        self._process, self._log, self._unasked = process, log, unasked
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def start(cls, command: Sequence[str], log: Path, unasked: Unasked) -> "Child":
        """`log` takes its standard error."""
        pipe = asyncio.subprocess.PIPE
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *command, stdin=pipe, stdout=pipe, stderr=errors, start_new_session=True, limit=LINE_BYTES_MAX
            )
        return cls(process, log, unasked)

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    async def ask(self, op: str, **told: Any) -> Any:
        """What it answers. Raises NoLink if it ends before, with its last words, or if it could not do it."""
        assert self._process.stdin is not None
        number = next(self._numbers)
        answered = self._waiting[number] = asyncio.get_running_loop().create_future()
        if self._reading.done():
            raise self._gone()
        with contextlib.suppress(ConnectionError):  # then its end is noticed where it is read
            self._process.stdin.write(orjson.dumps({"id": number, "op": op} | told) + b"\n")
            await self._process.stdin.drain()
        return await answered

    async def until(self, event: asyncio.Event, seconds_max: float) -> None:
        """Waits for what it says unasked. Raises NoLink if it ends before, or takes too long."""
        waiting = asyncio.ensure_future(event.wait())
        try:
            await asyncio.wait({waiting, self._reading}, timeout=seconds_max, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not event.is_set():
            raise self._gone() if self._reading.done() else NoLink(f"process {self._process.pid} is not ready in {seconds_max:g} s")

    def freeze(self) -> None:
        """It stands still, wherever it is, until `thaw`."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    async def kill(self) -> None:
        """Gone at once, whatever it was doing; returns when it is."""
        self._send(signal.SIGKILL)
        await self._ended()

    async def finish(self, seconds_max: float) -> None:
        """Lets it go and waits for its own end; kills it where that takes too long."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(seconds_max):
                await self._ended()
        except TimeoutError:
            await self.kill()

    async def _ended(self) -> None:
        await self._process.wait()
        await self._reading

    def _send(self, number: signal.Signals) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)  # with whatever it started itself

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            with contextlib.suppress(orjson.JSONDecodeError):  # a kill may leave half a line
                self._take(orjson.loads(line))
        for answered in self._waiting.values():
            if not answered.done():
                answered.set_exception(self._gone())
                answered.exception()  # somebody may have stopped waiting
        self._waiting.clear()

    def _take(self, told: dict[str, Any]) -> None:
        if "id" not in told:
            self._unasked(told)
        elif (answered := self._waiting.pop(told["id"], None)) and not answered.done():
            if "error" in told:
                answered.set_exception(NoLink(told["error"]))
            else:
                answered.set_result(told.get("told"))

    def _gone(self) -> NoLink:
        words = self._log.read_text(errors="replace")[-WORDS_BYTES:].strip().splitlines() if self._log.exists() else []
        return NoLink(f"process {self._process.pid} has ended: {words[-1] if words else 'without a word'}", f"see {self._log}")
