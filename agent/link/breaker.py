"""Decides whether something that keeps failing is to be asked at all.

    closed --failures_max in a row--> open --open_ms later--> half-open --it works--> closed
                                       ^-----------------------it fails---'

Half-open lets one through. If nobody says how that went (its task was cancelled), another may go after `open_ms`.
"""

from typing import Literal

from agent.clock import Clock

FAILURES_MAX = 3
"""One is chance, two are bad luck."""

OPEN_MS = 30_000
"""Long enough for a process to start again or a radio to find its network."""


class Breaker:
    """Counts failures in a row."""

    def __init__(self, clock: Clock, failures_max: int = FAILURES_MAX, open_ms: int = OPEN_MS) -> None:
        if failures_max < 1 or open_ms < 1:
            raise ValueError(f"a breaker of {failures_max} failures and {open_ms} ms")
        self._clock = clock
        self._failures_max, self._open_ms = failures_max, open_ms
        self._failures = 0
        self._shut_until = 0.0

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        if self._failures < self._failures_max:
            return "closed"
        return "open" if self._clock.monotonic() < self._shut_until else "half-open"

    def allows(self) -> bool:
        """Whether to try now. In half-open, True is said once: whoever asked is the one to try."""
        if self.state == "half-open":
            self._shut()
            return True
        return self.state == "closed"

    def ok(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        self._failures = min(self._failures + 1, self._failures_max)
        self._shut()

    def _shut(self) -> None:
        self._shut_until = self._clock.monotonic() + self._open_ms / 1000
