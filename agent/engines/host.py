"""Runs an engine in a child process and gives it the port's face; a crash fails the call and the engine is started again.

    starting --ready--> idle --open--> busy --end, failed--> idle
    any --the child is gone--> starting, at once if it had served a call, else after a pause that doubles
    idle, its child has grown --> a successor loads beside it --ready, and idle--> the successor serves, the old child ends

The call that was under way at a death raises EngineFailed with how the child died; its usage stands as last reported. A call
begun meanwhile waits for the new child, or fails at once when the last start did. A succession delays no call and loses none.
"""

import asyncio
from typing import Any, Generic, TypeVar

from agent.clock import Clock
from agent.engines.call import HostedCall
from agent.engines.life import Life, born
from agent.engines.wire import Frame
from agent.errors import EngineFailed
from agent.ports import EngineSettings
from agent.tasks import stopped

In = TypeVar("In")
Out = TypeVar("Out")

RESTART_SECONDS_MAX = 30
"""The pause before a restart doubles up to this while an engine keeps dying."""

RESTART_SECONDS_FIRST = 0.5

ANSWERS_EACH = ("vad", "embed")
"""By what an engine implements: each item has its answer, and a call goes on for as long as the robot does."""

GROWN_MB = 160
"""Beyond what a healthy engine may still come to hold after its first call: the language model's cache and vocabulary, 125 MB."""


