"""An event loop in which nobody waits: time jumps to whatever is due next, and the same beginning has the same end.

    ready work -> run it, at one and the same moment
    none       -> the clock jumps to the next timer
    no timer, or work without end at one moment -> an error, not a wait

There are no threads and no sockets: what is given to an executor is done at once, in order.
"""

import asyncio
import datetime
import selectors
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from agent.clock import FLOOR, ClockQuality, seeded

T = TypeVar("T")


STILL_MAX = 100_000
"""Rounds of ready work at one moment: so long a chain of wake-ups has no end."""


class Stalled(RuntimeError):
    """Time will never go on: everybody waits and no timer will wake anyone, or somebody is busy for ever."""


class _Jump(selectors.SelectSelector):
    """Watches nothing; instead of waiting, it moves the time."""

    now = 0.0
    _still = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stalled("nothing is due, and somebody still waits")
        self.now += max(timeout, 0)
        self._still = 0 if timeout > 0 else self._still + 1
        if self._still > STILL_MAX:
            self._still = 0
            raise Stalled(f"somebody is busy for ever at {self.now} s")
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Starts at 0 s."""

    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)
        self._clock_resolution = 1e-9  # timers this near are due together, whatever the sums' last digits

    def time(self) -> float:
        return self._jump.now

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> "asyncio.Future[T]":  # type: ignore[override]
        """Done when it returns; there is nobody to share the work with."""
        del executor
        done: asyncio.Future[T] = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as failure:  # noqa: BLE001  whoever waits gets it, as from a thread
            done.set_exception(failure)
        return done

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  asyncio names it
        """There is none."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs to the end in a loop of its own; what is still under way then is cancelled. Raises Stalled where there is no end."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class RobotClock:
    """One machine's clock in the shared loop: a boot of its own, a wall clock that may be wrong, leaps for all of it at once."""

    def __init__(self, seed: int, start: datetime.datetime = FLOOR, quality: ClockQuality = "ntp") -> None:
        self._loop = asyncio.get_running_loop()
        self._chance = seeded(seed)
        self._start = start
        self._step = datetime.timedelta()
        self._leapt = 0.0
        self.believed: ClockQuality = quality
        self.reboot()

    def reboot(self) -> None:
        """Power has been away: a new boot."""
        self._boot = self.new_epoch()
        self._booted = self._passed()

    def leap(self, seconds: float) -> None:
        """So much passes for this machine alone, timers aside."""
        self._leapt += seconds

    def step_wall(self, by: datetime.timedelta) -> None:
        """What a wrong battery or a hostile time server does."""
        self._step += by

    def attest(self, moment: datetime.datetime) -> None:
        """A signed word on the time, for a clock that is not synchronised."""
        if self.believed != "ntp":
            self._step, self.believed = moment - self._start - datetime.timedelta(seconds=self._passed()), "signed"

    def utc(self) -> datetime.datetime:
        return self._start + datetime.timedelta(seconds=self._passed()) + self._step

    def quality(self) -> ClockQuality:
        return self.believed

    def monotonic(self) -> float:
        return self._passed()

    def boottime_ms(self) -> int:
        return int((self._passed() - self._booted) * 1000)

    def boot_id(self) -> str:
        return self._boot

    async def sleep(self, seconds: float) -> None:
        await asyncio.tasks.sleep(seconds)

    def new_id(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    def new_epoch(self) -> str:
        return f"{self._chance.getrandbits(128):032x}"

    def seed(self) -> int:
        return self._chance.getrandbits(32)

    def secret(self, size: int) -> bytes:
        return self._chance.randbytes(size)

    def _passed(self) -> float:
        return self._loop.time() + self._leapt
