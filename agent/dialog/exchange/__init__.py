"""One turn under way: hears, answers and settles one utterance, all at once: what is heard is recognised while it arrives.

    ears -> asr -> Answer -> Gate -> speaker

In a lull the answer is begun behind a shut gate. If the customer goes on it is superseded and another attempt follows; when the
utterance is over the gate opens. Each stage settles on the books however it ends.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Literal

from agent.dialog.exchange.answer import Answer
from agent.dialog.exchange.calls import Calls
from agent.dialog.exchange.gate import Gate
from agent.dialog.exchange.plan import Plan
from agent.dialog.exchange.robot import Robot
from agent.dialog.session import Session
from agent.dialog.stage import RunningStage
from agent.errors import EngineFailed, LedgerFull
from agent.ports import Ears, Speaker
from agent.tasks import unhurried
from agent.values import AudioChunk, Stage, Transcript, Turn

HeardWords = Callable[[str, int | None], bool]
"""Takes the words so far and how much of the sound they cover, None when they are final; says whether they may be answered."""

Why = Literal["full", "failed"] | Stage
"""Why a turn came to nothing: no room on the books, the stage that failed, or a failure of another kind."""

Planned = Callable[[Plan, int | None], None]
"""Takes how words are to be answered, and how much of the sound they cover."""


class Exchange:
    """One utterance and its answer."""

    def __init__(
        self,
        robot: Robot,
        ears: Ears,
        speaker: Speaker,
        session: Session,
        *,
        heard_words: HeardWords = lambda _words, _until: True,
        sounded: Callable[[], None] = lambda: None,
        planned: Planned = lambda _plan, _until: None,
        after: Callable[[], Iterable["asyncio.Future[Any]"]] = tuple,
        before: "Exchange | None" = None,
    ) -> None:
        """`after`: what must end before an answer may use the engines; `before`: whose words must be known before this is recognised."""
        self._robot = robot
        self._ears = ears
        self._speaker = speaker
        self._session = session
        self._heard_words = heard_words
        self._sounded = sounded
        self._planned = planned
        self._after = after
        self._before = before
        self.calls = Calls(robot.stages.by_name, robot.books, robot.clock, session.session_id)
        self.answer: Answer | None = None
        self.complete = False
        """The utterance is over and its words are final."""
        self.recognised = asyncio.Event()
        """The same. Where they will never be known, whoever runs this must set it."""
        self._making: asyncio.Task[None] | None = None
        self._attempts = 1
        self._held = False
        self._words: list[str] = []
        self._partial = ""

    @property
    def question(self) -> str:
        """What the customer has said, so far."""
        return " ".join([*self._words, *([self._partial] if self._partial else [])])

    def came_to_nothing(self, failure: BaseException | None) -> Why | None:
        """Why, where the customer has heard nothing because of it; `failure`: what ended it, if something did."""
        if isinstance(failure, LedgerFull):
            return "full"
        if self.answer is not None and self.answer.has_sounded:
            return None
        failed = next((result.stage for result in self.calls.results if result.outcome == "failed"), None)
        return failed if failed or failure is None else "failed"

    def hold(self, *, on: bool) -> None:
        """Keeps an answer that has not sounded from sounding, or lets it."""
        self._held = on
        if self.answer is not None:
            if on:
                self.answer.gate.shut()
            elif self.complete:
                self.answer.gate.open()

    async def run(self) -> Turn:
        """Returns when the answer has sounded. A failed stage is told in the turn, not raised; raises what the books raise."""
        if not self._robot.books.room():
            raise LedgerFull("the ledger is full, no new turn is taken", "let the robot sync, or raise [ledger] quota_mb")
        try:
            await self.calls.intend(("asr", "llm", "tts"), begin=("asr",))
            if await self._hear():
                await self._finish()
        finally:
            await unhurried(self._close())
        return self.told()

    async def _hear(self) -> bool:
        """Recognises the utterance, when the recogniser is free; False if there is nothing to answer."""
        if self._before is not None:
            await self._before.recognised.wait()
            self._before = None  # nor all that were before it
        asr = await self.calls.begin("asr", self._robot.stages.asr, started=True)
        asr.known["audio_in_ms"] = 0
        try:
            await _together(self._give(asr), self._take(asr))
        except EngineFailed as failure:
            await asr.call.cancel()  # afterwards its usage is final
            self.calls.end(asr, "failed", str(failure))
        self.calls.end(asr, "completed")
        self._partial = ""
        self.complete = True
        self.recognised.set()
        heard = asr.result is not None and asr.result.outcome == "completed"
        return self._heard_words(self.question, None) and heard and bool(self.question)

    async def _give(self, asr: RunningStage[AudioChunk, Transcript]) -> None:
        async with contextlib.aclosing(self._ears.speech()) as chunks:
            async for chunk in chunks:
                if self.answer is not None:
                    await self._supersede()
                await asr.call.send(chunk)
                asr.known["audio_in_ms"] += chunk.ms
        await asr.call.finish()

    async def _take(self, asr: RunningStage[AudioChunk, Transcript]) -> None:
        async for transcript in asr.call:
            asr.output()
            if transcript.final:
                self._words += [transcript.text] if transcript.text else []
            self._partial = "" if transcript.final else transcript.text
            if not transcript.final and self._heard_words(self.question, transcript.until_ms):
                self._speculate(transcript.until_ms, asr.known["audio_in_ms"])

    def _speculate(self, until_ms: int, given_ms: int) -> None:
        """Begins an answer while the customer pauses, unless too many were begun in vain."""
        may = self._attempts <= self._robot.manner.speculations_max and self.answer is None and not self.complete
        if may and until_ms >= given_ms and self._ears.lulled and self.question:
            self._begin_answer(until_ms)

    def _begin_answer(self, until_ms: int | None = None) -> None:
        gate = Gate(self._speaker, is_open=self.complete and not self._held, passed=self._passed)
        self.answer = Answer(
            self._robot,
            self.calls,
            self._session,
            question=self.question,
            attempt=self._attempts,
            gate=gate,
            planned=lambda plan: self._planned(plan, until_ms),
        )
        self._making = asyncio.create_task(self._make(self.answer))

    def _passed(self) -> None:
        """A piece of the answer is on its way to the customer."""
        if self.answer is not None:
            self.answer.sounded()
        self._sounded()

    async def _make(self, answer: Answer) -> None:
        if those := [*self._after()]:
            await asyncio.wait(those)  # not gather: whoever is cancelled here would cancel them
        if not self.calls.intended(answer.attempt):
            await self.calls.intend(("llm", "tts"), answer.attempt)
        await answer.make()

    async def _supersede(self) -> None:
        """The customer goes on: takes the answer back. An attempt that asked no engine for anything is not counted."""
        answer, self.answer = self.answer, None
        if answer is not None:
            await _ended(self._making)
            if answer.begun:
                self._attempts += 1
                await answer.stop("superseded")

    async def _finish(self) -> None:
        """Lets the answer sound that was begun on these words, or begins one."""
        if self.answer is not None and self.answer.question != self.question:
            await self._supersede()
        if self.answer is None:
            self._begin_answer()
        answer, making = self.answer, self._making
        assert answer is not None
        assert making is not None
        answer.confirm()
        if not self._held:
            answer.gate.open()
        await answer.call_person()
        await making
        await answer.play(self._speaker)

    async def _close(self) -> None:
        if self._making is not None:
            await _ended(self._making)
        try:
            if self.answer is not None and self.calls.intended(self.answer.attempt):
                await self.answer.stop("interrupted" if self.answer.has_sounded else "superseded")
        finally:
            await self.calls.close()

    def told(self) -> Turn:
        """The turn, as far as it has come."""
        ended, sound = self._ears.ended_at, self.answer.gate.began_at if self.answer else None
        latency = None if ended is None or sound is None else round((sound - ended) * 1000)
        reply, notes = (self.answer.reply, self.answer.notes) if self.answer else ("", ())
        return Turn(self.calls.turn_id, self._session.session_id, self.question, reply, tuple(self.calls.results), latency, notes)


async def _ended(task: "asyncio.Task[Any] | None") -> None:
    """Stops a task and waits until it has stopped; what it raised meanwhile is of no use any more."""
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _together(*work: Coroutine[Any, Any, None]) -> None:
    """Runs all at once; the first failure stops the others and is raised as it is, not as a group."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
