"""One utterance at a time, through all stages: what `ask` and the owner's socket use, without a loudspeaker."""

from collections.abc import Callable, Mapping
from typing import Any

from agent.clock import Clock
from agent.dialog.exchange import Exchange
from agent.dialog.exchange.robot import Robot
from agent.dialog.session import Session
from agent.ports import Ears
from agent.values import Speech, Turn

Play = Callable[[Speech], None]


class Handed:
    """A piece of speech that was given to whoever plays it: as far as anybody here can tell, it was heard."""

    def __init__(self, characters: int, at: float | None) -> None:
        self.heard = characters
        self.began_at = at


class Handing:
    """A loudspeaker that hands each piece on as it comes. Implements the port Speaker."""

    def __init__(self, play: Play, clock: Clock) -> None:
        self._play = play
        self._clock = clock

    def play(self, speech: Speech) -> Handed:
        handed = Handed(len(speech.text), self._clock.monotonic() if speech.pcm else None)
        self._play(speech)
        return handed

    def duck(self, *, on: bool) -> None:
        """It has no voice of its own to lower."""

    def pause(self, *, on: bool) -> None:
        """What was handed on can't be held."""

    def stop(self) -> None:
        """What was handed on can't be called back."""

    async def quiet(self) -> None:
        """It never sounds."""

    def health(self) -> Mapping[str, Any]:
        """Nothing can be wrong with it."""
        return {}

    async def aclose(self) -> None:
        """Nothing is open."""


class Pipeline:
    """One robot, asked one thing after the other."""

    def __init__(self, robot: Robot) -> None:
        self._robot = robot

    async def turn(self, ears: Ears, play: Play, session_id: str) -> Turn:
        """Hears, answers and settles one utterance, in a conversation of its own.

        A failed stage is told in the result, not raised. Raises LedgerDamaged when the books refuse a record.
        """
        return await Exchange(self._robot, ears, Handing(play, self._robot.clock), Session(session_id)).run()
