"""An answer that has not sounded yet outlives whatever has no words: on the real driver, listener and books, in simulated time."""

import asyncio
import errno
from pathlib import Path

import pytest

from agent.dialog.exchange.plan import Verbatim
from agent.dialog.session import Session
from agent.errors import LedgerDamaged
from agent.sim.talk import Played, Scene, sound
from tests.dialog.live.helpers import LONG, endings, played, usage
from tests.dialog.live.test_live import HEARING, QUESTION, Offering

REPLY = "Breakfast is served from half past six."


def heard_whole(folder: Path, told: Played) -> bool:
    """The reply, and nothing else."""
    voiced = [one["characters_heard"] for one in usage(folder) if one["stage"] == "tts"]
    return [turn.reply for turn in told.turns if turn.reply] == [REPLY] and voiced == [len(REPLY)] and not told.apologies


@pytest.mark.parametrize("speculations", [0, 2])
@pytest.mark.parametrize("after_s", [0.22, 0.26, 0.30, 0.34, 0.38, 0.42, 0.5, 0.6])
@pytest.mark.parametrize("loud_s", [0.032, 0.064])
def test_a_clatter_before_the_first_sound_costs_no_answer(tmp_path: Path, loud_s: float, after_s: float, speculations: int) -> None:
    frames = sound(*QUESTION, (after_s, False), (loud_s, True))
    told = played(tmp_path, Scene(frames, hearing=HEARING, speculations_max=speculations, silence_after_s=8))
    assert heard_whole(tmp_path, told)
    assert "withheld" not in told.floors


@pytest.mark.parametrize("words", ["", "uh-huh"])
@pytest.mark.parametrize("after_s", [0.3, 0.5, 1.0])
@pytest.mark.parametrize("voice_s", [0.1, 1.5])
def test_a_cough_before_the_first_sound_costs_no_answer(tmp_path: Path, voice_s: float, after_s: float, words: str) -> None:
    frames = sound(*QUESTION, (after_s, False), (0.15, True))
    options = {"asr": {"transcripts": ["what time is breakfast", words]}}
    told = played(tmp_path, Scene(frames, options, {"tts": voice_s}, hearing=HEARING, silence_after_s=12))
    assert heard_whole(tmp_path, told)
    assert ("withheld" in told.floors) == (voice_s > after_s)


def test_two_coughs_in_a_row_cost_no_answer(tmp_path: Path) -> None:
    """The second comes before anybody knows that the first had no words."""
    frames = sound(*QUESTION, (0.5, False), (0.15, True), (0.6, False), (0.15, True))
    options = {"asr": {"transcripts": ["what time is breakfast", "", ""]}}
    told = played(tmp_path, Scene(frames, options, {"tts": 3.0, "asr": 0.4}, hearing=HEARING, silence_after_s=15))
    assert heard_whole(tmp_path, told)


def test_who_has_more_to_ask_is_answered_that(tmp_path: Path) -> None:
    frames = sound(*QUESTION, (0.6, False), (1.2, True))
    options = {
        "asr": {"transcripts": ["what time is breakfast", "and where is the pool"]},
        "llm": {"replies": [REPLY, "It is on the roof."]},
    }
    told = played(tmp_path, Scene(frames, options, {"tts": 1.5}, hearing=HEARING, silence_after_s=12))
    assert [turn.transcript for turn in told.turns] == ["what time is breakfast", "and where is the pool"]
    assert told.floors[2:6] == ["answering", "holding", "withheld", "hearing"]
    assert [one["characters_heard"] for one in usage(tmp_path) if one["stage"] == "tts"] == [0, len("It is on the roof.")]
    assert endings(tmp_path).count(("tts", "completed")) == 1
    assert [(message.role, message.text) for message in told.sessions[0].history][:2] == [
        ("user", "what time is breakfast"),
        ("user", "and where is the pool"),
    ]


