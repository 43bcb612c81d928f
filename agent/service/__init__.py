"""What commands do with a robot: one turn, wherever the books' owner is, or the service that owns them until it is stopped."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agent import owner, upload
from agent import profile as profiles
from agent.app import opened, written
from agent.audio import wav
from agent.clock import SystemClock
from agent.errors import LedgerBusy
from agent.service.caring import again_and_again
from agent.service.ending import Ending
from agent.service.loop import run
from agent.service.running import Request, Running, Say, Steers
from agent.service.told import told_of
from agent.store.state import Lock, state_folder
from agent.store.waiting import waiting
from agent.weights import catalog

__all__ = [
    "Ending",
    "Request",
    "Running",
    "Say",
    "Steers",
    "again_and_again",
    "ask_once",
    "forget",
    "register",
    "run",
    "status",
    "sync_now",
    "waiting_in",
]


async def ask_once(file: Path, out: Path | None, profile: str, state: Path | None) -> dict[str, Any]:
    """One turn out of a WAV, by the service if one runs on this state. Both files are looked at before a model is loaded."""
    frames = wav.read(file)
    if out is not None:
        wav.check_writable(out)
    folder = state_folder(state)
    if await owner.answers(folder):  # before profile and weights: beside a service nobody needs them here
        return await _asked_there(folder, frames, out)
    try:
        async with opened(profiles.load(profile), folder, catalog.models_folder(), SystemClock()) as app:
            return await app.ask(frames, out)
    except LedgerBusy:
        if not await owner.answers(folder):
            raise
        return await _asked_there(folder, frames, out)  # it was just starting


async def _asked_there(folder: Path, frames: Iterable[bytes], out: Path | None) -> dict[str, Any]:
    answer = await owner.handed_over(folder, owner.asking(frames))
    audio, problems = written(owner.speech_of(answer), out)
    told: dict[str, Any] = answer["told"]
    return told | {"reply_audio": audio, "problems": told["problems"] + problems}


async def forget(session_id: str, state: Path | None) -> dict[str, Any]:
    """Destroys the key of a session's words, here or through the owner."""
    folder, session = state_folder(state), owner.session_named(session_id)
    if await owner.answers(folder):
        answer = await owner.handed_over(folder, {"op": "privacy forget", "session_id": session})
        told: dict[str, Any] = answer["told"]
        return told
    if not owner.keeps_words(folder):
        return {"forgotten": False}
    lock = Lock(folder)
    try:
        return {"forgotten": owner.forgotten(folder, SystemClock(), session)}
    finally:
        lock.release()


async def sync_now(profile: str, state: Path | None, say: Say) -> dict[str, Any]:
    """Sends all that waits, through the owner if there is one."""
    folder = state_folder(state)
    if await owner.answers(folder):
        answer = await owner.handed_over(folder, {"op": "sync now"})
        told: dict[str, Any] = answer["told"]
        return told
    return await upload.now(profiles.load(profile), folder, SystemClock(), say)


async def register(profile: str, state: Path | None, token: str, authority: Path | None) -> dict[str, Any]:
    """Makes this robot known to its backend; a service must not run meanwhile, for it would not notice."""
    return await upload.register(profiles.load(profile), state_folder(state), token, authority, SystemClock())


def waiting_in(state: Path | None) -> dict[str, Any]:
    """What has not been acknowledged, whoever owns the books."""
    return waiting(state_folder(state))


async def status(profile: str, state: Path | None) -> dict[str, Any]:
    """How the robot is, from its owner if one runs: `{device, running, hearing, waiting, oldest_s, sync, trust, stuck, lease, clock}`."""
    folder = state_folder(state)
    if await owner.answers(folder):
        answer = await owner.handed_over(folder, {"op": "status"})
        told: dict[str, Any] = answer["told"]
        return told
    return told_of(profiles.load(profile), SystemClock(), folder)
