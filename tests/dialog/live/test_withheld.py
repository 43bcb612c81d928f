"""An answer that has not sounded yet outlives whatever has no words: on the real driver, listener and books, in simulated time."""

import asyncio
import errno
from pathlib import Path

import pytest

from agent.errors import LedgerDamaged
from agent.sim.talk import Played, Scene, sound
from tests.dialog.live.helpers import endings, played, usage
from tests.dialog.live.test_live import HEARING, QUESTION

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
