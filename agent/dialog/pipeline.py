"""Takes one utterance through the stages, all at once: what is heard is recognised while it arrives, what is thought is spoken.

    ears -> asr -> fit -> llm -> Sentences -> tts -> play

Each stage settles on the books however it ends: completed, interrupted (somebody stopped the turn), or failed (its engine did).
A failed voice stops the thinking nobody could hear; a failed mind still lets the voice finish what was begun.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from agent.clock import Clock
from agent.dialog.books import Books
from agent.dialog.context import fit
from agent.dialog.sentences import Sentences
from agent.dialog.stage import RunningStage
from agent.errors import EngineFailed, VoxmeterError
from agent.ports import Appended, Asr, Counter, Ears, Engine, Llm, OpenCall, Tts
from agent.values import AudioChunk, Outcome, Prompt, Speech, Stage, StageResult, StageUsage, Transcript, Turn

In = TypeVar("In")
Out = TypeVar("Out")

Play = Callable[[Speech], None]

NOTE_SECONDS = 0.9
"""Between two notes of what running calls have used: at least every second, with room for a slow disk."""


@dataclass(frozen=True, slots=True)
class Stages:
    """The engines of the three stages."""

    asr: Asr
    llm: Llm
    tts: Tts


@dataclass(frozen=True, slots=True)
class Manner:
    """How the robot answers."""

    system_prompt: str
    prompt: Prompt
    """A prompt without messages: the limits and the sampling of a reply."""
    prompt_tokens_max: int
    """Room for the messages."""
    count: Counter
    """Tokens by the language model's vocabulary."""
    count_spoken: Counter
    """Tokens of text given to the voice, by the rate card's vocabulary."""


class Pipeline:
    """One robot's engines and books."""

    def __init__(self, stages: Stages, books: Books, manner: Manner, clock: Clock) -> None:
        self._stages = stages
        self._books = books
        self._manner = manner
        self._clock = clock

    async def turn(self, ears: Ears, play: Play, session_id: str) -> Turn:
        """Hears, answers and settles one utterance.

        A failed stage is told in the result, not raised. Raises LedgerDamaged when the books refuse a record.
        """
        return await _Exchange(self._stages, self._books, self._manner, self._clock, ears=ears, play=play, session_id=session_id).run()


