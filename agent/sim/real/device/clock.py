"""The time of a robot's process: the machine's, hurried, with leaps and steps as ordered."""

import asyncio
import datetime
import selectors

from agent.clock import ClockQuality, SystemClock
from agent.sim.real.device.settings import Settings


class LeapingClock(SystemClock):
    """The machine's, hurried; whole days may pass at once. Each process is a boot."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._boot_id = self.new_epoch()
        self._began = super().monotonic()
        self._hurry = settings.hurry
        self._before_s, self._leapt_s, self._stepped_s = settings.leapt_s, 0.0, settings.stepped_s

    def leap(self, seconds: float) -> None:
        self._leapt_s += seconds

    def step(self, seconds: float) -> None:
        """Wall time alone."""
        self._stepped_s += seconds

    def utc(self) -> datetime.datetime:
        return super().utc() + datetime.timedelta(seconds=self._before_s + self._leapt_s + self._stepped_s)

    def quality(self) -> ClockQuality:
        return "ntp"

    def monotonic(self) -> float:
        return (super().monotonic() - self._began) * self._hurry + self._leapt_s

    def boottime_ms(self) -> int:
        return int((super().monotonic() - self._began + self._leapt_s) * 1000)


class _Hurried(selectors.DefaultSelector):
    """Waits for a part of the time it is told to."""

    hurry = 1.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout if timeout is None else timeout / self.hurry)


class HurriedLoop(asyncio.SelectorEventLoop):
    """Its seconds are shorter: sleeps and time-outs end `hurry` times as soon."""

    def __init__(self, hurry: float) -> None:
        selector = _Hurried()
        self._hurry = selector.hurry = hurry
        super().__init__(selector)

    def time(self) -> float:
        return super().time() * self._hurry
