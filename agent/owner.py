"""The owner's socket: commands that write reach the process that owns the books, one JSON line there, one back.

    {"op": "ask", "session_id": …, "pcm": …}    -> {"told": {what ask --json prints}, "speech": [{"pcm", "rate_hz", "text"}]}
    {"op": "privacy forget", "session_id": …}   -> {"told": {"forgotten": …}}
    {"op": "sync now"}                          -> {"told": {what sync now --json prints}}
    {"op": "status"}                            -> {"told": {what status --json prints}}
    anything that fails                         -> {"error": {"code", "message", "todo", "exit_status"}}

Sound is base64 of s16le; `ask` without a session_id begins a session. Whoever may open the socket (0600: the owner's own user,
and root) may ask.
"""

import asyncio
import base64
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from agent.app import App
from agent.clock import Clock
from agent.contract.record import Name
from agent.dialog.telling import told
from agent.errors import BadInput, LedgerBusy, VoxmeterError
from agent.store.keys import KEYS_FOLDER
from agent.store.words import TEXT_FILE, WORDS_FOLDER, Words
from agent.values import FRAME_SAMPLES, Speech

SOCKET = "agent.sock"

LINE_BYTES_MAX = 64 * 1024 * 1024
"""Some twenty minutes of sound; a longer question is none."""

PCM_BYTES_MAX = (LINE_BYTES_MAX - 64 * 1024) // 4 * 3
"""What base64 makes a line of, with room for the words around it."""

READ_SECONDS_MAX = 60
"""For a whole command, from the same machine: whoever takes longer has forgotten us."""

WRITE_SECONDS_MAX = 60
"""For a whole answer, likewise."""

FRAME_BYTES = FRAME_SAMPLES * 2

NAME = TypeAdapter(Name)

TOO_LONG = (f"a question of more than {PCM_BYTES_MAX // 32_000 // 60} minutes", "send a shorter recording")

Door = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


@contextlib.asynccontextmanager
async def serving(app: App, state: Path, more: Mapping[str, Door] | None = None) -> AsyncIterator[None]:
    """Answers commands while it is open, one turn after the other. At its end a turn under way is stopped, and has settled.

    `more`: doors that need something besides the App.
    """
    one_at_a_time = asyncio.Lock()
    doors = {
        "ask": lambda asked: _ask(app, one_at_a_time, asked),
        "privacy forget": lambda asked: _forget(app, state, one_at_a_time, asked),
    }
    async with answering(doors | dict(more or {}), state):
        yield