class _Exchange:
    """One turn under way."""

    def __init__(self, stages: Stages, books: Books, manner: Manner, clock: Clock, *, ears: Ears, play: Play, session_id: str) -> None:
        self._stages = stages
        self._books = books
        self._manner = manner
        self._clock = clock
        self._ears = ears
        self._play = play
        self._session_id = session_id
        self._turn_id = clock.new_id()
        self._began = clock.monotonic()
        engines: dict[Stage, Engine[Any, Any]] = {"asr": stages.asr, "llm": stages.llm, "tts": stages.tts}
        self._calls = {stage: OpenCall(self._turn_id, session_id, stage, engine.name, engine.model) for stage, engine in engines.items()}
        self._intent: Appended | None = None
        self._noting: asyncio.Task[None] | None = None
        self._running: list[RunningStage[Any, Any]] = []
        self._results: list[StageResult] = []
        self._settling: list[asyncio.Task[None]] = []
        self._speaking: asyncio.Task[None] | None = None
        self._voice: RunningStage[str, Speech] | None = None
        self._words: list[str] = []
        self._reply = ""
        self._first_sound: float | None = None
        self._notes: tuple[str, ...] = ()

    async def run(self) -> Turn:
        try:
            await self._intend()
            await self._hear()
            if self._transcript and self._results[0].outcome == "completed":
                await self._answer()
        finally:
            await _unhurried(self._close())
        return self._told()

    @property
    def _transcript(self) -> str:
        return " ".join(self._words)

    async def _intend(self) -> None:
        """All calls the turn may need, durable before the first begins; hearing begins with it."""
        self._intent = await self._books.intend(list(self._calls.values()), begin=[self._calls["asr"]])
        self._noting = asyncio.create_task(self._note_each_second())

    async def _note_each_second(self) -> None:
        """So that a power cut costs the books at most a second of a long call."""
        noted: dict[OpenCall, StageUsage] = {}
        while True:
            await self._clock.sleep(NOTE_SECONDS)
            used = {running.facts: running.usage for running in self._running if running.result is None and running.call.begun}
            fresh = {call: usage for call, usage in used.items() if noted.get(call) != usage}
            with contextlib.suppress(VoxmeterError):  # the final record says it, or the turn fails by it
                if fresh:
                    await self._books.note(fresh.items())
            noted = used

    async def _hear(self) -> None:
        asr = await self._begin("asr", self._stages.asr)
        asr.known["audio_in_ms"] = 0
        try:
            await _together(self._give(asr), self._take(asr))
        except EngineFailed as failure:
            await asr.call.cancel()  # afterwards its usage is final
            self._end(asr, "failed", str(failure))
        self._end(asr, "completed")

    async def _give(self, asr: RunningStage[AudioChunk, Transcript]) -> None:
        async with contextlib.aclosing(self._ears.speech()) as chunks:
            async for chunk in chunks:
                await asr.call.send(chunk)
                asr.known["audio_in_ms"] += chunk.ms
        await asr.call.finish()

    async def _take(self, asr: RunningStage[AudioChunk, Transcript]) -> None:
        async for transcript in asr.call:
            asr.output()
            if transcript.text:
                self._words.append(transcript.text)

    async def _answer(self) -> None:
        llm = await self._begin("llm", self._stages.llm)
        sentences = Sentences()
        try:
            await llm.call.send(self._prompt())
            await llm.call.finish()
            async for delta in llm.call:
                llm.output()
                self._reply += delta
                for sentence in sentences.add(delta):
                    await self._say(sentence, llm)
            for sentence in sentences.finish():
                await self._say(sentence, llm)
        except EngineFailed as failure:
            self._end(llm, "failed", str(failure))
        mute = self._voice is not None and self._voice.result is not None
        if mute:
            await llm.call.cancel()  # afterwards its usage is final
        self._end(llm, "interrupted" if mute else "completed")
        if self._voice is not None and self._speaking is not None:
            await self._voice.call.finish()
            await self._speaking

    def _prompt(self) -> Prompt:
        manner = self._manner
        messages, note = fit(manner.system_prompt, (), self._transcript, manner.prompt_tokens_max, manner.count)
        self._notes = (note,) if note else ()
        return replace(manner.prompt, messages=messages)

    async def _say(self, sentence: str, llm: RunningStage[Prompt, str]) -> None:
        """Gives a sentence to the voice, which begins with the first."""
        if self._voice is None:
            self._voice = await self._begin("tts", self._stages.tts)
            self._voice.known.update(input_tokens=0, characters=0, characters_heard=0)
            self._speaking = asyncio.create_task(self._speak(self._voice, llm))
        if self._voice.result is None:
            self._voice.known["input_tokens"] += self._manner.count_spoken(sentence)
            self._voice.known["characters"] += len(sentence)
            await self._voice.call.send(sentence)

    async def _speak(self, voice: RunningStage[str, Speech], llm: RunningStage[Prompt, str]) -> None:
        try:
            async for speech in voice.call:
                voice.output()
                if self._first_sound is None and speech.pcm:
                    self._first_sound = self._clock.monotonic()
                self._play(speech)
                voice.known["characters_heard"] += len(speech.text)
            self._end(voice, "completed")
        except EngineFailed as failure:
            self._end(voice, "failed", str(failure))
            await llm.call.cancel()

    async def _begin(self, stage: Stage, engine: Engine[In, Out]) -> RunningStage[In, Out]:
        """A call whose beginning is durable; that of hearing is, with the intent."""
        if stage != "asr":
            await self._books.start(self._calls[stage])
        running = RunningStage(self._calls[stage], engine, self._clock, self._began)
        self._running.append(running)
        return running

    def _end(self, running: RunningStage[Any, Any], outcome: Outcome, problem: str = "") -> None:
        """The first ending of a stage goes on the books, at once and beside whatever follows; a call that never began does not."""
        if running.result is None:
            result = running.end(outcome, problem)
            self._results.append(result)
            if running.call.begun and self._intent is not None:
                del self._calls[running.facts.stage]
                self._settling.append(asyncio.create_task(self._books.settle(running.facts, result, self._intent)))

    async def _close(self) -> None:
        """Stops what is still under way, then waits until all of the turn is durable; calls that never began are taken back."""
        if self._noting is not None:
            self._noting.cancel()
        if self._speaking is not None:
            self._speaking.cancel()
        for running in self._running:
            await running.call.cancel()
            self._end(running, "interrupted")
        await asyncio.gather(*self._settling)
        if self._calls:
            await self._books.drop(self._calls.values())

    def _told(self) -> Turn:
        ended, sound = self._ears.ended_at, self._first_sound
        latency = None if ended is None or sound is None else round((sound - ended) * 1000)
        return Turn(self._turn_id, self._session_id, self._transcript, self._reply, tuple(self._results), latency, self._notes)


async def _together(*work: Coroutine[Any, Any, None]) -> None:
    """Runs all at once; the first failure stops the others and is raised as it is, not as a group."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _unhurried(work: Coroutine[Any, Any, None]) -> None:
    """Runs to the end whoever cancels meanwhile, and only then lets the cancel through: books are closed once begun."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
