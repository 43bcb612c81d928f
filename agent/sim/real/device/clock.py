"""The time of a robot's process: the machine's, hurried, with leaps and steps as ordered."""

import asyncio
import datetime
import selectors

from agent.clock import ClockQuality, SystemClock


class LeapingClock(SystemClock):
    """The machine's, hurried; whole days may pass at once. Each process is a boot."""

    def __init__(self, *, leapt_s: float = 0, stepped_s: float = 0, hurry: float = 1, quality: ClockQuality = "ntp") -> None:
        """Begins that far from the machine's time; `stepped_s` is of its wall clock alone."""
        super().__init__()
        self._boot_id = self.new_epoch()
        self._began = super().monotonic()
        self._hurry, self._quality = hurry, quality
        self._before_s, self._leapt_s, self._stepped_s = leapt_s, 0.0, stepped_s

    def leap(self, seconds: float) -> None:
        self._leapt_s += seconds

    @property
    def off_s(self) -> float:
        """By how much its wall clock is wrong."""
        return self._stepped_s

    def step(self, seconds: float) -> None:
        """Wall time alone."""
        self._stepped_s += seconds

    def attest(self, moment: datetime.datetime) -> None:
        """By a backend that lives by the machine's clock; how far this one leapt from that stays."""
        if self._quality != "ntp":
            self._stepped_s, self._quality = (moment - super().utc()).total_seconds(), "signed"

    def utc(self) -> datetime.datetime:
        return super().utc() + datetime.timedelta(seconds=self._before_s + self._leapt_s + self._stepped_s)

    def quality(self) -> ClockQuality:
        return self._quality

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