def test_books_that_refuse_are_apologised_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that has become read-only: nobody is served, and nobody is left without a word."""

    async def intend(*_: object, **__: object) -> None:
        await asyncio.sleep(0)
        raise LedgerDamaged(f"can't be written: {OSError(errno.EROFS, 'Read-only file system')}", "check the card")

    monkeypatch.setattr("agent.dialog.books.Books.intend", intend)
    told = played(tmp_path, Scene(sound(*QUESTION), hearing=HEARING, silence_after_s=8))
    assert told.apologies == ["failed"]
    assert any("Read-only file system" in line for line in told.said)


@pytest.mark.parametrize("words_s", [0.2, 0.3])
@pytest.mark.parametrize("after_s", [number / 10 for number in range(2, 12)])
def test_a_cough_leaves_a_slow_recogniser_its_question(tmp_path: Path, after_s: float, words_s: float) -> None:
    """An engine serves one call at a time: what is heard next waits until the words before it are known."""
    frames = sound(*QUESTION, (after_s, False), (0.15, True))
    options = {"asr": {"transcripts": ["what time is breakfast", ""]}}
    told = played(tmp_path, Scene(frames, options, {"asr": words_s, "tts": 0.5}, hearing=HEARING, silence_after_s=12))
    assert heard_whole(tmp_path, told)
    assert ("asr", "failed") not in endings(tmp_path)


@pytest.mark.parametrize("words_s", [0.06, 0.4])
def test_who_said_stop_before_he_coughed_has_said_it(tmp_path: Path, words_s: float) -> None:
    frames = sound(*QUESTION, (4.0, False), (0.5, True), (0.3, False), (0.25, True))
    options = {"asr": {"transcripts": ["what time is breakfast", "stop", ""]}, "llm": {"replies": [LONG]}}
    told = played(tmp_path, Scene(frames, options, {"asr": words_s}, hearing=HEARING, silence_after_s=25))
    (voiced,) = [one["characters_heard"] for one in usage(tmp_path) if one["stage"] == "tts"]
    assert 0 < voiced < len(LONG)
    assert [turn.transcript for turn in told.turns if turn.transcript] == ["what time is breakfast", "stop"]


@pytest.mark.parametrize("words_s", [0.06, 0.3])
def test_who_has_more_to_ask_and_coughs_is_answered_that(tmp_path: Path, words_s: float) -> None:
    frames = sound(*QUESTION, (0.4, False), (0.4, True), (0.3, False), (0.3, True))
    options = {
        "asr": {"transcripts": ["what time is breakfast", "and where is the pool", ""]},
        "llm": {"replies": [REPLY, "It is on the roof."]},
    }
    told = played(tmp_path, Scene(frames, options, {"tts": 3.0, "asr": words_s}, hearing=HEARING, silence_after_s=15))
    assert [turn.transcript for turn in told.turns if turn.transcript] == ["what time is breakfast", "and where is the pool"]
    voiced = [one["characters_heard"] for one in usage(tmp_path) if one["stage"] == "tts"]
    assert [one for one in voiced if one] == [len("It is on the roof.")]
    assert not told.apologies


class Historian(Offering):
    """Knows one thing."""

    async def plan(self, question: str, session: Session) -> Verbatim:
        if "castle" in question:
            return Verbatim("The castle is very old.", "faq", "castle")
        return await super().plan(question, session)


@pytest.mark.parametrize(("second", "third"), [("yes", "yes please"), ("what about the castle", "yes")])
def test_who_agrees_twice_or_late_is_told_that_a_person_comes(tmp_path: Path, second: str, third: str) -> None:
    frames = sound(*QUESTION, (9.0, False), (0.5, True), (0.4, False), (0.6, True))
    options = {"asr": {"transcripts": ["where is the dragon", second, third]}}
    told = played(tmp_path, Scene(frames, options, {"tts": 1.5}, HEARING, Historian(), silence_after_s=25))
    assert [why for why, _, _ in told.calls] == ["agreed"]
    voiced = [one["characters_heard"] for one in usage(tmp_path) if one["stage"] == "tts" and one["characters_heard"]]
    assert voiced[-1] == len("I am calling one.")


@pytest.mark.parametrize("step_s", [0.2, 0.3, 0.4])
def test_an_answer_that_fails_while_somebody_coughs_is_apologised_for(tmp_path: Path, step_s: float) -> None:
    frames = sound(*QUESTION, (0.3, False), (0.15, True))
    options = {"asr": {"transcripts": ["what time is breakfast", ""]}, "llm": {"replies": ["fail: it burns"]}}
    told = played(tmp_path, Scene(frames, options, {"llm": step_s}, hearing=HEARING, speculations_max=0, silence_after_s=10))
    assert told.apologies == ["llm"]
    assert told.floors[-2:] == ["speaking", "listening"]


def test_a_cough_with_full_books_costs_no_answer(tmp_path: Path) -> None:
    frames = sound(*QUESTION, (0.3, False), (0.15, True))
    options = {"asr": {"transcripts": ["what time is breakfast", ""]}}
    scene = Scene(frames, options, {"tts": 1.5}, HEARING, speculations_max=0, silence_after_s=10, room=lambda number: number < 2)
    assert heard_whole(tmp_path, played(tmp_path, scene))
