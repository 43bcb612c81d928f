"""Says one reply: read aloud rightly, out of the kept sounds or by the voice, into the loudspeaker; it knows what was heard."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from agent.dialog.exchange.calls import Calls
from agent.dialog.exchange.gate import Gate
from agent.dialog.exchange.sounds import Sounds
from agent.dialog.stage import RunningStage
from agent.dialog.wording.numbers import Aloud
from agent.errors import EngineFailed
from agent.ports import Counter, Tts
from agent.values import Outcome, Speech

CACHE = "cache"
"""The engine's name in the record of a reply whose sound was kept."""


class Voice:
    """One attempt's reply. A failed voice says so once, to `failed`, and takes no more."""

    def __init__(
        self,
        tts: Tts,
        calls: Calls,
        sounds: Sounds,
        *,
        attempt: int,
        gate: Gate,
        read: Callable[[str], Aloud],
        count: Counter,
        failed: Callable[[], Awaitable[None]],
    ) -> None:
        self._tts = tts
        self._calls = calls
        self._attempt = attempt
        self._gate = gate
        self._sounds = sounds
        self._read = read
        self._count = count
        self._failed = failed
        self._said: list[Aloud] = []
        self._running: RunningStage[str, Speech] | None = None
        self._speaking: asyncio.Task[None] | None = None
        self._made: list[Speech] = []

    @property
    def mute(self) -> bool:
        """The voice has ended before its time."""
        return self._running is not None and self._running.result is not None

    async def repeat(self, text: str) -> bool:
        """Says a whole reply out of the kept sounds; False where it is not kept."""
        spoken = self._read(text)
        pieces = self._sounds.get(spoken.text)
        if pieces:
            self._said.append(spoken)
            for speech in pieces:
                self._gate.play(speech)
        return bool(pieces)

    async def say(self, text: str) -> None:
        """Gives a piece of the reply to the voice, which begins with the first."""
        if self._running is None:
            self._running = await self._calls.begin("tts", self._tts, self._attempt)
            self._running.known.update(input_tokens=0, characters=0, characters_heard=0)
            self._speaking = asyncio.create_task(self._speak(self._running))
        if self._running.result is None:
            spoken = self._read(text)
            self._said.append(spoken)
            self._running.known["input_tokens"] += self._count(spoken.text)
            self._running.known["characters"] += len(spoken.text)
            await self._running.call.send(spoken.text)

    async def _speak(self, running: RunningStage[str, Speech]) -> None:
        try:
            async for speech in running.call:
                running.output()
                self._gate.play(speech)
                self._made.append(speech)
                running.known["characters_heard"] = self._gate.heard
            running.made()
        except EngineFailed as failure:
            self.settle("failed", str(failure))
            await self._failed()

    async def finish(self, *, keep: bool = False) -> None:
        """No more text follows: returns when all sound is made. `keep`: the reply is one text that will be said again."""
        if self._running is not None and self._speaking is not None:
            await self._running.call.finish()
            await self._speaking
            if keep and not self.mute:
                self._sounds.keep("".join(one.text for one in self._said), tuple(self._made))

    def settle(self, outcome: Outcome, problem: str = "") -> None:
        """Ends the voice's call with what was heard of it; the first ending stands."""
        self.note()
        if self._running is not None:
            self._calls.end(self._running, outcome, problem)
        elif self._said:
            self._calls.free("tts", CACHE, self._attempt, outcome, characters=self._gate.heard)

    def note(self) -> None:
        """Puts into the running call's usage what has been heard by now."""
        if self._running is not None and self._running.result is None:
            self._running.known["characters_heard"] = self._gate.heard

    async def stop(self) -> None:
        """Makes no more sound; afterwards its call's usage is final."""
        if self._running is not None:
            await self._running.call.cancel()
        if self._speaking is not None:
            self._speaking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._speaking

    def heard(self) -> str:
        """What the customer has heard, in the words of the reply."""
        left, words = self._gate.heard, []
        for one in self._said:
            words.append(one.original if left >= len(one.text) else one.original[: one.heard(max(left, 0))])
            left -= len(one.text)
        return " ".join(part.strip() for part in words if part.strip())
