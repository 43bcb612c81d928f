"""Takes a robot out of service: its last words leave, the backend strikes it off, and nothing of it stays on the disk.

    (nothing) --records, events and results left--> drained --the backend says so--> struck-off --wiped, keys first--> (an empty folder)

A file says how far it is, so that after a power cut the same command goes on: once struck off, a robot can ask nobody anything.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.app import ledger_of
from agent.clock import Clock
from agent.contract import wire
from agent.contract.fleet import presence
from agent.contract.fleet.command import audience_of
from agent.contract.fleet.presence import ConnId, Presence
from agent.errors import BadInput, BadProfile, NoLink, VoxmeterError
from agent.files import read_beginning, sync_folder, write_durably
from agent.fleet.presence import GOODBYE_SECONDS
from agent.link.account import StruckOff, leave
from agent.ports import Poster
from agent.profile import Profile
from agent.store import starts, trust
from agent.store.keys import KEYS_FOLDER, Keys, plainly
from agent.store.ledger import SqliteLedger
from agent.store.state import LOCK_FILE
from agent.store.waiting import messages, waiting
from agent.sync.postman import Postman
from agent.upload import Say, asking, drained, locked, worker

LEAVING_FILE = "leaving"

DRAINED, STRUCK_OFF = b"drained\n", b"struck-off\n"

FORCE = "--force gives them up"

OUTBOX_S = 20.0
"""For events and results once all records are there, by the broker, and again by any other link."""

LOOK_S = 0.1


async def decommission(profile: Profile, state: Path, clock: Clock, say: Say, *, force: bool = False) -> dict[str, Any]:
    """`{device, lost, unsent, struck_off}`: records that no backend has, events and results that nobody took, whether the backend was told.

    With `force` neither what can't be sent nor a backend that doesn't answer keeps it. Raises LedgerBusy while a service
    runs, NoLink or BadInput in one line, with nothing undone but what was sent.
    """
    if not await asyncio.to_thread(state.is_dir):
        raise BadInput(f"{state}: there is no robot here", "check --state-dir")
    mark, lost, unsent, told = state / LEAVING_FILE, 0, 0, True
    known = _far(mark) != STRUCK_OFF and _registered(state, force=force)
    if known and _far(mark) == b"":
        await _drained(profile, state, clock, say, force=force)
    lock = locked(state)
    try:
        if _far(mark) != STRUCK_OFF:
            lost, unsent = _left(state, force=force)
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
    return {"device": f"{profile.device.tenant}/{profile.device.id}", "lost": lost, "unsent": unsent, "struck_off": told}


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


def _registered(state: Path, *, force: bool) -> bool:
    """Where it can't be read, `force` takes it for registered: what then can't be sent or told is said. Raises BadInput without."""
    try:
        return bool(trust.read(state).ack_keys)
    except BadInput:
        if not force:
            raise
        return True


def _far(mark: Path) -> bytes:
    with plainly(mark):
        found = read_beginning(mark, len(STRUCK_OFF))
    return found[0] if found else b""


def _keep(mark: Path, far: bytes) -> None:
    with plainly(mark):
        write_durably(mark, far)


async def _drained(profile: Profile, state: Path, clock: Clock, say: Say, *, force: bool) -> None:
    try:
        told = await _sent(profile, state, clock, say)
        problem = "" if told["drained"] else f"{told['waiting']['records']} records wait: {told['problem']}"
    except (NoLink, BadInput) as error:
        problem = str(error)
    if problem and not force:
        raise NoLink(problem, f"bring the robot to its network, and try again; {FORCE}")
    if problem:
        say(problem)


async def _sent(profile: Profile, state: Path, clock: Clock, say: Say) -> dict[str, Any]:
    """As `upload.now`; where all records are there, events and results go as well, and a word to those who watch."""
    ledger = ledger_of(profile, state, clock)
    try:
        async with worker(profile, state, ledger, clock, say) as carrying:
            if carrying is None:
                raise BadProfile("the profile names no backend", "add [sync.mqtt] or [sync.https] with host and port")
            told = await drained(carrying, state)
            posters = [link for link in carrying.links if isinstance(link, Poster)]
            if told["drained"] and not await _emptied(ledger, clock):  # the first is being tried by the worker's own postman
                more = [asyncio.ensure_future(Postman(ledger, link, clock, say).run()) for link in posters[1:]]
                await _emptied(ledger, clock)
                for task in more:
                    task.cancel()
                await asyncio.gather(*more, return_exceptions=True)
            if told["drained"] and posters:
                await _goodbye(profile, state, posters[0], clock)
            return told
    finally:
        await ledger.aclose()


async def _emptied(ledger: SqliteLedger, clock: Clock) -> bool:
    """Whether nothing waits in the outbox any more, within OUTBOX_S."""
    until = clock.monotonic() + OUTBOX_S
    while waits := await ledger.posted():
        if clock.monotonic() >= until:
            break
        await clock.sleep(LOOK_S)
    return not waits


async def _goodbye(profile: Profile, state: Path, link: Poster, clock: Clock) -> None:
    """What the broker keeps of a robot says that it is no more; a word that does not arrive changes nothing."""
    name = audience_of(profile.device.tenant, profile.device.id)
    last = ConnId(boot=starts.counted(state, clock), connect=0)
    with suppress(TimeoutError):
        async with asyncio.timeout(GOODBYE_SECONDS):
            body = presence.written(Presence(device=name, conn_id=last, online=False, why="decommissioned"))
            await link.post(wire.PRESENCE, body, retained=True)


def _left(state: Path, *, force: bool) -> tuple[int, int]:
    """(records nobody has, events and results nobody took); somebody may have spoken with it since it was drained."""
    try:
        records, unsent = int(waiting(state)["records"]), messages(state)
    except BadInput:  # no ledger
        return 0, 0
    except VoxmeterError:
        if not force:
            raise
        return 0, 0
    if records and not force:
        raise NoLink(f"{records} records wait on this robot and would be lost", f"send them first: voxmeter sync now; {FORCE}")
    if unsent and not force:
        raise NoLink(f"{unsent} events and results wait on this robot and would be lost", f"bring it to its network; {FORCE}")
    return records, unsent


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
