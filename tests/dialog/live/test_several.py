"""Utterances that come before the one before them is done with: on the real driver, listener and books, in simulated time."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent.dialog.books import Books
from agent.dialog.exchange.plan import Plan, Silent, Think, Verbatim
from agent.dialog.session import Session
from agent.dialog.wording.intents import consent
from agent.errors import LedgerDamaged
from agent.profile import Hearing
from agent.sim.talk import Scene, play, sound
from tests.dialog.live.helpers import CARDS, played, usage
from tests.dialog.live.test_live import HEARING, NEWS, QUESTION, Options

AS_SHIPPED = Hearing(lull_ms=64, whole_ms=288, window_ms=992, open_ms=1200)


def test_a_disk_that_fails_for_a_moment_deafens_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waited for the words of a turn that the books then ended waits no longer."""

    def failing(does: Any) -> Any:
        async def do(self: Books, *given: Any, **named: Any) -> Any:
            if 2.6 < asyncio.get_running_loop().time() < 2.8:
                await asyncio.sleep(0)
                raise LedgerDamaged("can't be written: disk I/O error", "check the card")
            return await does(self, *given, **named)

        return do

    for name in ("drop", "settle"):
        monkeypatch.setattr(Books, name, failing(getattr(Books, name)))
    frames = sound((0.5, False), (0.5, True), (0.5, False), (0.5, True), (0.45, False), (0.6, True), (12, False), (1, True))
    options: Options = {
        "asr": {"transcripts": ["what time is breakfast", "where is the pool", "hello there"]},
        "eot": {"probabilities": [0.0, 1.0, 1.0]},
    }
    scene = Scene(frames, options, {"llm": 1.5, "asr": 0.05}, AS_SHIPPED, silence_after_s=20, stop_at_s=60)
    told = play(scene, tmp_path, CARDS)
    assert any("disk I/O error" in line for line in told.said)
    assert told.turns[-1].reply
    assert told.floors[-1] == "listening"


class Calling:
    """Calls a person for whoever agrees, and says so to whoever does not."""

    async def plan(self, question: str, session: Session) -> Plan:
        match consent(question, "en") if session.offered else "":
            case "yes":
                return Verbatim("I am calling one.", "phrase", "handing_over", "agreed")
            case "no":
                return Verbatim("All right, I call nobody.", "phrase", "not_handing_over")
        return Silent() if question == "stop" else Verbatim("I do not know that. Shall I call a colleague?", "phrase", "unknown")


@pytest.mark.parametrize("after", [["no", "x"], ["stop", "okay"]])
def test_a_person_that_is_called_is_called_once_and_nobody_says_otherwise(tmp_path: Path, after: list[str]) -> None:
    frames = sound(*QUESTION, (6.5, False), (0.6, True), (0.5, False), (0.6, True), (5.0, False), (0.6, True))
    options: Options = {"asr": {"transcripts": ["where is the dragon", "yes", *after]}}
    told = played(tmp_path, Scene(frames, options, {"tts": 1.5}, HEARING, Calling(), silence_after_s=15))
    assert [why for why, _, _ in told.calls] == ["agreed"]
    assert "All right, I call nobody." not in [turn.reply for turn in told.turns]


@pytest.mark.parametrize("words_s", [0.06, 0.3])
def test_a_question_that_is_not_recognised_after_a_cough_is_apologised_for(tmp_path: Path, words_s: float) -> None:
    frames = sound((0.5, False), (0.15, True), (0.35, False), (1.2, True))
    options: Options = {"asr": {"transcripts": ["", "fail: it burns"]}}
    assert played(tmp_path, Scene(frames, options, {"asr": words_s}, HEARING, silence_after_s=8)).apologies == ["asr"]


@pytest.mark.parametrize("books", [True, False])
def test_whoever_is_not_understood_stops_an_announcement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, books: bool) -> None:
    intend = Books.intend

    async def refusing(self: Books, calls: Any, begin: Any = ()) -> Any:
        if any(call.stage == "asr" for call in calls):
            await asyncio.sleep(0)
            raise LedgerDamaged("can't be written", "check the card")
        return await intend(self, calls, begin)

    if not books:
        monkeypatch.setattr(Books, "intend", refusing)
    options: Options = {"asr": {"transcripts": ["fail: it burns"]}}
    scene = Scene(sound((2.5, False), (1.2, True)), options, hearing=HEARING, silence_after_s=15, announcements=[(0.5, NEWS)])
    told = played(tmp_path, scene)
    assert told.apologies == ["asr" if books else "failed"]
    assert told.announced[0] < len(NEWS)


class Breakfast:
    """Knows one thing."""

    async def plan(self, question: str, _: Session) -> Plan:
        return Verbatim("At ten.", "faq", "breakfast") if "breakfast" in question else Think()


def test_late_words_of_an_utterance_that_is_over_do_not_end_the_next(tmp_path: Path) -> None:
    frames = sound(*QUESTION, (0.42, False), (0.3, True), (0.35, False), (0.8, True))
    options: Options = {
        "asr": {"transcripts": ["what time is breakfast", "and where is the pool", "rest"]},
        "eot": {"probabilities": [1.0, 0.0]},
    }
    steps = {"asr": 0.6, "tts": 2.0, "eot": 0.02}
    told = played(tmp_path, Scene(frames, options, steps, AS_SHIPPED, Breakfast(), silence_after_s=10))
    assert [turn.transcript for turn in told.turns] == ["what time is breakfast", "and where is the pool"]


def test_an_answer_is_not_let_out_over_who_still_speaks(tmp_path: Path) -> None:
    """He is not understood, for his recogniser died; but he is there."""
    frames = sound(*QUESTION, (0.5, False), (3.0, True))
    options: Options = {"asr": {"transcripts": ["what time is breakfast", "fail: it burns"]}}
    told = played(tmp_path, Scene(frames, options, {"tts": 1.0}, HEARING, silence_after_s=10))
    (latency_ms,) = [turn.speech_end_to_first_audio_ms for turn in told.turns if turn.reply]
    assert latency_ms is not None
    assert latency_ms > 3_500


def test_half_a_sentence_is_not_answered_because_it_began_before_the_answer(tmp_path: Path) -> None:
    frames = sound(*QUESTION, (0.4, False), (0.36, True), (0.5, False), (0.8, True))
    options: Options = {"asr": {"transcripts": ["what time is breakfast", "and where is the pool"], "ms_per_word": 170}}
    played(tmp_path, Scene(frames, options, {"tts": 1.0, "asr": 0.02}, AS_SHIPPED, silence_after_s=12))
    last = usage(tmp_path)[-1]["turn_id"]
    assert [one["attempt"] for one in usage(tmp_path) if one["turn_id"] == last and one["stage"] == "llm"] == [1]
