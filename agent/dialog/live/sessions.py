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
        self.quiet_since = clock.monotonic()
        """When somebody had the floor last."""
        self.now = self._new()

    def renew(self, *, quiet: bool = False) -> None:
        """Begins another where this one is over; `quiet`: nobody has the floor, or the robot with what nobody asked for."""
        silent = quiet and self._clock.monotonic() - self.quiet_since > self._silence_s
        if self.now.turns > 0 and (self.now.over or silent):
            self.now = self._new()

    def _new(self) -> Session:
        return Session(self._clock.new_id(), self._language)
