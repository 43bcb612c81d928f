"""Drives `alive`: gathers each part's sign of progress, feeds systemd's watchdog while all show one, ends an engine that hangs.

A child that hangs costs a turn and not the robot: it is killed, long before the watchdog would end everything. Only where a part stands
still for which there is no such remedy does the watchdog go hungry, and the journal says which part it was.
"""

import asyncio
import contextlib

from agent.alive import SILENCES_S, Stuck, Vitals
from agent.app import App
from agent.clock import Clock
from agent.notify import Notifier
from agent.service.running import Running, Say

LOOK_SECONDS = 5.0
"""Between two looks; a sixth of the unit's WatchdogSec."""

HUNG_SECONDS = 30.0
"""An engine that owes a word for so long hangs: the longest prompt is read within 20 s on the slowest board."""

BLIND_SECONDS_MAX = 90.0
"""While a robot is closed and opened again nobody can say how its parts are; engines give up loading after 60 s."""


class Watchdog:
    """Of one process, through all openings of its robot."""

    def __init__(self, notifier: Notifier, clock: Clock, say: Say) -> None:
        """`say` takes what somebody must act on."""
        self._notifier, self._clock, self._say = notifier, clock, say
        self._running: Running | None = None
        self._blind_since = clock.monotonic()
        self._vitals = Vitals({}, self._blind_since)
        self._asked: asyncio.Task[None] | None = None
        self._told: set[str] = set()

    def opened(self, running: Running) -> None:
        """From now on its parts must show progress."""
        has = {"capture": running.attending, "pipeline": running.app, "ledger": running.app, "sync": running.carrying}
        silences_s = {part: silence_s for part, silence_s in SILENCES_S.items() if has[part] is not None}
        self._vitals, self._running = Vitals(silences_s, self._clock.monotonic()), running

    def waits(self) -> None:
        """It is not opened yet because somebody has the books: that is nobody's standing still."""
        self._blind_since = self._clock.monotonic()

    async def closing(self) -> None:
        """Nobody can say how its parts are until it is open again."""
        self._running, self._blind_since = None, self._clock.monotonic()
        self._vitals, self._told = Vitals({}, self._blind_since), set()
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)

    def stuck(self) -> list[str]:
        """Parts that stand still, a line each."""
        return [str(one) for one in self._vitals.stuck(self._clock.monotonic())]

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._look()
            await self._clock.sleep(min(LOOK_SECONDS, self._notifier.watchdog_s / 4 or LOOK_SECONDS))

    def _look(self) -> None:
        now = self._clock.monotonic()
        if self._running is not None:
            self._gather(self._running, now)
        elif now - self._blind_since > BLIND_SECONDS_MAX:
            return
        if self._vitals.due(now):
            self._notifier.alive()
        self._tell(self._vitals.stuck(now))

    def _gather(self, running: Running, now: float) -> None:
        capture, pipeline = running.attending.signs() if running.attending is not None else (None, now)
        if running.attending is not None:
            self._vitals.saw("capture", capture, now)
        if not self._end_hanging(running.app):
            self._vitals.saw("pipeline", pipeline, now)
        if running.carrying is not None:
            self._vitals.saw("sync", running.carrying.steps, now)
        self._ask_ledger(running.app, now)

    def _end_hanging(self, app: App) -> bool:
        """Ends engines that owe a word for too long; whether there was any."""
        hanging = [(part, engine) for part, engine in app.engines.items() if engine.silent_s > HUNG_SECONDS]
        for part, engine in hanging:
            self._say(f"{part}: {engine.name} has not answered for {engine.silent_s:.0f} s; it is ended and started again")
            engine.kill()
        return bool(hanging)

    def _ask_ledger(self, app: App, now: float) -> None:
        """Whatever it answers, a full disk included, its thread lives."""
        if self._asked is not None and self._asked.done():
            self._vitals.beat("ledger", now)
            with contextlib.suppress(asyncio.CancelledError):
                _ = self._asked.exception()  # what a disk refuses is said by whoever needs it
            self._asked = None
        if self._asked is None:
            self._asked = asyncio.create_task(app.ledger.beat())

    def _tell(self, stuck: list[Stuck]) -> None:
        for one in stuck:
            if one.part not in self._told:
                self._say(f"stuck: {one}; the watchdog is not fed any more")
                self._notifier.status(f"stuck: {one}")
        for part in self._told - {one.part for one in stuck}:
            self._say(f"{part} goes on")
        self._told = {one.part for one in stuck}