@contextlib.asynccontextmanager
async def answering(doors: Mapping[str, Door], state: Path) -> AsyncIterator[None]:
    """Opens the socket in a folder; at its end no door is open any more, whatever the callers do."""
    callers = _Callers(doors)
    with _near(state) as path:
        server = await asyncio.start_unix_server(callers.meet, sock=_listener(path, state / SOCKET), limit=LINE_BYTES_MAX)
        try:
            yield
        finally:
            server.close()  # not wait_closed: since Python 3.12.1 that waits for callers to hang up
            await callers.send_away()
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108  a name by way of a descriptor


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

    def __init__(self, doors: Mapping[str, Door]) -> None:
        self._doors = doors
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed:  # accepted just before the end
            writer.transport.abort()
            return
        task = asyncio.create_task(_serve(self._doors, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def send_away(self) -> None:
        """Stops them all, once: a turn takes the time it needs to settle."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _serve(doors: Mapping[str, Door], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with contextlib.suppress(ConnectionError, TimeoutError):  # whoever asked is gone; what was done is on the books
            answer = await _answer(doors, reader)
            writer.transport.set_write_buffer_limits(0)  # so that `drain` means: they have it all
            writer.write(orjson.dumps(answer) + b"\n")
            async with asyncio.timeout(WRITE_SECONDS_MAX):
                await writer.drain()
            writer.close()
    finally:
        if not writer.is_closing():
            writer.transport.abort()


async def _answer(doors: Mapping[str, Door], reader: asyncio.StreamReader) -> dict[str, Any]:
    try:
        async with asyncio.timeout(READ_SECONDS_MAX):
            line = await reader.readline()
    except TimeoutError:
        return _error(BadInput(f"no whole command came in {READ_SECONDS_MAX} seconds", "send one JSON line"))
    except ValueError:
        return _error(BadInput(f"a command of more than {LINE_BYTES_MAX} bytes", TOO_LONG[1]))
    try:
        asked = orjson.loads(line)
        door = doors[asked["op"]]
    except (ValueError, KeyError, TypeError):
        return _error(BadInput("the owner does not know this command", f"it knows: {', '.join(doors)}"))
    try:
        return await door(asked)
    except VoxmeterError as error:
        return _error(error)
    except Exception as error:  # noqa: BLE001  one command's failure, whatever it is, must not end the others' robot
        why = " ".join(f"{type(error).__name__}: {error}".split())
        return _error(VoxmeterError(f"the owner could not do it: {why}", "report this"))


def _error(error: VoxmeterError) -> dict[str, Any]:
    return {"error": {"code": error.code, "message": error.message, "todo": error.todo, "exit_status": error.exit_status}}


def session_named(name: object) -> str:
    """A session_id as the books take it. Raises BadInput for any other."""
    try:
        return NAME.validate_python(name, strict=True)
    except ValidationError as error:
        raise BadInput("the session_id is not a text of 1 to 200 characters", "give one that usage list shows") from error


async def _ask(app: App, one_at_a_time: asyncio.Lock, asked: dict[str, Any]) -> dict[str, Any]:
    session = session_named(asked["session_id"]) if "session_id" in asked else app.clock.new_id()
    pcm = _sound(asked.get("pcm"))
    frames = [pcm[at : at + FRAME_BYTES].ljust(FRAME_BYTES, b"\0") for at in range(0, len(pcm), FRAME_BYTES)]
    spoken: list[Speech] = []
    async with one_at_a_time:
        heard = await app.hear(frames, spoken.append, session)
    problems = []
    if sum(len(one.pcm) for one in spoken) > PCM_BYTES_MAX:
        spoken, problems = [], ["the spoken reply is too long to be handed over"]
    speech = [{"pcm": base64.b64encode(one.pcm).decode(), "rate_hz": one.rate_hz, "text": one.text} for one in spoken]
    return {"told": told(heard, app.books.card, reply_audio=None, problems=problems), "speech": speech}


def _sound(text: object) -> bytes:
    try:
        pcm = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError as error:
        raise BadInput("the sound is not base64", "send pcm: 16 kHz, mono, s16le") from error
    if not pcm or len(pcm) % 2:
        raise BadInput(f"{len(pcm)} bytes are no sound", "send pcm: 16 kHz, mono, s16le")
    return pcm


async def _forget(app: App, state: Path, one_at_a_time: asyncio.Lock, asked: dict[str, Any]) -> dict[str, Any]:
    session = session_named(asked.get("session_id"))
    async with one_at_a_time:  # a turn keeps its words over the same connection
        forgetting = asyncio.create_task(asyncio.to_thread(forgotten, state, app.clock, session, app.words))
        try:
            return {"told": {"forgotten": await asyncio.shield(forgetting)}}
        finally:
            await asyncio.wait([forgetting])  # stopped or not: the connection is closed next


def forgotten(state: Path, clock: Clock, session_id: str, words: Words | None = None) -> bool:
    """Forgets a session's words, kept now (`words`) or by an earlier run. False, and nothing is made, if there are none."""
    if words is not None:
        return words.forget(session_id)
    if not keeps_words(state):
        return False
    earlier = Words(state, clock)
    try:
        return earlier.forget(session_id)
    finally:
        earlier.close()


def keeps_words(state: Path) -> bool:
    """Whether a folder holds words, or keys of words, of any session."""
    return (state / TEXT_FILE).exists() or any((state / KEYS_FOLDER / WORDS_FOLDER).glob("*"))


async def answers(state: Path) -> bool:
    """Whether somebody takes commands in this folder."""
    try:
        with _near(state) as path:
            _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    return True


async def handed_over(state: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """What the owner answers. Raises LedgerBusy if it has no socket, and what the owner raised."""
    try:
        with _near(state) as path:
            reader, writer = await asyncio.open_unix_connection(path, limit=LINE_BYTES_MAX)
    except OSError as error:
        raise LedgerBusy(f"the ledger in {state} has another owner, which takes no commands", "wait until it has ended") from error
    try:
        writer.write(orjson.dumps(asked) + b"\n")
        await writer.drain()
        line = await reader.readline()
    except ConnectionError:
        line = b""
    except ValueError as error:
        raise BadInput(f"the owner's answer has more than {LINE_BYTES_MAX} bytes", "ask for less") from error
    finally:
        writer.close()
    if not line.endswith(b"\n"):
        raise LedgerBusy(f"the owner of the ledger in {state} went away in between", "try again")
    answer: dict[str, Any] = orjson.loads(line)
    if failed := answer.get("error"):
        refusal = VoxmeterError(failed["message"], failed["todo"])
        refusal.code, refusal.exit_status = failed["code"], failed["exit_status"]
        raise refusal
    return answer


def asking(frames: Iterable[bytes]) -> dict[str, Any]:
    """The command that asks, in a session of its own. Raises BadInput for more sound than a command can hold."""
    pcm = bytearray()
    for frame in frames:
        pcm += frame
        if len(pcm) > PCM_BYTES_MAX:
            raise BadInput(*TOO_LONG)
    return {"op": "ask", "pcm": base64.b64encode(pcm).decode()}


def speech_of(answer: dict[str, Any]) -> list[Speech]:
    """What was spoken, out of an answer."""
    return [Speech(base64.b64decode(one["pcm"]), one["rate_hz"], one["text"]) for one in answer["speech"]]


@contextlib.contextmanager
def _near(state: Path) -> Iterator[str]:
    """The socket's path by way of the folder's descriptor: a socket's own name may have only 107 bytes."""
    folder = os.open(state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET}"
    finally:
        os.close(folder)
