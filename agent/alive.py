"""Decides whether a robot is alive from what its parts have done lately: pure. A part that is silent for too long is stuck.

    beat(part) --allowed silence--> stuck --beat--> alive again

Theory of operation. A process that runs says nothing: its microphone's loop, its conversation, the thread that writes the books or
the loop that sends them may each stand still for ever while the others go on. So each part has a sign of progress and a silence it is
allowed, longer than the longest wait it has by design. The watchdog is fed only while no part is stuck; systemd then ends the process.
A part that waits for something outside the robot (a device that is unplugged, a network that is down) makes progress as long as it
goes on looking: a robot must not be killed in circles for what a restart does not mend.
"""

from collections.abc import Mapping
from dataclasses import dataclass

CAPTURE_S = 45.0
"""The microphone's loop looks ten times a second; a conversation that failed is begun again after 30 s at the most."""

PIPELINE_S = 45.0
"""The conversation looks twice a second; its pause after a failure is the same."""

LEDGER_S = 60.0
"""A commit takes milliseconds, a tidying of a large ledger on a slow card some seconds."""

SYNC_S = 120.0
"""Its loop sleeps 30 s at the most, and waits for the ledger besides."""

SILENCES_S = {"capture": CAPTURE_S, "pipeline": PIPELINE_S, "ledger": LEDGER_S, "sync": SYNC_S}
"""The parts a whole robot has."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """A part that shows no progress."""

    part: str
    silent_s: float
    allowed_s: float

    def __str__(self) -> str:
        return f"{self.part} has stood still for {self.silent_s:.0f} s (allowed: {self.allowed_s:.0f} s)"


class Vitals:
    """When each part was last seen to make progress."""

    def __init__(self, silences_s: Mapping[str, float], now: float) -> None:
        """The parts this robot has, and how long each may be silent; `now` in seconds of a monotonic clock, as everywhere here."""
        self._silences_s = dict(silences_s)
        self._beats = dict.fromkeys(silences_s, now)
        self._signs: dict[str, object] = {}

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self._silences_s)

    def beat(self, part: str, now: float) -> None:
        """It has made progress. Raises KeyError for a part this robot has not."""
        self._beats[part] = max(self._beats[part], now)

    def saw(self, part: str, sign: object, now: float) -> None:
        """A sign of a part, such as a count: progress where it differs from the one before."""
        if part not in self._signs or self._signs[part] != sign:
            self.beat(part, now)
        self._signs[part] = sign

    def stuck(self, now: float) -> list[Stuck]:
        """Parts that have been silent for longer than they may, the longest overdue first."""
        silent = ((part, now - beat) for part, beat in self._beats.items())
        late = [Stuck(part, silent_s, self._silences_s[part]) for part, silent_s in silent if silent_s > self._silences_s[part]]
        return sorted(late, key=lambda one: one.allowed_s - one.silent_s)

    def due(self, now: float) -> bool:
        """The watchdog is to be fed: every part makes progress."""
        return not self.stuck(now)
