"""Says what the robot has to say by itself, such as that it can't answer now: made once by the voice, on the books, then kept."""

import contextlib

from agent.clock import Clock
from agent.dialog.books import Books
from agent.dialog.pipeline import Manner, Play
from agent.dialog.stage import RunningStage
from agent.errors import EngineFailed, VoxmeterError
from agent.ports import Appended, OpenCall, Tts
from agent.values import Speech


class Announcer:
    """Keeps the sound of each text, so that it costs once however often it is said."""

    def __init__(self, voice: Tts, books: Books, manner: Manner, clock: Clock) -> None:
        self._voice = voice
        self._books = books
        self._manner = manner
        self._clock = clock
        self._kept: dict[str, list[Speech]] = {}

    async def say(self, text: str, play: Play, session_id: str) -> None:
        """Plays a text. A voice that fails says nothing; a ledger that takes no record leaves the words unbilled, not unsaid."""
        if text not in self._kept:
            spoken = await self._made(text, session_id)
            if not spoken:
                return
            self._kept[text] = spoken
        for speech in self._kept[text]:
            play(speech)

    async def _made(self, text: str, session_id: str) -> list[Speech]:
        call = OpenCall(self._clock.new_id(), session_id, "tts", self._voice.name, self._voice.model)
        intent = await self._intended(call)
        running = RunningStage(call, self._voice, self._clock, self._clock.monotonic())
        running.known.update(input_tokens=self._manner.count_spoken(text), characters=len(text), characters_heard=len(text))
        spoken: list[Speech] = []
        try:
            await running.call.send(text)
            await running.call.finish()
            spoken = [speech async for speech in running.call]
            running.end("completed")
        except EngineFailed as failure:
            spoken = []
            running.end("failed", str(failure))
        finally:
            await running.call.cancel()
            result = running.end("interrupted")
            if intent is not None:
                with contextlib.suppress(VoxmeterError):
                    await self._books.settle(call, result, intent)
        return spoken

    async def _intended(self, call: OpenCall) -> Appended | None:
        try:
            return await self._books.intend([call], begin=[call])
        except VoxmeterError:
            return None
