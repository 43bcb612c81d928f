"""Decides whether a robot has been silent for too long, by how long it usually is. Pure.

A robot that is switched off every night is silent for ten hours and nothing is wrong with it. So what is remembered of each is the
longest silence that was usual lately: a longer one takes its place at once, and without any it halves in a week.
"""

import datetime
from dataclasses import dataclass

USUAL_S_MIN = 3600
"""Taken for usual of a robot nobody knows yet: a link that is away for an hour is no alarm."""

HALF_S = 7 * 24 * 3600
"""A silence stays usual over a week, so that weekends are; after it counts half, after two a quarter."""

TIMES = 3
"""So many usual silences are an unusual one."""

ALARM_S_MAX = 30 * 24 * 3600
"""Whatever is usual: a month is too long."""


@dataclass(frozen=True, slots=True)
class Habit:
    """When a robot was heard last, and how long it is usually silent, in seconds."""

    heard: datetime.datetime
    span_s: int = USUAL_S_MIN

    def again(self, now: datetime.datetime) -> "Habit":
        """It is heard now."""
        gap_s = max(0.0, (now - self.heard).total_seconds())
        lately = self.span_s * 0.5 ** (gap_s / HALF_S)
        return Habit(max(now, self.heard), round(max(gap_s, lately, USUAL_S_MIN)))

    @property
    def patience_s(self) -> int:
        """A longer silence is an alarm."""
        return min(max(self.span_s, USUAL_S_MIN) * TIMES, ALARM_S_MAX)

    def silent(self, now: datetime.datetime, listening_since: datetime.datetime) -> bool:
        """Whether it is an alarm now; nobody is silent while nobody listens."""
        return (now - max(self.heard, listening_since)).total_seconds() > self.patience_s
