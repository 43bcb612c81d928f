"""The sound system of this process: who has which stream open, and when the list of devices may be made anew.

PortAudio sees devices come and go only when it is initialised again, and that is only allowed while no stream is open. So whoever
lost its device asks here before each try: with nothing else open the list is made anew at once; with a healthy stream beside it, a
child process looks first, and only when there is something new does the other let go of its stream for a moment, as soon as it is idle.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

from agent.audio.device.library import Library, Stream
from agent.audio.devices import Device, Found, Kind, find
from agent.clock import Clock
from agent.errors import MissingPart
from agent.tasks import to_its_end

IDLE_SECONDS_MAX = 10.0
"""A healthy stream is interrupted in the middle when the other has waited for so long."""

POLL_SECONDS = 0.1


class User(Protocol):
    """Has at most one stream open."""

    def busy(self) -> bool:
        """A short interruption would be noticed now."""
        ...

    def let_go(self) -> None:
        """Its stream is about to be closed, for no fault of its own."""
        ...


class SoundSystem:
    """One for the microphone and the speaker of a process."""

    def __init__(self, library: Library, clock: Clock) -> None:
        self._library = library
        self._clock = clock
        self._lock = asyncio.Lock()
        self._streams: dict[User, Stream] = {}
        self._seen: set[str] | None = None

    async def open(self, user: User, kind: Kind, name: str, opening: Callable[[Library, Device], Stream]) -> tuple[Stream, Found]:
        """Opens the device that the name means. Raises MissingPart where there is none, or it can't be opened."""

        def opened() -> tuple[Stream, Found]:
            found = find(self._library.devices(), name, kind)
            return opening(self._library, found.device), found

        async with self._lock:
            under_way = asyncio.ensure_future(asyncio.to_thread(opened))
            try:
                stream, found = await asyncio.shield(under_way)
            except asyncio.CancelledError:
                with contextlib.suppress(MissingPart):
                    (await under_way)[0].close()  # it can't be stopped, and nobody else will close it
                raise
            self._streams[user] = stream
            return stream, found

    async def close(self, user: User) -> None:
        """Closes its stream, if it has one."""
        async with self._lock:
            if stream := self._streams.pop(user, None):
                await to_its_end(stream.close)

    async def rest(self, user: User, retires: Callable[[], bool]) -> None:
        """Its stream, if it has one, does nothing until `wake`; `retires` is asked just before, when nobody else is waited for."""
        async with self._lock:
            if (stream := self._streams.get(user)) and retires():
                await to_its_end(stream.rest)

    async def wake(self, user: User) -> None:
        """It goes on. Raises MissingPart where it does not."""
        async with self._lock:
            if stream := self._streams.get(user):
                await to_its_end(stream.wake)

    async def renew(self, user: User) -> None:
        """Makes sure that a device which has come meanwhile is found. Raises MissingPart where the sound system does not answer."""
        if self._others(user):
            if not await self._something_new():
                return
            await self._until_idle(user)
        async with self._lock:
            for other in [*self._others(user), user]:
                if stream := self._streams.pop(other, None):
                    other.let_go()
                    await to_its_end(stream.close)
            await to_its_end(self._library.renew)
            self._seen = None

    async def there(self, kind: Kind, name: str) -> bool:
        """Whether the device of that name, and no other instead of it, could be opened after a `renew`."""
        try:
            return not find(await asyncio.to_thread(self._library.look), name, kind).instead
        except MissingPart:
            return False

    async def _something_new(self) -> bool:
        """A name that is not on the list, or was away when last looked at: one that merely is missing may be in use."""
        seen = {device.name for device in await asyncio.to_thread(self._library.look)}  # it takes long, and who is waked must not wait
        async with self._lock:
            listed = {device.name for device in await to_its_end(self._library.devices)}
        before, self._seen = self._seen, seen
        return not seen <= (listed if before is None else listed & before)

    def _others(self, user: User) -> list[User]:
        return [other for other in self._streams if other is not user]

    async def _until_idle(self, user: User) -> None:
        waited = 0.0
        while waited < IDLE_SECONDS_MAX and any(other.busy() for other in self._others(user)):
            await self._clock.sleep(POLL_SECONDS)
            waited += POLL_SECONDS
