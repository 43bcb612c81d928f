"""Runs a robot as a service: opens it, serves until something is asked, closes it; opens it again where that was asked.

    opening --ready--> serving --reopen--> closing --> opening        settings from afar are tried this way
                               --restart, stop, a signal--> closing --> the process ends

Closing takes STOP_SECONDS at the most. In order: no turn begins any more; turns under way settle, whose engines' children are killed
after WIND_UP_SECONDS; sound, socket and links are closed; the books last. Whoever hangs beyond that hangs in the system (a sound driver,
a disk), so the process is ended without it: the books are as of their last commit, and children die with their parent.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import owner, upload
from agent import profile as profiles
from agent.app import App, opened, stopped
from agent.clock import Clock, SystemClock
from agent.door import Door
from agent.errors import BadInput, LedgerBusy, VoxmeterError
from agent.notify import Notifier
from agent.service import caring
from agent.service.running import MakeSteers, Request, Running, Say, Steers, Unsteered
from agent.service.told import told_of
from agent.service.watch import Watchdog
from agent.store.state import state_folder
from agent.talking.attending import Attending
from agent.weights import catalog

STOP_SECONDS = 4.5
"""A machine that shuts down does not wait longer for anybody."""

WIND_UP_SECONDS = 1.5
"""An engine stops within one step, a token or a piece of sound; one that has not stopped by then is not waited for."""

BUSY_SECONDS = 30.0
"""Under systemd, whoever asks this robot one question just now is waited for; beyond that somebody else serves it."""

BUSY_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class House:
    """What stays the same through all openings."""

    profile: str
    folder: Path
    say: Say
    steers: Steers
    notifier: Notifier
    watchdog: Watchdog
    clock: Clock
    at_worst: Callable[[], None] | None


async def run(
    profile: str,
    state: Path | None,
    say: Say,
    *,
    grave: Say | None = None,
    steers: MakeSteers | None = None,
    notifier: Notifier | None = None,
    at_worst: Callable[[], None] | None = None,
) -> Request:
    """Owns the books and answers commands until cancelled, or until who steers it asks for its end: what they asked.

    `grave` takes the lines that somebody must act on. `at_worst` is called, from a thread, when closing takes longer than STOP_SECONDS;
    it ends the process.
    """
    folder, clock, told = state_folder(state), SystemClock(), notifier or Notifier()
    steering = steers(folder, clock, say) if steers is not None else Unsteered()
    house = House(profile, folder, say, steering, told, Watchdog(told, clock, grave or say), clock, at_worst)
    watching = asyncio.create_task(house.watchdog.run())
    try:
        while True:
            request = await _once(house)
            say(f"{request.kind}: {request.reason}")
            if request.kind != "reopen":
                return request
    finally:
        await stopped(watching)


async def _once(house: House) -> Request:
    """One opening, from its beginning to its end."""
    async with contextlib.AsyncExitStack() as stack:
        app = await _open(house, stack)
        carried = upload.worker(app.profile, house.folder, app.ledger, app.clock, house.say, steering=house.steers.steering(app))
        carrying = await stack.enter_async_context(carried)
        attending = Attending(app, house.say) if app.profile.sound is not None else None
        running = Running(app, carrying, attending, house.folder, house.say, house.watchdog.stuck)
        await stack.enter_async_context(_serving(running))
        await stack.enter_async_context(house.steers.steered(running))
        house.watchdog.opened(running)
        house.say(f"ready: device {app.profile.device.id}, state {house.folder}")
        house.notifier.status(f"serves as {app.profile.device.tenant}/{app.profile.device.id}")
        house.notifier.ready()
        return await _serve(house, running)


async def _open(house: House, stack: contextlib.AsyncExitStack) -> App:
    """With what lies over the profile; where that does not open, with what is laid over it then."""
    busy_until = house.clock.monotonic() + (BUSY_SECONDS if house.notifier.on else 0)
    while True:
        try:
            held = profiles.load(house.profile, await house.steers.beside())
            live = held.sound is not None
            return await stack.enter_async_context(opened(held, house.folder, catalog.models_folder(), house.clock, live=live))
        except LedgerBusy as error:
            if house.clock.monotonic() >= busy_until:
                raise
            house.notifier.status(str(error))
            await house.clock.sleep(BUSY_PAUSE_SECONDS)
        except VoxmeterError as error:
            if not await house.steers.failed(str(error)):
                raise


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
            request = await running.asking.wait()
        finally:
            _begin_to_close(house, running, for_good=request is None or request.kind != "reopen")
            await house.watchdog.closing()
        for task in tasks:
            task.cancel()
    return request


def _begin_to_close(house: House, running: Running, *, for_good: bool) -> None:
    for engine in running.app.engines.values():
        engine.wind_up(WIND_UP_SECONDS)
    if for_good:
        house.notifier.stopping()
        if house.at_worst is not None:
            timer = threading.Timer(STOP_SECONDS, house.at_worst)
            timer.daemon = True
            timer.start()


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
