"""What commands do with a robot: one turn, wherever the books' owner is, or the service that owns them until it is stopped."""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import orjson

from agent import owner, upload
from agent import profile as profiles
from agent.app import App, opened, written
from agent.audio import wav
from agent.clock import Clock, SystemClock
from agent.door import Door
from agent.errors import BadInput, LedgerBusy, VoxmeterError
from agent.profile import Profile
from agent.store.state import Lock, state_folder
from agent.store.waiting import age_s, waiting
from agent.sync.worker import Worker
from agent.talking.attending import Attending
from agent.weights import catalog

TIDY_SECONDS = 600
"""Between two looks at what may be let go."""

CHECK_SECONDS = 24 * 3600
"""Between two full verifications: a quick start checks only the last links."""


Say = Callable[[str], None]
"""Takes one line for whoever watches the service."""


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


async def run(profile: str, state: Path | None, say: Say) -> None:
    """Owns the books and answers commands until cancelled; looks after the books when nothing else is to do."""
    folder = state_folder(state)
    async with contextlib.AsyncExitStack() as stack:
        held = profiles.load(profile)
        live = held.sound is not None
        app = await stack.enter_async_context(opened(held, folder, catalog.models_folder(), SystemClock(), live=live))
        carrying = await stack.enter_async_context(upload.worker(app.profile, folder, app.ledger, app.clock, say))
        attending = Attending(app, say) if live else None
        doors = _doors(app, carrying, attending, folder)
        await stack.enter_async_context(owner.serving(app, folder, doors, attending.asked if attending else None))
        say(f"ready: device {app.profile.device.id}, state {folder}")
        async with asyncio.TaskGroup() as idle:
            idle.create_task(again_and_again(app.ledger.tidy, TIDY_SECONDS, app.clock, say))
            idle.create_task(_checking(app, folder, say))
            if carrying is not None:
                idle.create_task(carrying.run())
            if attending is not None:
                idle.create_task(attending.run())


def _doors(app: App, carrying: Worker | None, attending: Attending | None, folder: Path) -> dict[str, Door]:
    async def sync_now(_: dict[str, Any]) -> dict[str, Any]:
        if carrying is None:
            raise BadInput(
                "this robot has no backend, or is not registered with it", "see [sync] in its profile, and voxmeter sync register"
            )
        return {"told": await upload.drained(carrying, folder)}

    async def status(_: dict[str, Any]) -> dict[str, Any]:
        told = await asyncio.to_thread(_status, app.profile, app.clock, folder)
        hearing = attending.health() if attending else None
        return {"told": told | {"running": True, "hearing": hearing, "sync": carrying.status() if carrying else None}}

    return {"sync now": sync_now, "status": status}


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
    """How the robot is, from its owner if one runs: `{device, running, hearing, waiting, oldest_s, sync, lease, clock}`."""
    folder = state_folder(state)
    if await owner.answers(folder):
        answer = await owner.handed_over(folder, {"op": "status"})
        told: dict[str, Any] = answer["told"]
        return told
    return _status(profiles.load(profile), SystemClock(), folder) | {"running": False, "sync": None}


def _status(profile: Profile, clock: Clock, folder: Path) -> dict[str, Any]:
    held = waiting(folder)
    return {
        "device": f"{profile.device.tenant}/{profile.device.id}",
        "hearing": None,
        "waiting": held,
        "oldest_s": age_s(held["oldest"], clock.utc()),
        "lease": None,
        "clock": {"time": clock.utc().isoformat(timespec="seconds"), "quality": clock.quality()},
    }


async def again_and_again(work: Callable[[], Awaitable[object]], pause_seconds: float, clock: Clock, say: Say) -> None:
    """Does it until cancelled. What fails is said in one line, and tried again after the pause: the robot goes on."""
    while True:
        try:
            await work()
        except (VoxmeterError, OSError) as error:
            say(f"the books: {' '.join(str(error).split())}")
        await clock.sleep(pause_seconds)


async def _checking(app: App, folder: Path, say: Say) -> None:
    doubted: set[str] = set()
    await app.clock.sleep(TIDY_SECONDS)  # not at once: a start is busy enough
    await again_and_again(lambda: _check(app, folder, say, doubted), CHECK_SECONDS, app.clock, say)


async def _check(app: App, folder: Path, say: Say, doubted: set[str]) -> None:
    """Verifies all of the books. What is not what was written is set aside, once, and salvaged as far as it goes."""
    verdict = await _verified(folder)
    if not verdict or verdict["whole"]:
        return
    say(f"the books: epoch {verdict['epoch']}: {verdict['problem']}")
    if verdict["salvageable"] and verdict["epoch"] not in doubted:
        doubted.add(verdict["epoch"])
        await app.ledger.doubt(verdict["epoch"])
    await app.ledger.salvage(app.books.cut_off)  # also what an earlier look set aside and could not finish


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
