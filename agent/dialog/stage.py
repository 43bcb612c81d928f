"""One attempt of one stage while it is under way: its call, its times, and the one record it settles to."""

from dataclasses import replace
from typing import Any, Generic, TypeVar

from agent.clock import Clock
from agent.ports import Call, Engine, OpenCall
from agent.values import Outcome, Stage, StageResult, StageTimes, StageUsage

In = TypeVar("In")
Out = TypeVar("Out")


COUNTED: dict[Stage, tuple[str, ...]] = {"asr": ("output_tokens",), "llm": ("input_tokens", "output_tokens"), "tts": ("input_tokens",)}
"""Figures without which a stage's usage is unknown: its engine died before it could say anything."""


def counted_or_unknown(stage: Stage, usage: StageUsage) -> StageUsage:
    """The usage, or one of unknown size where a figure the stage is counted by is missing."""
    known = usage.origin != "unknown" and all(getattr(usage, figure) is not None for figure in COUNTED[stage])
    return usage if known else StageUsage(origin="unknown")


def ended(call: OpenCall, outcome: Outcome, usage: StageUsage, times: StageTimes, problem: str = "") -> StageResult:
    """The result of a call."""
    place = {"placement": call.placement, "attempt": call.attempt, "priority": call.priority}
    return StageResult(call.stage, call.engine, call.model, outcome, usage, times, problem=problem, **place)  # type: ignore[arg-type]


class RunningStage(Generic[In, Out]):
    """Times run from the start of the turn. Ends once; the first ending stands."""

    def __init__(self, facts: OpenCall, engine: Engine[In, Out], clock: Clock, turn_began: float) -> None:
        self.facts = facts
        self.call: Call[In, Out] = engine.open()
        self.known: dict[str, Any] = {}
        """Figures the engine does not know itself, by the field of StageUsage they fill."""
        self.result: StageResult | None = None
        self._clock = clock
        self._turn_began = turn_began
        self._began = clock.monotonic()
        self._first_output: float | None = None
        self._made: float | None = None

    @property
    def usage(self) -> StageUsage:
        """What was used so far."""
        return counted_or_unknown(self.facts.stage, replace(self.call.usage, **self.known))

    def output(self) -> None:
        """Notes that an output came; the first one counts."""
        if self._first_output is None:
            self._first_output = self._clock.monotonic()

    def made(self) -> None:
        """Notes that the engine has done its work, though what it made is not used up yet: a reply may sound for long."""
        self._made = self._clock.monotonic()

    def end(self, outcome: Outcome, problem: str = "") -> StageResult:
        """The result, made of what the call used so far."""
        if self.result is None:
            now = self._made or self._clock.monotonic()
            first = None if self._first_output is None else _ms(self._first_output - self._turn_began)
            times = StageTimes(_ms(self._began - self._turn_began), first, _ms(now - self._began))
            self.result = ended(self.facts, outcome, self.usage, times, problem)
        return self.result


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
