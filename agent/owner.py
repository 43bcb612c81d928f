"""The owner's socket: commands that write reach the process that owns the books, one JSON line there, one back.

    {"op": "ask", "session_id": …, "pcm": …}    -> {"told": {what ask --json prints}, "speech": [{"pcm", "rate_hz", "text"}]}
    {"op": "privacy forget", "session_id": …}   -> {"told": {"forgotten": true}}
    anything that fails                         -> {"error": {"code", "message", "todo", "exit_status"}}

Sound is base64 of s16le. Whoever may open the socket (0600: the owner's own user, and root) may ask.
"""

import asyncio
import base64
import binascii
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from agent.app import App
from agent.dialog.telling import told
from agent.errors import BadInput, LedgerBusy, VoxmeterError
from agent.values import FRAME_SAMPLES, Speech

SOCKET = "agent.sock"

LINE_BYTES_MAX = 64 * 1024 * 1024
"""Some twenty minutes of sound; a longer question is none."""

FRAME_BYTES = FRAME_SAMPLES * 2


@contextlib.asynccontextmanager
async def serving(app: App, state: Path) -> AsyncIterator[None]:
    """Answers commands while it is open. Turns are taken one after the other."""
    path = state / SOCKET
    path.unlink(missing_ok=True)  # of a process that was killed; the lock says that it is gone
    turn = asyncio.Lock()
    doors = {"ask": lambda told: _ask(app, turn, told), "privacy forget": lambda told: _forget(app, told)}
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.bind(_short(path))
        path.chmod(0o600)
    except OSError as error:
        listener.close()
        raise BadInput(f"{path}: {error.strerror}", "use a --state-dir you can write to") from error
    server = await asyncio.start_unix_server(lambda reader, writer: _serve(doors, reader, writer), sock=listener, limit=LINE_BYTES_MAX)
    try:
        async with server:
            yield
    finally:
        path.unlink(missing_ok=True)


Door = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


async def _serve(doors: Mapping[str, Door], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):  # whoever asked is gone; what was done is on the books
        try:
            answer = await _answered(doors, await reader.readline())
        except ValueError:
            answer = _error(BadInput(f"a command of more than {LINE_BYTES_MAX} bytes", "send a shorter recording"))
        writer.write(orjson.dumps(answer) + b"\n")
        await writer.drain()
    writer.close()


async def _answered(doors: Mapping[str, Door], line: bytes) -> dict[str, Any]:
    try:
        asked = orjson.loads(line)
        door = doors[asked["op"]]
    except (ValueError, KeyError, TypeError):
        return _error(BadInput("the owner does not know this command", f"it knows: {', '.join(doors)}"))
    try:
        return await door(asked)
    except VoxmeterError as error:
        return _error(error)


def _error(error: VoxmeterError) -> dict[str, Any]:
    return {"error": {"code": error.code, "message": error.message, "todo": error.todo, "exit_status": error.exit_status}}


async def _ask(app: App, turn: asyncio.Lock, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        pcm = base64.b64decode(asked["pcm"], validate=True)
        session = str(asked.get("session_id") or app.clock.new_id())
    except (KeyError, TypeError, binascii.Error) as error:
        raise BadInput("the sound is not base64", "send pcm: 16 kHz, mono, s16le") from error
    frames = [pcm[at : at + FRAME_BYTES].ljust(FRAME_BYTES, b"\0") for at in range(0, len(pcm), FRAME_BYTES)]
    spoken: list[Speech] = []
    async with turn:
        heard = await app.hear(frames, spoken.append, session)
    speech = [{"pcm": base64.b64encode(one.pcm).decode(), "rate_hz": one.rate_hz, "text": one.text} for one in spoken]
    return {"told": told(heard, app.books.card, reply_audio=None, problems=[]), "speech": speech}


async def _forget(app: App, asked: dict[str, Any]) -> dict[str, Any]:
    if app.words is None:
        raise BadInput("this robot keeps no words", "nothing to do")
    forgotten = await asyncio.to_thread(app.words.forget, str(asked.get("session_id", "")))
    return {"told": {"forgotten": forgotten}}


async def handed_over(state: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """What the owner answers. Raises LedgerBusy if it has no socket, and what the owner raised."""
    try:
        reader, writer = await asyncio.open_unix_connection(_short(state / SOCKET), limit=LINE_BYTES_MAX)
    except OSError as error:
        raise LedgerBusy(f"the ledger in {state} has another owner, which takes no commands", "wait until it has ended") from error
    try:
        writer.write(orjson.dumps(asked) + b"\n")
        await writer.drain()
        line = await reader.readline()
    except ConnectionError:
        line = b""
    finally:
        writer.close()
    if not line:
        raise LedgerBusy(f"the owner of the ledger in {state} went away in between", "try again")
    answer: dict[str, Any] = orjson.loads(line)
    if failed := answer.get("error"):
        refusal = VoxmeterError(failed["message"], failed["todo"])
        refusal.code, refusal.exit_status = failed["code"], failed["exit_status"]
        raise refusal
    return answer


def asking(frames: Iterable[bytes], session_id: str) -> dict[str, Any]:
    """The command that asks."""
    return {"op": "ask", "session_id": session_id, "pcm": base64.b64encode(b"".join(frames)).decode()}


def speech_of(answer: dict[str, Any]) -> list[Speech]:
    """What was spoken, out of an answer."""
    return [Speech(base64.b64decode(one["pcm"]), one["rate_hz"], one["text"]) for one in answer["speech"]]


def _short(path: Path) -> str:
    """The path of a socket, which may have 107 bytes: relative to the working folder where that is shorter."""
    whole = str(path.resolve())
    with contextlib.suppress(ValueError):
        whole = min(whole, str(path.resolve().relative_to(Path.cwd())), key=len)
    return whole
