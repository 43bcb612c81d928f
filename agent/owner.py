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
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from agent import door
from agent.app import App
from agent.clock import Clock
from agent.contract.record import Name
from agent.dialog.telling import told
from agent.door import Door, Limits
from agent.errors import BadInput
from agent.store.keys import KEYS_FOLDER
from agent.store.words import TEXT_FILE, WORDS_FOLDER, Words
from agent.values import FRAME_SAMPLES, Speech

SOCKET = "agent.sock"

LINE_BYTES_MAX = 64 * 1024 * 1024
"""Some twenty minutes of sound; a longer question is none."""

PCM_BYTES_MAX = (LINE_BYTES_MAX - 64 * 1024) // 4 * 3
"""What base64 makes a line of, with room for the words around it."""

LIMITS = Limits(LINE_BYTES_MAX)

FRAME_BYTES = FRAME_SAMPLES * 2

NAME = TypeAdapter(Name)

TOO_LONG = (f"a question of more than {PCM_BYTES_MAX // 32_000 // 60} minutes", "send a shorter recording")

Robot = Callable[[], AbstractAsyncContextManager[App]]
"""Gives the robot for one turn."""


@contextlib.asynccontextmanager
async def serving(
    app: App,
    state: Path,
    more: Mapping[str, Door] | None = None,
    robot: Robot | None = None,
    forgot: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[None]:
    """Answers commands while it is open, one turn after the other. At its end a turn under way is stopped, and has settled.

    `more`: doors that need something besides the App. `robot` gives the App to ask, where others speak to it as well. `forgot` is told
    which session's words are no more: whoever still holds some lets them go.
    """
    one_at_a_time = asyncio.Lock()
    doors = {
        "ask": lambda asked: _ask(robot or (lambda: nullcontext(app)), one_at_a_time, asked),
        "privacy forget": lambda asked: _forget(app, state, forgot, asked),
    }
    async with door.answering(doors | dict(more or {}), state, SOCKET, LIMITS, who="the owner"):
        yield


def session_named(name: object) -> str:
    """A session_id as the books take it. Raises BadInput for any other."""
    try:
        return NAME.validate_python(name, strict=True)
    except ValidationError as error:
        raise BadInput("the session_id is not a text of 1 to 200 characters", "give one that usage list shows") from error


async def _ask(robot: Robot, one_at_a_time: asyncio.Lock, asked: dict[str, Any]) -> dict[str, Any]:
    named = session_named(asked["session_id"]) if "session_id" in asked else ""
    pcm = _sound(asked.get("pcm"))
    frames = [pcm[at : at + FRAME_BYTES].ljust(FRAME_BYTES, b"\0") for at in range(0, len(pcm), FRAME_BYTES)]
    spoken: list[Speech] = []
    async with one_at_a_time, robot() as app:
        heard = await app.hear(frames, spoken.append, named or app.clock.new_id())
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


async def _forget(app: App, state: Path, forgot: Callable[[str], None], asked: dict[str, Any]) -> dict[str, Any]:
    session = session_named(asked.get("session_id"))
    return {"told": {"forgotten": await forgetting(app, state, session, forgot)}}


async def forgetting(app: App, state: Path, session_id: str, forgot: Callable[[str], None]) -> bool:
    """`forgotten` for a robot that runs; `forgot` is told, whatever becomes of it."""
    async with app.one_at_a_time:  # a turn keeps its words over the same connection
        work = asyncio.create_task(asyncio.to_thread(forgotten, state, app.clock, session_id, app.words))
        try:
            return await asyncio.shield(work)
        finally:
            await asyncio.wait([work])  # stopped or not: the connection is closed next
            forgot(session_id)


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
    """Whether an owner takes commands in this folder."""
    return await door.answers(state, SOCKET)


async def handed_over(state: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the owner answers. Raises LedgerBusy if it takes no commands, and what the owner raised."""
    return await door.asked(state, SOCKET, asked, LIMITS, who="the owner of the ledger")


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
