"""Keeps the calls of one turn: announced before they begin, noted while they run, each ended once and on the books."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from agent.clock import Clock
from agent.dialog.books import Books
from agent.dialog.stage import RunningStage, ended
from agent.errors import VoxmeterError
from agent.ports import Appended, Engine, OpenCall
from agent.tasks import unhurried
from agent.values import Outcome, Stage, StageResult, StageTimes, StageUsage

In = TypeVar("In")
Out = TypeVar("Out")

NOTE_SECONDS = 0.9
"""Between two notes of what running calls have used: at least every second, with room for a slow disk."""

Engines = dict[Stage, Engine[Any, Any]]

FREE = StageUsage(input_tokens=0, output_tokens=0)
"""What an answer out of an FAQ or a cache uses."""


class Calls:
    """The calls of one turn, by stage and attempt."""

    def __init__(self, engines: Engines, books: Books, clock: Clock, session_id: str) -> None:
        self.turn_id = clock.new_id()
        self.session_id = session_id
        self.began = clock.monotonic()
        self.running: list[RunningStage[Any, Any]] = []
        self.results: list[StageResult] = []
        self._engines = engines
        self._books = books
        self._clock = clock
        self._open: dict[tuple[Stage, int], tuple[OpenCall, Appended]] = {}
        self._noting: asyncio.Task[None] | None = None
        self._settling: list[asyncio.Task[None]] = []

    async def intend(self, stages: Iterable[Stage], attempt: int = 1, begin: Iterable[Stage] = ()) -> None:
        """Announces calls, durably; those of `begin` are started with it. Raises what the ledger raises."""
        calls = {stage: self._call(stage, attempt) for stage in stages}
        await unhurried(self._announce(calls, [calls[stage] for stage in begin]))
        if self._noting is None:
            self._noting = asyncio.create_task(self._note_each_second())

    async def _announce(self, calls: Mapping[Stage, OpenCall], begin: list[OpenCall]) -> None:
        """To its end, whoever is stopped meanwhile: what the ledger holds must be known here."""
        intent = await self._books.intend(list(calls.values()), begin=begin)
        self._open |= {(stage, call.attempt): (call, intent) for stage, call in calls.items()}

    def _call(self, stage: Stage, attempt: int) -> OpenCall:
        engine = self._engines[stage]
        return OpenCall(self.turn_id, self.session_id, stage, engine.name, engine.model, attempt=attempt)

    async def begin(self, stage: Stage, engine: Engine[In, Out], attempt: int = 1, *, started: bool = False) -> RunningStage[In, Out]:
        """Opens an announced call once it is durable that it begins; `started` says that it is, with its intent."""
        call, _ = self._open[stage, attempt]
        if not started:
            await self._books.start(call)
        running = RunningStage(call, engine, self._clock, self.began)
        self.running.append(running)
        return running

    def end(self, running: RunningStage[Any, Any], outcome: Outcome, problem: str = "") -> None:
        """The first ending of a call goes on the books, at once and beside whatever follows; a call that never began does not."""
        if running.result is None:
            result = running.end(outcome, problem)
            if running.call.begun:
                self.results.append(result)
                self._settle(result)
            elif outcome == "failed":  # it used nothing; that it failed is told
                self.results.append(replace(result, usage=StageUsage(origin="unknown")))

    def free(self, stage: Stage, source: str, attempt: int, outcome: Outcome, *, characters: int | None = None) -> None:
        """Puts down that a stage was served without its engine, by `source`, a FAQ or a cache: 0 tokens in the announced call's place.

        `characters` are those of a voice's text that were heard.
        """
        if (stage, attempt) in self._open:
            call = OpenCall(self.turn_id, self.session_id, stage, source, source, attempt=attempt)
            now = round((self._clock.monotonic() - self.began) * 1000)
            usage = FREE if characters is None else StageUsage(input_tokens=0, characters=0, characters_heard=characters)
            result = ended(call, outcome, usage, StageTimes(now, now, 0))
            self.results.append(result)
            self._settle(result)

    def _settle(self, result: StageResult) -> None:
        call, intent = self._open.pop((result.stage, result.attempt))
        self._settling.append(asyncio.create_task(self._books.settle(call, result, intent)))

    async def _note_each_second(self) -> None:
        """So that a power cut costs the books at most a second of a long call."""
        noted: dict[OpenCall, StageUsage] = {}
        while True:
            await self._clock.sleep(NOTE_SECONDS)
            used = {running.facts: running.usage for running in self.running if running.result is None and running.call.begun}
            fresh = {call: usage for call, usage in used.items() if noted.get(call) != usage}
            with contextlib.suppress(VoxmeterError):  # the final record says it, or the turn fails by it
                if fresh:
                    await self._books.note(fresh.items())
            noted = used

    def intended(self, attempt: int) -> bool:
        """Whether calls of this attempt at answering stand announced, or have ended."""
        return any(key[1] == attempt and key[0] != "asr" for key in self._open) or self.begun(attempt)

    def begun(self, attempt: int) -> bool:
        """Whether an engine has been asked for something in this attempt at answering."""
        return any(running.facts.attempt == attempt and running.facts.stage != "asr" for running in self.running)

    @property
    def thinking(self) -> bool:
        """The language model has been asked for a reply, and how that ended is not on the books yet."""
        return any(running.facts.stage == "llm" and running.call.begun and running.result is None for running in self.running)

    async def stop(self, attempt: int, outcome: Outcome) -> None:
        """Ends the calls of an attempt at answering: those under way with this outcome, those that never began without a record."""
        mine = [running for running in self.running if running.facts.attempt == attempt and running.facts.stage != "asr"]
        await asyncio.gather(*(running.call.cancel() for running in mine))  # afterwards their usage is final
        for running in mine:
            self.end(running, outcome)
        await self._drop([key for key in self._open if key[1] == attempt and key[0] != "asr"])

    async def close(self) -> None:
        """Stops what is still under way, then waits until all of the turn is durable; calls that never began are taken back."""
        if self._noting is not None:
            self._noting.cancel()
        for running in self.running:
            if running.result is None:
                await running.call.cancel()
                self.end(running, "interrupted")
        settled = await asyncio.gather(*self._settling, return_exceptions=True)
        await self._drop(list(self._open))
        for failure in settled:
            if isinstance(failure, BaseException):
                raise failure

    async def _drop(self, keys: list[tuple[Stage, int]]) -> None:
        calls = [self._open.pop(key)[0] for key in keys]
        if calls:
            await self._books.drop(calls)
