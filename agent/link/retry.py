"""Decides how long to wait before the next try: longer after each failure, by chance, so that robots don't return all at once."""

from agent.clock import Clock, seeded

FIRST_MS = 1_000
"""A lost packet or a restarted process is over by then."""

MOST_MS = 5 * 60_000
"""A backend that is back after hours is found within minutes, and a fleet that waits for it costs it little."""


class Backoff:
    """Full jitter: each wait is anywhere between 1 ms and a ceiling that doubles from `first_ms` up to `most_ms`."""

    def __init__(self, clock: Clock, first_ms: int = FIRST_MS, most_ms: int = MOST_MS) -> None:
        if not 0 < first_ms <= most_ms:
            raise ValueError(f"a back-off from {first_ms} to {most_ms} ms")
        self._chance = seeded(clock.seed())
        self._first_ms, self._most_ms = first_ms, most_ms
        self._ceiling_ms = first_ms

    def next_ms(self, at_least_ms: int = 0) -> int:
        """The wait before the next try. What the other side asked for comes first: it asked many at once."""
        wait_ms = self._chance.randint(1, self._ceiling_ms)
        self._ceiling_ms = min(self._ceiling_ms * 2, self._most_ms)
        return max(at_least_ms, 0) + wait_ms

    def reset(self) -> None:
        """It worked: the next failure is a first one again."""
        self._ceiling_ms = self._first_ms
