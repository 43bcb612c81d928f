"""The operator's door: commands on the same machine reach the backend that owns the books, one JSON line there, one back.

Whoever may open the socket (0600: the backend's own user, and root) is the operator.

    {"op": …, …}     -> {"told": …}
    what fails       -> {"error": {"code", "message", "todo", "exit_status"}}
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from agent.errors import BadInput, LedgerBusy, VoxmeterError

SOCKET = "billing.sock"

LINE_BYTES_MAX = 16 * 1024 * 1024
"""A list of all credentials of a fleet of some 50,000 robots; a longer line is none of ours."""

READ_SECONDS_MAX = 60
"""For a whole command, from the same machine: whoever takes longer has forgotten us."""

Door = Callable[[Mapping[str, Any]], Awaitable[Any]]


@contextlib.asynccontextmanager
async def answering(folder: Path, door: Door) -> AsyncIterator[None]:
    """Answers commands in a folder while it is open. The caller owns the folder."""
    callers: set[asyncio.Task[None]] = set()

    def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_serve(door, reader, writer))
        callers.add(task)
        task.add_done_callback(callers.discard)

    with _near(folder) as path:
        server = await asyncio.start_unix_server(meet, sock=_listener(path, folder / SOCKET), limit=LINE_BYTES_MAX)
        try:
            yield
        finally:
            server.close()
            await _sent_away(callers)
            (folder / SOCKET).unlink(missing_ok=True)


async def answers(folder: Path) -> bool:
    """Whether a backend takes commands in this folder."""
    try:
        with _near(folder) as path:
            _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def asked(folder: Path, question: Mapping[str, Any]) -> Any:
    """What the backend answers. Raises what it raised, LedgerBusy if it takes no commands."""
    try:
        with _near(folder) as path:
            reader, writer = await asyncio.open_unix_connection(path, limit=LINE_BYTES_MAX)
    except OSError as error:
        raise LedgerBusy(f"the books in {folder} have an owner which takes no commands", "wait until it has ended") from error
    try:
        writer.write(orjson.dumps(question) + b"\n")
        await writer.drain()
        line = await reader.readline()
    except (ConnectionError, ValueError):
        line = b""
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    if not line.endswith(b"\n"):
        raise LedgerBusy(f"the backend in {folder} went away in between", "try again")
    answer = orjson.loads(line)
    if failed := answer.get("error"):
        refusal = VoxmeterError(failed["message"], failed["todo"])
        refusal.code, refusal.exit_status = failed["code"], failed["exit_status"]
        raise refusal
    return answer["told"]


async def _serve(door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(ConnectionError, TimeoutError):  # whoever asked is gone; what was done is on the books
            async with asyncio.timeout(READ_SECONDS_MAX):
                line = await reader.readline()
            if line:  # else somebody only looked whether we are here
                writer.write(orjson.dumps(await _answer(door, line)) + b"\n")
                await writer.drain()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _answer(door: Door, line: bytes) -> dict[str, Any]:
    try:
        question = orjson.loads(line)
        if not isinstance(question, dict):
            raise BadInput("a command is a JSON object", "send one line")
        return {"told": await door(question)}
    except VoxmeterError as error:
        return _error(error)
    except (ValueError, KeyError, TypeError) as error:
        return _error(BadInput(f"this is no command: {type(error).__name__}: {error}", "use the same version on both sides"))


def _error(error: VoxmeterError) -> dict[str, Any]:
    return {"error": {"code": error.code, "message": error.message, "todo": error.todo, "exit_status": error.exit_status}}


async def _sent_away(callers: set[asyncio.Task[None]]) -> None:
    waiting = list(callers)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


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


@contextlib.contextmanager
def _near(folder: Path) -> Iterator[str]:
    """The socket's path by way of the folder's descriptor: a socket's own name may have only 107 bytes."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)
