"""The language model is asked in a lull whether the customer has said all, and only where nobody else needs it."""

import functools
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.dialog.exchange.plan import Mind, Plan, Silent, Think, Verbatim
from agent.dialog.exchange.robot import Robot
from agent.dialog.live.asking import may_ask
from agent.dialog.live.load import NO_VERDICTS
from agent.dialog.session import Session
from agent.engines.worker import Step
from agent.ports import EndOfWords, EngineSettings
from agent.profile import Hearing
from agent.sim import talk
from agent.sim.talk import Played, Scene, sound
from agent.values import StageUsage
from tests.audio.local import LocalEngine
from tests.dialog.live.helpers import played, usage

HEARING = Hearing(lull_ms=64, whole_ms=288, window_ms=992, open_ms=1184)

UNKNOWN = Verbatim("I do not know that.", "phrase", "unknown")

KNOWN = Verbatim("At ten.", "faq", "breakfast")

QUESTION = ((0.5, False), (1.5, True))


class Model:
    """Says how likely words are to be all, the same each time."""

    def __init__(self, ends: EngineSettings | float) -> None:
        assert isinstance(ends, float)
        self._ends = ends

    def run(self, inputs: Iterator[EndOfWords]) -> Generator[Step[float]]:
        for _ in inputs:
            yield self._ends, StageUsage()


class Planned:
    """Answers everything in one way."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    async def plan(self, question: str, session: Session) -> Plan:
        del question, session
        return self._plan


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> LocalEngine:
    """The robot's from now on, sure that all words are all."""
    engine = LocalEngine(Model(0.9))
    monkeypatch.setattr(talk, "Robot", functools.partial(Robot, ends=engine))
    return engine


def asked(folder: Path, plan: Plan, *, parts: tuple[tuple[float, bool], ...] = QUESTION, words: str = "is the pool heated") -> Played:
    options: dict[str, dict[str, Any]] = {"asr": {"transcripts": [words]}, "eot": {"probabilities": [0.1]}}
    mind: Mind = Planned(plan)
    return played(folder, Scene(sound(*parts), options, hearing=HEARING, mind=mind))


def latency_ms(told: Played) -> int:
    (turn,) = told.turns
    assert turn.speech_end_to_first_audio_ms is not None
    return turn.speech_end_to_first_audio_ms


def test_what_nobody_knows_is_admitted_as_soon_as_the_words_are_all(tmp_path: Path, model: LocalEngine) -> None:
    assert latency_ms(asked(tmp_path, UNKNOWN)) <= HEARING.whole_ms + 64
    (question,) = model.asked
    assert [message.text for message in question.prompt.messages] == ["be kind", "is the pool heated"]


def test_it_costs_nothing_on_the_books(tmp_path: Path, model: LocalEngine) -> None:
    asked(tmp_path, UNKNOWN)
    assert len(model.asked) == 1
    assert [one["stage"] for one in usage(tmp_path)] == ["asr", "tts"]


def test_a_model_that_doubts_or_is_gone_leaves_the_window_as_it_was(tmp_path: Path, model: LocalEngine) -> None:
    model.worker = Model(0.5)
    assert latency_ms(asked(tmp_path / "doubts", UNKNOWN)) > HEARING.window_ms
    model.worker, model.broken = Model(0.9), lambda _: True
    assert latency_ms(asked(tmp_path / "gone", UNKNOWN)) > HEARING.window_ms
    assert len(model.asked) == 2


@pytest.mark.parametrize("plan", [KNOWN, Think(guarded=True, instead="Well."), Think(), Silent("emergency")])
def test_it_is_not_asked_where_somebody_vouches_or_it_has_to_think(tmp_path: Path, model: LocalEngine, plan: Plan) -> None:
    asked(tmp_path, plan)
    assert model.asked == []


def test_it_is_not_asked_about_words_that_cannot_be_all(tmp_path: Path, model: LocalEngine) -> None:
    asked(tmp_path, UNKNOWN, words="what time does")
    assert model.asked == []


@pytest.mark.parametrize(("level", "may"), [(0, True), (NO_VERDICTS - 1, True), (NO_VERDICTS, False)])
def test_a_machine_that_cannot_keep_up_asks_nothing(level: int, *, may: bool) -> None:
    assert may_ask(UNKNOWN, level, []) == may


def test_what_it_said_of_other_words_is_forgotten(tmp_path: Path, model: LocalEngine) -> None:
    async def late(number: int) -> None:
        if number == 1:
            model.worker = Model(0.1)  # of the second lull it is less sure

    model.before = late
    told = asked(tmp_path, UNKNOWN, parts=((0.5, False), (1.0, True), (0.2, False), (1.0, True)))
    assert len(model.asked) == 2
    assert latency_ms(told) > HEARING.window_ms
