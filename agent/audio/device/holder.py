"""Keeps a device's stream open: opens it by name, opens it again after trouble, and tells each change in one line.

closed --open--> running --trouble--> closed, after a pause the list of devices is looked at, and again
running on another device, since the named one is not there --it is back--> running on it
"""

import asyncio
from collections.abc import Callable

from agent.audio.device.library import Library, Stream
from agent.audio.device.system import SoundSystem
from agent.audio.device.watch import Cure
from agent.audio.devices import CALLED, Device, Kind
from agent.clock import Clock
from agent.errors import MissingPart

RETURN_SECONDS = 60.0
"""While another device stands in, the named one is looked for this often; looking takes a child process half a second."""

Say = Callable[[str], None]


class Holder:
    """For one microphone or speaker. Implements User for the sound system."""

    def __init__(
        self,
        wanted: tuple[Kind, str],
        system: SoundSystem,
        clock: Clock,
        say: Say,
        cure: Cure,
        *,
        busy: Callable[[], bool],
        gone: Callable[[], None] = lambda: None,
    ) -> None:
        """`wanted` is what for and by which name; `gone` is called when the device fails or can't be opened, again with each try."""
        self._kind, self._name = wanted
        self._system = system
        self._clock = clock
        self._say = say
        self.busy = busy
        self._gone = gone
        self._cure = cure
        self.stream: Stream | None = None
        self.device = self._name or "default"
        self.why = "not opened yet"
        """Why there is no sound; empty while there is."""
        self.reopened = 0
        self.tries = 0
        """To open it, so far; grows for as long as it can't be."""
        self._opened_before = False
        self._in_doubt = False
        self._returned: asyncio.Task[bool] | None = None
        self._look_at = 0.0
        self._instead = False

    async def open(self, opening: Callable[[Library, Device], Stream]) -> Stream:
        """Returns when it runs, however long that takes."""
        while True:
            self.tries += 1
            try:
                if self._in_doubt:
                    await self._clock.sleep(self._cure.pause_s())
                    await self._system.renew(self)
                self.stream, found = await self._system.open(self, self._kind, self._name, opening)
            except MissingPart as error:
                self._in_doubt = True
                self._trouble(str(error))
                self._gone()
                continue
            self._tell_opened(found.device.name, instead=found.instead, rate_hz=self.stream.rate_hz)
            return self.stream

    async def rest(self, retires: Callable[[], bool]) -> None:
        """The stream does nothing until `wake`, if `retires` says so when it comes to that."""
        await self._system.rest(self, retires)

    async def wake(self) -> None:
        """The stream that rests goes on, or is dropped."""
        try:
            await self._system.wake(self)
        except MissingPart as error:
            await self.drop(error.message)

    def let_go(self) -> None:
        self.stream = None
        self._trouble("the list of devices is made anew")

    async def drop(self, why: str) -> None:
        """Closes a stream that is in trouble; the next `open` doubts what it knows of the devices."""
        self._trouble(why)
        self._in_doubt = True
        self.stream = None
        self._gone()
        await self._system.close(self)

    def _trouble(self, why: str) -> None:
        if why != self.why:
            self._say(f"{CALLED[self._kind]} {self.device}: {why}")
        self.why = why

    async def named_one_is_back(self) -> bool:
        """Asked regularly; answers at once. True once another device stands in and the named one has returned."""
        if self._returned is not None and self._returned.done():
            back, self._returned = self._returned.result(), None
            return back
        if self._returned is None and self._instead and self._clock.monotonic() >= self._look_at:
            self._look_at = self._clock.monotonic() + RETURN_SECONDS
            self._returned = asyncio.create_task(self._system.there(self._kind, self._name))
        return False

    async def aclose(self) -> None:
        if self._returned is not None:
            self._returned.cancel()
            self._returned = None
        self.stream = None
        await self._system.close(self)

    def _tell_opened(self, device: str, *, instead: bool, rate_hz: int) -> None:
        self.device, self._instead, self.why, self._in_doubt = device, instead, "", False
        self._look_at = self._clock.monotonic() + RETURN_SECONDS
        again = "again " if self._opened_before else ""
        missing = f", for there is no {self._name}" if instead else ""
        self._say(f"{CALLED[self._kind]} {device}: open {again}at {rate_hz} Hz{missing}")
        self.reopened += self._opened_before
        self._opened_before = True
