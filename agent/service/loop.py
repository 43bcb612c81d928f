"""Runs a robot as a service: opens it, serves until something is asked, closes it; opens it again where that was asked.

    opening --ready--> serving --reopen, nobody has the floor--> closing --> opening        settings from afar are tried this way
                               --restart, a signal--> closing --> the process ends
    any --a signal--> the process ends

Closing for good takes STOP_SECONDS (`ending`) at the most. In order: no turn begins any more; turns under way settle, whose engines'
children are killed after WIND_UP_SECONDS; sound, socket and links are closed; the books last. Whoever hangs beyond that hangs in the
system (a sound driver, a disk), so the process is ended without it: the books are as of their last commit, and children die with their
parent.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import owner, upload
from agent import profile as profiles
from agent.app import App, opened
from agent.clock import Clock, SystemClock
from agent.door import Door
from agent.errors import BadInput, BadProfile, LedgerBusy, VoxmeterError
from agent.notify import Notifier
from agent.service import caring
from agent.service.ending import Ending
from agent.service.running import MakeSteers, Request, Running, Say, Steers, Unsteered
from agent.service.told import told_of
from agent.service.watch import Watchdog
from agent.store.state import state_folder
from agent.sync.worker import Worker
from agent.talking.attending import Attending
from agent.tasks import stopped
from agent.weights import catalog

WIND_UP_SECONDS = 1.5
"""An engine stops within one step, a token or a piece of sound; one that has not stopped by then is not waited for."""

BUSY_PAUSE_SECONDS = 1.0
"""Between two looks at whether the books are free."""

BUSY_START_SECONDS = 30.0
"""So much longer than now may a start under systemd take, as long as it waits for the books."""

FLOOR_SECONDS_MAX = 300.0
"""Whoever has the floor is waited for before a robot is opened anew; one who has it for longer is a television."""

FLOOR_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class House:
    """What stays the same through all openings."""

    profile: str
    folder: Path
    say: Say
    grave: Say
    """Takes what somebody must act on."""
    steers: Steers
    notifier: Notifier
    watchdog: Watchdog
    clock: Clock
    ending: Ending | None


async def run(
    profile: str,
    state: Path | None,
    say: Say,
    *,
    grave: Say | None = None,
    steers: MakeSteers | None = None,
    notifier: Notifier | None = None,
    ending: Ending | None = None,
) -> Request:
    """Owns the books and answers commands until cancelled, or until who steers it asks for its end: what they asked.

    `grave` takes the lines that somebody must act on. `ending` holds it to its time, and is told of signals by whoever takes them.
    """
    folder, clock, told = state_folder(state), SystemClock(), notifier or Notifier()
    steering = steers(folder, clock, say) if steers is not None else Unsteered()
    house = House(profile, folder, say, grave or say, steering, told, Watchdog(told, clock, grave or say), clock, ending)
    watching = asyncio.create_task(house.watchdog.run())
    try:
        patient = told.on
        while True:
            request = await _once(house, patient)
            say(f"{request.kind}: {request.reason}")
            if request.kind != "reopen":
                return request
            if ending is not None and ending.stopped:  # whoever swallowed the cancellation, it was meant
                raise asyncio.CancelledError
            patient = True
    finally:
        await stopped(watching)


async def _once(house: House, patient: bool) -> Request:
    """One opening, from its beginning to its end. `patient`: whoever has the books for a while is waited for."""
    async with contextlib.AsyncExitStack() as stack:
        app = await _open(house, stack, patient)
        carrying = await _carried(house, stack, app)
        attending = Attending(app, house.say) if app.profile.sound is not None else None
        running = Running(app, carrying, attending, house.folder, house.say, house.watchdog.stuck)
        await stack.enter_async_context(_serving(running))
        await stack.enter_async_context(house.steers.steered(running))
        house.watchdog.opened(running)
        house.say(f"ready: device {app.profile.device.id}, state {house.folder}")
        house.notifier.status(f"serves as {app.profile.device.tenant}/{app.profile.device.id}")
        house.notifier.ready()
        return await _serve(house, running)


async def _carried(house: House, stack: contextlib.AsyncExitStack, app: App) -> Worker | None:
    """Damaged files of whom to believe, or of the certificate, cost a robot its links and not its voice: its records wait."""
    steering = house.steers.steering(app)
    carried = upload.worker(app.profile, house.folder, app.ledger, app.clock, house.say, steering=steering)
    try:
        return await stack.enter_async_context(carried)
    except BadProfile:
        raise
    except BadInput as error:
        house.grave(f"sync: nothing leaves this robot, its records stay here: {error}")
        return None


async def _open(house: House, stack: contextlib.AsyncExitStack, patient: bool) -> App:
    """With what lies over the profile; where that does not open, with what is laid over it then."""
    waiting = ""
    while True:
        try:
            held = profiles.load(house.profile, await house.steers.beside())
            live = held.sound is not None
            return await stack.enter_async_context(opened(held, house.folder, catalog.models_folder(), house.clock, live=live))
        except LedgerBusy as error:
            if not patient or await owner.answers(house.folder):  # only a service answers, and it would be waited for in vain
                raise
            if str(error) != waiting:
                waiting = str(error)
                house.say(f"waits: {error.message}")
            await _wait_for_books(house, error)
        except VoxmeterError as error:
            if not await house.steers.failed(str(error)):
                raise


async def _wait_for_books(house: House, error: LedgerBusy) -> None:
    house.notifier.status(f"waits: {error.message}")
    house.notifier.extend(BUSY_START_SECONDS)
    house.watchdog.waits()
    await house.clock.sleep(BUSY_PAUSE_SECONDS)


def _serving(running: Running) -> contextlib.AbstractAsyncContextManager[None]:
    attending = running.attending
    robot, forgot = (attending.asked, attending.forget) if attending is not None else (None, lambda _: None)
    return owner.serving(running.app, running.folder, _doors(running), robot, forgot)


async def _serve(house: House, running: Running) -> Request:
    """Until something is asked, or cancelled."""
    works = [caring.tidying(running.app, house.say), caring.checking(running.app, house.folder, house.say)]
    works += [one.run() for one in (running.carrying, running.attending) if one is not None]
    request: Request | None = None
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
        try:
            request = await _asked(running)
        finally:
            _begin_to_close(house, running, for_good=request is None or request.kind != "reopen")
            await house.watchdog.closing()
        for task in tasks:
            task.cancel()
    return request


async def _asked(running: Running) -> Request:
    """What is asked. To be opened anew waits for whoever has the floor, unless something graver is asked meanwhile."""
    request, clock = await running.asking.wait(), running.app.clock
    until = clock.monotonic() + FLOOR_SECONDS_MAX
    while request.kind == "reopen" and running.attending is not None and running.attending.busy and clock.monotonic() < until:
        await clock.sleep(FLOOR_POLL_SECONDS)
        request = await running.asking.wait()
    return request


def _begin_to_close(house: House, running: Running, *, for_good: bool) -> None:
    for engine in running.app.engines.values():
        engine.wind_up(WIND_UP_SECONDS)
    if for_good:
        house.notifier.stopping()
        if house.ending is not None:
            house.ending.close()


def _doors(running: Running) -> dict[str, Door]:
    app, carrying, attending = running.app, running.carrying, running.attending

    async def sync_now(_: dict[str, Any]) -> dict[str, Any]:
        if carrying is None:
            raise BadInput(
                "this robot has no backend, or is not registered with it", "see [sync] in its profile, and voxmeter sync register"
            )
        return {"told": await upload.drained(carrying, running.folder)}

    async def status(_: dict[str, Any]) -> dict[str, Any]:
        told = await asyncio.to_thread(told_of, app.profile, app.clock, running.folder)
        hearing = attending.health() if attending else None
        sync = carrying.status() if carrying else None
        return {"told": told | {"running": True, "hearing": hearing, "sync": sync, "stuck": running.stuck()}}

    return {"sync now": sync_now, "status": status}
