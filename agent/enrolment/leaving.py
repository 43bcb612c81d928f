"""Takes a robot out of service: its last records leave, the backend strikes it off, and nothing of it stays on the disk.

    (nothing) --the last records left--> drained --the backend says so--> struck-off --wiped, keys first--> (nothing, an empty folder)

A file says how far it is, so that after a power cut the same command goes on: once struck off, a robot can ask nobody anything.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.clock import Clock
from agent.errors import BadInput, NoLink, VoxmeterError
from agent.files import read_beginning, sync_folder, write_durably
from agent.link.account import StruckOff, leave
from agent.profile import Profile
from agent.store import trust
from agent.store.keys import KEYS_FOLDER, Keys, plainly
from agent.store.state import LOCK_FILE
from agent.store.waiting import waiting
from agent.upload import Say, asking, locked, now

LEAVING_FILE = "leaving"

DRAINED, STRUCK_OFF = b"drained\n", b"struck-off\n"

FORCE = "--force gives them up"


async def decommission(profile: Profile, state: Path, clock: Clock, say: Say, *, force: bool = False) -> dict[str, Any]:
    """`{device, lost, struck_off}`: records that no backend has, and whether the backend was told.

    With `force` neither records that can't be sent nor a backend that doesn't answer keeps it. Raises LedgerBusy while a service
    runs, NoLink or BadInput in one line, with nothing undone but what was sent.
    """
    if not await asyncio.to_thread(state.is_dir):
        raise BadInput(f"{state}: there is no robot here", "check --state-dir")
    mark, lost, told = state / LEAVING_FILE, 0, True
    known = _far(mark) != STRUCK_OFF and bool(trust.read(state).ack_keys)
    if known and _far(mark) == b"":
        await _drained(profile, state, clock, say, force=force)
    lock = locked(state)
    try:
        if _far(mark) != STRUCK_OFF:
            lost = _left(state, force=force)
            _keep(mark, DRAINED)
            told = known and await _struck_off(profile, state, clock, say, force=force)
            _keep(mark, STRUCK_OFF)
        with plainly(state):
            wipe(state)
    except (NoLink, BadInput):
        if _far(mark) == DRAINED:  # it goes on working, so it must be drained again
            mark.unlink()
        raise
    finally:
        lock.release()
    return {"device": f"{profile.device.tenant}/{profile.device.id}", "lost": lost, "struck_off": told}


def wipe(state: Path, gone: Callable[[Path], None] = lambda _: None) -> None:
    """Empties the folder, durably: keys first, then the rest, what says that it is leaving last. `gone` hears of each file."""
    found = [path for path in sorted(state.rglob("*")) if not path.is_dir() or path.is_symlink()]
    last = (state / LEAVING_FILE, state / LOCK_FILE)
    secret = [path for path in found if KEYS_FOLDER in path.relative_to(state).parts[:1]]
    for part in (secret, [path for path in found if path not in secret and path not in last], last):
        for path in part:
            path.unlink(missing_ok=True)
            gone(path)
        for folder in {path.parent for path in part if path.parent.is_dir()}:
            sync_folder(folder)
    for folder in sorted((path for path in state.rglob("*") if path.is_dir()), reverse=True):
        folder.rmdir()
    sync_folder(state)


def _far(mark: Path) -> bytes:
    with plainly(mark):
        found = read_beginning(mark, len(STRUCK_OFF))
    return found[0] if found else b""


def _keep(mark: Path, far: bytes) -> None:
    with plainly(mark):
        write_durably(mark, far)


async def _drained(profile: Profile, state: Path, clock: Clock, say: Say, *, force: bool) -> None:
    try:
        told = await now(profile, state, clock, say)
        problem = "" if told["drained"] else f"{told['waiting']['records']} records wait: {told['problem']}"
    except (NoLink, BadInput) as error:
        problem = str(error)
    if problem and not force:
        raise NoLink(problem, f"bring the robot to its network, and try again; {FORCE}")
    if problem:
        say(problem)


def _left(state: Path, *, force: bool) -> int:
    """Records nobody has; somebody may have spoken with it since it was drained."""
    try:
        left = int(waiting(state)["records"])
    except BadInput:  # no ledger
        return 0
    except VoxmeterError:
        if not force:
            raise
        return 0
    if left and not force:
        raise NoLink(f"{left} records wait on this robot and would be lost", f"send them first: voxmeter sync now; {FORCE}")
    return left


async def _struck_off(profile: Profile, state: Path, clock: Clock, say: Say, *, force: bool) -> bool:
    """Whether the backend knows it no more."""
    name = f"{profile.device.tenant}/{profile.device.id}"
    try:
        await leave(asking(profile, state, None, clock), Keys(state, clock).current)
    except StruckOff:
        return True
    except (NoLink, BadInput) as error:
        if not force:
            raise NoLink(error.message, "try again where the backend can be reached; --force leaves it to its operator") from error
        say(f"the backend still knows this robot: {error.message}; there: voxmeter billing revoke {name}")
        return False
    return True
