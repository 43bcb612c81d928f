"""Holds an answer back until it may sound: it is made while the customer may still go on, and heard only when the turn is over."""

import asyncio
from collections.abc import Callable

from agent.ports import Sounding, Speaker
from agent.values import Speech


class Held:
    """A piece of speech that waits at the gate, then sounds like any other."""

    def __init__(self) -> None:
        self.sounding: Sounding | None = None

    @property
    def heard(self) -> int:
        return self.sounding.heard if self.sounding else 0

    @property
    def began_at(self) -> float | None:
        return self.sounding.began_at if self.sounding else None


class Gate:
    """One answer's way to the loudspeaker: shut, open, and shut again while somebody may be going on."""

    def __init__(self, speaker: Speaker, *, is_open: bool, passed: Callable[[], None] = lambda: None) -> None:
        self._speaker = speaker
        self._open = is_open
        self._opened = asyncio.Event()
        self._passed = passed
        self._waiting: list[tuple[Speech, Held]] = []
        self.soundings: list[Sounding] = []
        """All pieces that were given, in order."""

    def play(self, speech: Speech) -> None:
        """Takes a piece behind those that wait."""
        held = Held()
        self.soundings.append(held)
        if self._open:
            self._through(speech, held)
        else:
            self._waiting.append((speech, held))

    def open(self) -> None:
        """Lets everything through that waits, and what follows."""
        self._open = True
        self._opened.set()
        waiting, self._waiting = self._waiting, []
        for speech, held in waiting:
            self._through(speech, held)

    def shut(self) -> None:
        """Keeps back what has not been let through."""
        self._open = False
        self._opened.clear()

    async def emptied(self) -> None:
        """Returns when nothing waits."""
        while self._waiting:
            await self._opened.wait()

    def _through(self, speech: Speech, held: Held) -> None:
        held.sounding = self._speaker.play(speech)
        if speech.pcm:
            self._passed()

    @property
    def is_open(self) -> bool:
        return self._open

    @property
    def began_at(self) -> float | None:
        """When the first piece with sound in it sounded; None before."""
        return next((at for one in self.soundings if (at := one.began_at) is not None), None)

    @property
    def heard(self) -> int:
        """Characters that have sounded."""
        return sum(one.heard for one in self.soundings)
