"""Decides what the robot leaves undone when the machine can't keep up: pure, the cheapest loss first, taken back one by one.

    0  all is done
    1  no partial transcripts while the customer speaks
    2  no end-of-turn model, nor the language model in its place: a fixed silence ends the turn
    3  no answers begun in lulls
    4  kept phrases instead of the language model

Sound is never dropped to save work, and what was begun is finished.
"""

import math

NO_VERDICTS, NO_SPECULATION, NO_MODEL = 2, 3, 4

LEVEL_MAX = NO_MODEL

BEHIND_MS = 200
"""Frames this old mean that hearing waits for something: a lull is noticed too late by as much."""

WELL_MS = 64
"""Two frames: as good as in time."""

LOOKS_TO_RECOVER = 10
"""Good looks in a row before one thing is done again: several seconds, so that a robot does not swing."""


class Lag:
    """The oldest frame since it was last taken. Sound that came while nobody had the floor lay there by agreement, and does not count."""

    def __init__(self) -> None:
        self._most_ms = 0.0
        self._attending_since = math.inf

    def attend(self, now: float, *, idle: bool) -> None:
        """The floor has changed; `idle`: nobody has it."""
        self._attending_since = math.inf if idle else min(self._attending_since, now)

    def note(self, lag_ms: float, now: float) -> None:
        """A frame was heard that old."""
        if now - lag_ms / 1000 > self._attending_since:
            self._most_ms = max(self._most_ms, lag_ms)

    def taken(self) -> float:
        most_ms, self._most_ms = self._most_ms, 0.0
        return most_ms


class Load:
    """Looks at how far the robot is behind, some times a second."""

    def __init__(self) -> None:
        self.level = 0
        self._good = 0
        self._gaps = 0

    def look(self, lag_ms: float, gaps: int) -> int:
        """The level from now on. `lag_ms`: the oldest frame since the last look; `gaps`: silences inside replies so far."""
        gapped, self._gaps = gaps > self._gaps, gaps
        if lag_ms > BEHIND_MS or gapped:
            self.level, self._good = min(self.level + 1, LEVEL_MAX), 0
        elif lag_ms <= WELL_MS and self.level:
            self._good += 1
            if self._good >= LOOKS_TO_RECOVER:
                self.level, self._good = self.level - 1, 0
        else:
            self._good = 0
        return self.level
