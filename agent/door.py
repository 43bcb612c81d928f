"""A door of a process to others on the same machine: one JSON line over a socket in a folder, one back.

    {"op": …, …}     -> what the door for this op answers: {"told": …}, and what it adds
    what fails       -> {"error": {"code", "message", "todo", "exit_status"}}

Whoever may open the socket (0600: the process's own user, and root) may ask.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from agent.errors import BadInput, LedgerBusy, VoxmeterError

READ_SECONDS_MAX = 60
"""For a whole command, from the same machine: whoever takes longer has forgotten us."""

WRITE_SECONDS_MAX = 60
"""For a whole answer, likewise."""

Door = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Takes the whole command, gives the whole answer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much and how long."""

    line_bytes_max: int
    """Of a command and of an answer."""
    read_seconds_max: float = READ_SECONDS_MAX
    write_seconds_max: float = WRITE_SECONDS_MAX


@contextlib.asynccontextmanager
async def answering(doors: Mapping[str, Door], folder: Path, name: str, limits: Limits, *, who: str) -> AsyncIterator[None]:
    """Opens the socket in a folder; at its end no door is open any more, whatever the callers do.

    The caller owns the folder. `doors`: by the op they take; `who` answers, as errors name it. Raises BadInput if it can't be opened.
    """
    callers = _Callers(_House(doors, limits, who))
    with near(folder, name) as path:
        server = await asyncio.start_unix_server(callers.meet, sock=_listener(path, folder / name), limit=limits.line_bytes_max)
        try:
            yield
        finally:
            server.close()  # not wait_closed: since Python 3.12.1 that waits for callers to hang up
            await callers.send_away()
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108  a name by way of a descriptor


async def answers(folder: Path, name: str) -> bool:
    """Whether somebody takes commands in this folder."""
    try:
        with near(folder, name) as path:
            _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True


async def asked(folder: Path, name: str, question: Mapping[str, Any], limits: Limits, *, who: str) -> dict[str, Any]:
    """What is answered there. Raises what was raised there, LedgerBusy if nobody answers, BadInput for too long an answer.

    `who` should answer, as errors name it.
    """
    try:
        with near(folder, name) as path:
            reader, writer = await asyncio.open_unix_connection(path, limit=limits.line_bytes_max)
    except OSError as error:
        raise LedgerBusy(f"{who} in {folder} takes no commands", "wait until it has ended") from error
    try:
        writer.write(orjson.dumps(question) + b"\n")
        await writer.drain()
        line = await reader.readline()
    except ConnectionError:
        line = b""
    except ValueError as error:
        raise BadInput(f"the answer has more than {limits.line_bytes_max} bytes", "ask for less") from error
    finally:
        writer.close()
    if not line.endswith(b"\n"):
        raise LedgerBusy(f"{who} in {folder} went away in between", "try again")
    answer: dict[str, Any] = orjson.loads(line)
    if failed := answer.get("error"):
        refusal = VoxmeterError(failed["message"], failed["todo"])
        refusal.code, refusal.exit_status = failed["code"], failed["exit_status"]
        raise refusal
    return answer


@contextlib.contextmanager
def near(folder: Path, name: str) -> Iterator[str]:
    """The socket's path by way of the folder's descriptor: a socket's own name may have only 107 bytes."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


def _listener(path: str, shown: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        shown.unlink(missing_ok=True)  # of a process that was killed; the lock says that it is gone
        listener.bind(path)
        shown.chmod(0o600)
    except OSError as error:
        listener.close()
        raise BadInput(f"{shown}: {error.strerror}", "use a --state-dir you can write to") from error
    return listener


class _Callers:
    """Everyone who is connected."""

    def __init__(self, house: "_House") -> None:
        self._house = house
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed:  # accepted just before the end
            writer.transport.abort()
            return
        task = asyncio.create_task(self._house.serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def send_away(self) -> None:
        """Stops them all, once: what is under way takes the time it needs to settle."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class _House:
    """What every caller finds."""

    doors: Mapping[str, Door]
    limits: Limits
    who: str

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, TimeoutError):  # whoever asked is gone; what was done is on the books
                answer = await self._answer(reader)
                writer.transport.set_write_buffer_limits(0)  # so that `drain` means: they have it all
                writer.write(orjson.dumps(answer) + b"\n")
                async with asyncio.timeout(self.limits.write_seconds_max):
                    await writer.drain()
                writer.close()
        finally:
            if not writer.is_closing():
                writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> dict[str, Any]:
        seconds, bytes_max = self.limits.read_seconds_max, self.limits.line_bytes_max
        try:
            async with asyncio.timeout(seconds):
                line = await reader.readline()
        except TimeoutError:
            return _error(BadInput(f"no whole command came in {seconds} seconds", "send one JSON line"))
        except ValueError:
            return _error(BadInput(f"a command of more than {bytes_max} bytes", "send a shorter one"))
        try:
            question = orjson.loads(line)
            door = self.doors[question["op"]]
        except (ValueError, KeyError, TypeError):
            return _error(BadInput(f"{self.who} does not know this command", f"it knows: {', '.join(self.doors)}"))
        try:
            return await door(question)
        except VoxmeterError as error:
            return _error(error)
        except Exception as error:  # noqa: BLE001  one command's failure, whatever it is, must not end the others' process
            why = " ".join(f"{type(error).__name__}: {error}".split())
            return _error(VoxmeterError(f"{self.who} could not do it: {why}", "report this"))


def _error(error: VoxmeterError) -> dict[str, Any]:
    return {"error": {"code": error.code, "message": error.message, "todo": error.todo, "exit_status": error.exit_status}}
