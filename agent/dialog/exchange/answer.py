"""One attempt to answer: planned, thought, spoken. It may be begun before the turn is over, and taken back.

    plan -> faq or phrase -> voice                    nothing to think about
    plan -> llm -> guard -> sentences -> voice        first clause first

A failed voice stops the thinking nobody could hear; a failed mind still lets the voice finish what was begun.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from agent.dialog.exchange.calls import Calls
from agent.dialog.exchange.gate import Gate
from agent.dialog.exchange.plan import Plan, Silent, Think, Verbatim
from agent.dialog.exchange.robot import Robot
from agent.dialog.exchange.voice import Voice
from agent.dialog.session import Session
from agent.dialog.stage import RunningStage
from agent.dialog.wording.facts import FactGuard
from agent.dialog.wording.sentences import Sentences
from agent.errors import EngineFailed
from agent.ports import Speaker
from agent.tasks import unhurried
from agent.values import Outcome, Prompt

FAQ = "faq"
"""The engine's name in the record of an answer out of the FAQ."""


class Answer:
    """One attempt at the answer to one question."""

    def __init__(
        self,
        robot: Robot,
        calls: Calls,
        session: Session,
        *,
        question: str,
        attempt: int,
        gate: Gate,
        planned: Callable[[Plan], None] = lambda _: None,
    ) -> None:
        self.question = question
        self.attempt = attempt
        self.gate = gate
        self.plan: Plan = Silent()
        self.reply = ""
        """What was to be said, as far as it is known."""
        self.notes: tuple[str, ...] = ()
        self._robot = robot
        self._calls = calls
        self._session = session
        self._planned = planned
        self._llm: RunningStage[Prompt, str] | None = None
        self.has_sounded = False
        self.called = False
        """A person, whom it promises."""
        self._ready_made = self._confirmed = False
        self._thought: Outcome | None = None
        """How the thinking ended; on the books when the answer sounds, or has ended without a sound."""
        manner = robot.manner
        self._voice = Voice(
            robot.stages.tts,
            calls,
            robot.sounds,
            attempt=attempt,
            gate=gate,
            read=manner.read,
            count=manner.count_spoken,
            failed=self._voice_failed,
        )

    async def make(self) -> None:
        """Returns when all of its sound is made."""
        self.plan = plan = await self._robot.mind.plan(self.question, self._session)
        self._planned(plan)
        await self.call_person()
        if isinstance(plan, Verbatim):
            self.reply = plan.text
            await self._say_kept(plan.text)
        elif isinstance(plan, Think):
            await self._think(plan)
        await self._voice.finish(keep=self._ready_made)

    def confirm(self) -> None:
        """The turn is over, and this is its answer."""
        self._confirmed = True

    def sounded(self) -> None:
        """The customer hears it: from now on it can be interrupted, not superseded."""
        self.has_sounded = True
        self._settle_thought()

    def _settle_thought(self) -> None:
        if self._thought is not None and self._llm is not None:
            self._calls.end(self._llm, self._thought)

    async def call_person(self) -> None:
        """Asks for one, durably and once, where the answer promises it."""
        promised = isinstance(self.plan, Verbatim) and self._confirmed and not self.called
        if promised and isinstance(self.plan, Verbatim) and self.plan.handoff:
            self.called = True
            await unhurried(self._robot.call_person(self.plan.handoff, self._session.session_id, self._calls.turn_id))

    async def play(self, speaker: Speaker) -> None:
        """Returns when all of it has been let through and has sounded, or the loudspeaker was stopped."""
        await self.gate.emptied()
        self._settle_thought()
        await speaker.quiet()
        self.settle("completed")

    def settle(self, outcome: Outcome) -> None:
        """Puts down how the voice ended, and an answer that needed no thinking."""
        self._voice.settle(outcome)
        if isinstance(self.plan, Verbatim) and self.plan.source == "faq":
            self._calls.free("llm", FAQ, self.attempt, outcome)

    async def stop(self, outcome: Outcome) -> None:
        """Ends what is under way; whoever runs `make` has stopped doing so."""
        await self._voice.stop()  # afterwards its usage is final
        if self.has_sounded:
            self._settle_thought()
        self.settle(outcome)
        await self._calls.stop(self.attempt, outcome)

    @property
    def begun(self) -> bool:
        """An engine has been asked for something."""
        return self._calls.begun(self.attempt)

    def heard(self) -> str:
        """What the customer has heard of it."""
        return self._voice.heard()

    def note(self) -> None:
        """Brings what has been heard into the figures of the call that is under way."""
        self._voice.note()

    async def _say_kept(self, text: str) -> None:
        self._ready_made = True
        if not await self._voice.repeat(text):
            await self._voice.say(text)

    async def _voice_failed(self) -> None:
        if self._llm is not None:
            await self._llm.call.cancel()

    async def _think(self, plan: Think) -> None:
        llm = self._llm = await self._calls.begin("llm", self._robot.stages.llm, self.attempt)
        facts = FactGuard(self._robot.manner.language, ()) if plan.guarded else None
        said = False
        try:
            async with aclosing(self._sentences(llm, hidden=plan.guarded)) as sentences:
                async for sentence in sentences:
                    if facts is not None and not facts.clause(sentence):
                        break  # what follows a lie explains it
                    said = True
                    if plan.guarded:
                        self.reply = f"{self.reply} {sentence}".strip()
                    await self._voice.say(sentence)
        except EngineFailed as failure:
            self._calls.end(llm, "failed", str(failure))
        await llm.call.cancel()  # afterwards its usage is final; what has ended does not mind
        llm.made()
        self._thought = "interrupted" if self._voice.mute else "completed"
        if self.has_sounded:
            self._settle_thought()
        if plan.instead and not said:
            self.reply = plan.instead
            await self._say_kept(plan.instead)

    async def _sentences(self, llm: RunningStage[Prompt, str], *, hidden: bool) -> AsyncGenerator[str]:
        """The reply in pieces a voice can say, without what must not be said."""
        guard = self._robot.manner.guard() if self._robot.manner.guard else None
        sentences = Sentences()
        await llm.call.send(self._prompt())
        await llm.call.finish()
        async for delta in llm.call:
            llm.output()
            clean = guard.add(delta) if guard else delta
            self.reply += "" if hidden else clean
            for sentence in sentences.add(clean):
                yield sentence
        rest = guard.finish() if guard else ""
        self.reply += "" if hidden else rest
        for sentence in [*sentences.add(rest), *sentences.finish()]:
            yield sentence

    def _prompt(self) -> Prompt:
        prompt, note = self._robot.manner.asked(self._session.history, self.question)
        self.notes = (note,) if note else ()
        return prompt
