"""Keeps a robot listening for as long as its service runs: a conversation that fails is begun again, for a robot must not be deaf.

Two may want the engines: customers in the hall, and whoever asks over the socket. One asks while nobody has the floor; what customers
say meanwhile is heard, waits, and is answered next.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from agent import fitting
from agent.app import App
from agent.dialog.live import Conversation
from agent.dialog.wording.sentences import Sentences
from agent.engines.host import start
from agent.errors import BadInput, EngineFailed, plainly
from agent.live import Live, Say, conversing, in_hall
from agent.tasks import stopped
from agent.values import Speech, Turn
from agent.weights import catalog

PAUSE_SECONDS_FIRST, PAUSE_SECONDS_MAX = 0.5, 30.0
"""Before a conversation that failed is begun again, doubling while it fails at once."""

WELL_SECONDS = 60.0
"""A conversation that went on for so long did not fail at once."""

POLL_SECONDS = 0.05

CALM_SECONDS = 3.0
"""After an answer, before the robot says what nobody asked for: it may have asked something itself."""


class Attending:
    """One robot's conversation without an end."""

    def __init__(self, app: App, say: Say) -> None:
        self._app = app
        self._say = say
        self._live: Live | None = None
        self._why = "it is being started"
        self._free = asyncio.Event()
        self._free.set()
        self._rounds = 0
        self._one_at_a_time = asyncio.Lock()
        """Whoever wants the floor besides customers: a question over the socket, an announcement from afar."""
        self.told: Callable[[Turn], None] = lambda _: None
        """Takes each turn when it has ended."""

    async def run(self) -> None:
        """Until cancelled; what is under way then settles."""
        clock, pause_s = self._app.clock, PAUSE_SECONDS_FIRST
        while True:
            began = clock.monotonic()
            self._rounds += 1
            try:
                await self._converse()
                why = "the microphone's sound has ended"
            except Exception as error:  # noqa: BLE001  whatever it is: a robot that has stopped listening helps nobody
                why = plainly(error)
            if why != self._why:
                self._say(f"the conversation: {why}; it is begun again")
            self._why = why
            pause_s = PAUSE_SECONDS_FIRST if clock.monotonic() - began > WELL_SECONDS else min(pause_s * 2, PAUSE_SECONDS_MAX)
            await clock.sleep(pause_s)

    async def _converse(self) -> None:
        async with (
            in_hall(self._app, self._say) as hall,
            conversing(self._app, hall, self._say, self._ended, free=self._free) as live,
        ):
            self._live, self._why = live, ""
            forgetting = asyncio.create_task(self._forget(live))
            try:
                await live.conversation.run()
            finally:
                self._live = None  # nothing it is given any more can be heard
                await stopped(forgetting)

    def _ended(self, turn: Turn) -> None:
        """Whoever wants to be told may come later than the conversation."""
        self.told(turn)

    async def _forget(self, live: Live) -> None:
        """Nobody looks at turns that have ended."""
        while True:
            await self._app.clock.sleep(WELL_SECONDS)
            live.turns.clear()

    def health(self) -> dict[str, Any]:
        """`{device, hearing, why, rate, floor, level, speaker}`."""
        if self._live is None:
            return {"device": None, "hearing": False, "why": self._why, "rate": 0.0, "floor": None, "level": None, "speaker": None}
        told = self._live.health()
        microphone, speaker = told["microphone"], told["speaker"]
        heard = {name: microphone[name] for name in ("device", "hearing", "why", "rate")}
        spoken = {name: speaker[name] for name in ("device", "speaking", "why")}
        return heard | {"floor": told["floor"], "level": told["level"], "speaker": spoken}

    @property
    def busy(self) -> bool:
        """Somebody has the floor, a customer or whoever asks besides, or waits for it."""
        return self._one_at_a_time.locked() or (self._live is not None and not self._live.idle)

    def signs(self) -> tuple[object, object]:
        """Of the microphone and of the conversation: whoever sees the same again has seen no progress."""
        if self._live is None:
            return self._rounds, self._rounds
        held = 0.0 if self._free.is_set() else self._app.clock.monotonic()  # customers wait for whoever asks, and sound for them
        return (self._rounds, self._live.heard, held), (self._rounds, self._live.conversation.looks)

    def forget(self, session_id: str) -> None:
        """Where that session goes on, it ends; the next one, which begins at once or after the turn under way, knows nothing of it."""
        session = self._live.conversation.session if self._live is not None else None
        if session is not None and session.session_id == session_id:
            session.over = True

    @contextlib.asynccontextmanager
    async def asked(self) -> AsyncIterator[App]:
        """The robot for whoever asks it something besides, one at a time: from when nobody has the floor, with ears of its own."""
        known, models = catalog.read(), catalog.models_folder()
        ears = await start(fitting.settings_of(self._app.profile, "vad", known, models), self._app.clock)
        try:
            async with self._floor():
                yield replace(self._app, engines=self._app.engines | {"vad": ears})
        finally:
            await ears.aclose()

    async def speak(self, text: str) -> dict[str, Any]:
        """Says a text when nobody has the floor: `{said, characters, characters_heard, session_id}`, when it has sounded or somebody has
        stopped it. It is made before, and customers wait for a sentence of it at most. Raises EngineFailed where it can't."""
        session_id, pieces, cutting = self._app.clock.new_id(), list[Speech](), Sentences()
        sentences = [*cutting.add(text), *cutting.finish()]
        if not sentences:
            raise BadInput("there is nothing in it that can be said", "give it words")
        for sentence in sentences:
            async with self._floor():
                self._conversation()
                made = len(pieces)
                await self._app.announcer.say(sentence, pieces.append, session_id)
                if made == len(pieces):
                    raise EngineFailed("the voice said nothing", "see: voxmeter status")
        async with self._one_at_a_time:
            await self._quiet(CALM_SECONDS)
            heard = await self._conversation().announce(pieces)
        return {"said": text, "characters": sum(len(one.text) for one in pieces), "characters_heard": heard, "session_id": session_id}

    def _conversation(self) -> Conversation:
        if self._live is None:
            raise EngineFailed(f"the robot has no loudspeaker now: {self._why or 'it is being stopped'}", "see: voxmeter status")
        return self._live.conversation

    @contextlib.asynccontextmanager
    async def _floor(self) -> AsyncIterator[None]:
        """From when nobody has it."""
        async with self._one_at_a_time:
            await self._quiet()
            self._free.clear()
            try:
                yield
            finally:
                self._free.set()

    async def _quiet(self, seconds: float = 0.0) -> None:
        """Returns when nobody has had the floor for so long; whoever does not wait in between takes it."""
        while self._live is not None and not (self._live.idle and self._live.conversation.quiet_s >= seconds):
            await self._app.clock.sleep(POLL_SECONDS)