class Hosted(Generic[In, Out]):
    """An engine in its own process, seen as the port Engine."""

    def __init__(self, settings: EngineSettings, clock: Clock) -> None:
        self.name = settings.engine
        self.model = settings.model
        self._settings = settings
        self._clock = clock
        self._settled = asyncio.Event()  # a start has ended, well or badly
        self._failure: EngineFailed | None = None  # of the last start
        self._calls = 0
        self._served = False  # the child that lives now has given something
        self._call: HostedCall[In, Out] | None = None
        self._rested = asyncio.Event()  # a call has ended
        self._grown_mb_max: float = GROWN_MB
        self._life: Life | None = None
        self._heir: Life | None = None  # ready to succeed when no call is under way
        self._relieved: set[asyncio.Task[str]] = set()  # the ends of children whose successors serve
        self._task: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._spoke_at = clock.monotonic()  # the child last said something, or was first told something after that
        self._told = False  # it was told something after it last spoke

    @property
    def problem(self) -> str:
        """Why it does not work, as far as the last start tells; empty: it does, or is being started."""
        return str(self._failure) if self._failure is not None else ""

    @property
    def silent_s(self) -> float:
        """For how long the child has owed the call under way a word; 0 while it owes none."""
        owes = self._call is not None and self._call.owed and self._life is not None
        return self._clock.monotonic() - self._spoke_at if owes else 0.0

    @property
    def process_id(self) -> int:
        """Of the child that serves; 0 while there is none."""
        return self._life.process_id if self._life is not None else 0

    async def start(self) -> None:
        """Returns when the engine has loaded its model. Raises EngineFailed when it can't."""
        self.launch()
        await self.ready()

    def launch(self) -> None:
        """Begins to start it; calls wait until it is ready."""
        self._task = asyncio.create_task(self._keep(), name=f"host of {self.name}")

    async def ready(self) -> None:
        """Returns when a start has ended well. Raises EngineFailed when the last one did not."""
        await self._settled.wait()
        if self._failure is not None:
            raise self._failure

    def recycle_above(self, grown_mb: float) -> None:
        """A child that has grown by more than this since its first call gets a successor; `math.inf`: never."""
        self._grown_mb_max = grown_mb

    def open(self) -> HostedCall[In, Out]:
        self._calls += 1
        return HostedCall(self, self._calls, answers_each=self.name.startswith(ANSWERS_EACH))

    def wind_up(self, seconds: float) -> None:
        """Nobody needs it any more: a call that has not ended in so many seconds ends with its child, and no other child is started."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end_late(seconds))

    async def _end_late(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        if self._call is not None and not self._call.ended:
            self.kill()

    async def aclose(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
        try:
            if self._task is not None:
                await stopped(self._task)
        finally:
            if self._life is not None:
                await _killed(self._life)
                self._life = None
            await asyncio.gather(*self._relieved)

    def kill(self) -> None:
        """Ends a child that hangs; what follows is what follows any death."""
        if self._life is not None:
            self._life.kill()

    async def begin(self, call: HostedCall[In, Out]) -> None:
        """Makes this the engine's call; the one before it, if still under way, is cancelled by the child."""
        await self.ready()
        before, self._call = self._call, call
        if before is not None and before is not call:
            before.supersede(EngineFailed(f"{self.name} has moved on to another call"))
        await self.write(("open", call.number))

    async def write(self, frame: Frame) -> None:
        if self._life is not None:
            if not self._told:
                self._told, self._spoke_at = True, self._clock.monotonic()
            await self._life.write(frame)

    async def _keep(self) -> None:
        """Keeps a child alive until cancelled."""
        pause = RESTART_SECONDS_FIRST
        while True:
            self._served = False
            try:
                await self._live_once()
            except EngineFailed as failure:
                await self._failed_to_live(failure)
            except Exception as error:  # noqa: BLE001  no process, no descriptor, no memory: whatever it is, it is tried again
                await self._failed_to_live(EngineFailed(f"{self.name} can't be started: {error}", "run: voxmeter doctor"))
            if self._ending is not None:
                await self._failed_to_live(EngineFailed(f"{self.name} is being stopped"))
                return
            if self._served:
                pause = RESTART_SECONDS_FIRST
            else:
                await self._clock.sleep(pause)
                pause = min(pause * 2, RESTART_SECONDS_MAX)

    async def _failed_to_live(self, failure: EngineFailed) -> None:
        self._failure = failure
        self._settled.set()
        if self._call is not None:
            await self._call.end(failure)

    async def _live_once(self) -> None:
        """From the birth of a child to its death, or that of its last successor."""
        life: Life | None = await self._raised()
        self._life, self._failure, self._told = life, None, False
        self._settled.set()
        while life is not None:
            life = await self._serve(life)

    async def _raised(self) -> Life:
        """A child that is ready. Raises EngineFailed."""
        life = await born(self._settings)
        try:
            await life.ready()
        except EngineFailed:
            await life.end()
            raise
        except BaseException:
            await _killed(life)  # one that is still loading would not notice its socket closing
            raise
        return life

    async def _serve(self, life: Life) -> Life | None:
        """Relays until the child is gone, or its successor serves: that one."""
        relaying = asyncio.create_task(self._relay(life))
        relieving = asyncio.create_task(self._relieve(life))
        try:
            await asyncio.wait({relaying, relieving}, return_when=asyncio.FIRST_COMPLETED)
            if self._life is not life:
                self._end_aside(life)
                return self._life
            await self._bury(life)
            relaying.result()
        finally:
            relaying.cancel()
            relieving.cancel()
            await asyncio.gather(relaying, relieving, return_exceptions=True)
        return None

    async def _bury(self, life: Life) -> None:
        self._settled.clear()
        self._life = None
        ending = await life.end()
        if self._call is not None:
            await self._call.end(EngineFailed(f"{self.name} {ending} in mid-turn", "it is being started again"))

    def _end_aside(self, life: Life) -> None:
        ending = asyncio.create_task(life.end())
        self._relieved.add(ending)
        ending.add_done_callback(self._relieved.discard)

    async def _relay(self, life: Life) -> None:
        while (frame := await life.next()) is not None:
            self._served, self._told, self._spoke_at = True, False, self._clock.monotonic()
            if self._call is not None and frame[1] == self._call.number:
                await self._call.take(frame)
                if self._call.ended:
                    self._rest()

    def _rest(self) -> None:
        """A call has ended; before whoever waits for that can begin another, a successor that is ready takes over."""
        self._rested.set()
        if self._heir is not None:
            self._life, self._heir = self._heir, None

    async def _relieve(self, life: Life) -> None:
        """Waits until a child has grown, and returns when its successor serves."""
        await self._overgrown(life)
        while (heir := await self._successor()) is None:
            await self._clock.sleep(RESTART_SECONDS_MAX)
        self._heir = heir
        if self._call is None or self._call.ended:
            self._rest()
        try:
            while self._life is life:
                self._rested.clear()
                await self._rested.wait()
        finally:
            if self._heir is not None:
                self._heir = None
                await _killed(heir)

    async def _overgrown(self, life: Life) -> None:
        first_mb = 0.0
        while True:
            self._rested.clear()
            await self._rested.wait()
            held_mb = await asyncio.to_thread(life.pss_mb)
            first_mb = first_mb or held_mb
            if held_mb - first_mb > self._grown_mb_max:
                return

    async def _successor(self) -> Life | None:
        """None where no other child can be had now; the old one still serves."""
        try:
            return await self._raised()
        except (EngineFailed, OSError):
            return None


async def _killed(life: Life) -> None:
    life.kill()
    await life.end()


async def start(settings: EngineSettings, clock: Clock) -> Hosted[Any, Any]:
    """Starts an engine of the registry."""
    host: Hosted[Any, Any] = Hosted(settings, clock)
    try:
        await host.start()
    except BaseException:
        await host.aclose()
        raise
    return host
