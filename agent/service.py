"""What commands do with a robot: one turn, wherever the books' owner is, or the service that owns them until it is stopped."""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from agent import owner
from agent import profile as profiles
from agent.app import App, opened, written
from agent.audio import wav
from agent.clock import SystemClock
from agent.errors import LedgerBusy
from agent.store.state import Lock, state_folder
from agent.store.words import Words
from agent.weights import catalog

TIDY_SECONDS = 600
"""Between two looks at what may be let go."""

CHECK_SECONDS = 24 * 3600
"""Between two full verifications: a quick start checks only the last links."""


async def ask_once(file: Path, out: Path | None, profile: str, state: Path | None) -> dict[str, Any]:
    """One turn out of a WAV, by the service if one runs on this state. Both files are looked at before a model is loaded."""
    frames = wav.read(file)
    if out is not None:
        wav.check_writable(out)
    loaded = profiles.load(profile)
    folder = state_folder(state)
    try:
        async with opened(loaded, folder, catalog.models_folder(), SystemClock()) as app:
            return await app.ask(frames, out)
    except LedgerBusy:
        if not (folder / owner.SOCKET).exists():
            raise
        answer = await owner.handed_over(folder, owner.asking(frames, ""))
    audio, problems = written(owner.speech_of(answer), out)
    told: dict[str, Any] = answer["told"]
    return told | {"reply_audio": audio, "problems": told["problems"] + problems}


async def forget(session_id: str, state: Path | None) -> dict[str, Any]:
    """Destroys the key of a session's words, here or through the owner."""
    folder = state_folder(state)
    if not folder.is_dir():
        return {"forgotten": False}
    try:
        lock = Lock(folder)
    except LedgerBusy:
        answer = await owner.handed_over(folder, {"op": "privacy forget", "session_id": session_id})
        told: dict[str, Any] = answer["told"]
        return told
    words = Words(folder, SystemClock())
    try:
        return {"forgotten": words.forget(session_id)}
    finally:
        words.close()
        lock.release()


async def run(profile: str, state: Path | None, say: Callable[[str], None]) -> None:
    """Owns the books and answers commands until cancelled; looks after the books when nothing else is to do."""
    folder = state_folder(state)
    async with opened(profiles.load(profile), folder, catalog.models_folder(), SystemClock()) as app, owner.serving(app, folder):
        say(f"ready: device {app.profile.device.id}, state {folder}")
        async with asyncio.TaskGroup() as idle:
            idle.create_task(_tidying(app))
            idle.create_task(_checking(app, folder, say))


async def _tidying(app: App) -> None:
    while True:
        await app.ledger.tidy()
        await app.clock.sleep(TIDY_SECONDS)


async def _checking(app: App, folder: Path, say: Callable[[str], None]) -> None:
    """Verifies all of the books when idle. What is not what was written is set aside, once, and salvaged as far as it goes."""
    doubted: set[str] = set()
    while True:
        await app.clock.sleep(TIDY_SECONDS)
        verdict = await _verified(folder)
        if verdict and not verdict["whole"]:
            say(f"the books: epoch {verdict['epoch']}: {verdict['problem']}")
            if verdict["salvageable"] and verdict["epoch"] not in doubted:
                doubted.add(verdict["epoch"])
                await app.ledger.doubt(verdict["epoch"])
                await app.ledger.salvage(app.books.cut_off)
        await app.clock.sleep(CHECK_SECONDS)


async def _verified(folder: Path) -> dict[str, Any]:
    """What `usage verify` finds, in a process of its own at the lowest priority: a turn must not wait for it. Empty where it can't say."""
    command = ("nice", "-n", "19", sys.executable, "-P", "-m", "agent", "usage", "verify", "--json", "--state-dir", str(folder))
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        told, _ = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    try:
        found: dict[str, Any] = orjson.loads(told)
    except orjson.JSONDecodeError:
        return {}
    return found
