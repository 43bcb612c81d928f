"""Decides whether one more is within a rate: so many a second on average, so many at once.

Kept as the moment at which the bucket is full again, in whole microseconds, so that nothing has to be filled as time passes.
"""

import math

from agent.clock import Clock

MICROSECONDS = 1_000_000


class Bucket:
    """Holds `burst` tokens and gains `per_second`."""

    def __init__(self, clock: Clock, per_second: float, burst: int) -> None:
        if not 0 < per_second <= MICROSECONDS or burst < 1:
            raise ValueError(f"a bucket of {burst} that gains {per_second} a second")
        self._clock = clock
        self._each_us = math.ceil(MICROSECONDS / per_second)
        self._room_us = (burst - 1) * self._each_us
        """How far from full a bucket may be and still hold one token."""
        self._full_at_us = self._now_us()

    @property
    def full(self) -> bool:
        """Nothing was taken for so long that a new bucket would be the same."""
        return self._full_at_us <= self._now_us()

    def take(self) -> bool:
        """Takes a token, if there is one."""
        now_us = self._now_us()
        if self._full_at_us - now_us > self._room_us:
            return False
        self._full_at_us = max(self._full_at_us, now_us) + self._each_us
        return True

    def wait_ms(self) -> int:
        """After so long there is a token, if nobody else takes it; 0: now."""
        short_us = self._full_at_us - self._now_us() - self._room_us
        return short_us // 1000 + 1 if short_us > 0 else 0

    def _now_us(self) -> int:
        return round(self._clock.monotonic() * MICROSECONDS)
