"""Whose conversation it is: a session ends with a farewell or in silence, and whoever speaks then begins another."""

from agent.clock import Clock
from agent.dialog.session import Session
from agent.dialog.wording.lists import Language


class Sessions:
    """One robot's, one after the other."""

    def __init__(self, clock: Clock, language: Language, silence_s: float) -> None:
        """`silence_s` ends a session."""
        self._clock = clock
        self._language: Language = language
        self._silence_s = silence_s
        self._quiet_since = self._calm_since = clock.monotonic()
        self.now = self._new()

    @property
    def calm_s(self) -> float:
        """Seconds since anybody has spoken, the robot included."""
        return self._clock.monotonic() - self._calm_since

    def fell_quiet(self, *, announced: bool) -> None:
        """Nobody has the floor from now on; `announced`: the robot had it with what nobody asked for, which ends no guest's silence."""
        self._calm_since = self._clock.monotonic()
        if not announced:
            self._quiet_since = self._calm_since

    def renew(self, *, quiet: bool = False) -> None:
        """Begins another where this one is over; `quiet`: nobody has the floor, or the robot with what nobody asked for."""
        silent = quiet and self._clock.monotonic() - self._quiet_since > self._silence_s
        if self.now.turns > 0 and (self.now.over or silent):
            self.now = self._new()

    def _new(self) -> Session:
        return Session(self._clock.new_id(), self._language)
