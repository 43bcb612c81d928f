"""A conversation on the real driver, listener and books, in simulated time."""

from pathlib import Path
from typing import Any

import pytest

from agent.clock import SystemClock
from agent.dialog.exchange.plan import Verbatim
from agent.dialog.session import Session
from agent.dialog.wording.intents import consent
from agent.profile import Hearing
from agent.sim.talk import Scene, sound
from agent.sim.talk.campaign import scene, unanswered
from tests.dialog.live.helpers import LONG, endings, played, usage

SEED = SystemClock().seed()

HEARING = Hearing(lull_ms=64, whole_ms=200, window_ms=600, open_ms=1500, barge_in_ms=192)

Options = dict[str, dict[str, Any]]

QUESTION = ((0.5, False), (1.5, True))


def test_an_answer_begun_in_the_lull_sounds_when_the_turn_is_over(tmp_path: Path) -> None:
    told = played(tmp_path, Scene(sound(*QUESTION), hearing=HEARING))
    (turn,) = told.turns
    assert (turn.transcript, turn.reply) == ("what time is breakfast", "Breakfast is served from half past six.")
    assert endings(tmp_path) == [("asr", "completed"), ("llm", "completed"), ("tts", "completed")]
    assert turn.speech_end_to_first_audio_ms is not None
    assert turn.speech_end_to_first_audio_ms < 500


def test_a_customer_who_goes_on_supersedes_it_and_is_answered_once(tmp_path: Path) -> None:
    frames = sound((0.5, False), (1.0, True), (0.7, False), (1.0, True))
    options: Options = {
        "asr": {"transcripts": ["what time is breakfast on sunday"], "ms_per_word": 300},
        "eot": {"probabilities": [0.1, 0.9]},
    }
    told = played(tmp_path, Scene(frames, options, hearing=HEARING))
    (turn,) = told.turns
    assert turn.transcript == "what time is breakfast on sunday"
    assert sorted(endings(tmp_path)) == sorted(
        [("llm", "superseded"), ("tts", "superseded"), ("asr", "completed"), ("llm", "completed"), ("tts", "completed")]
    )
    assert {one["attempt"] for one in usage(tmp_path) if one["outcome"] == "superseded"} == {1}
    assert {one["amount"] for one in usage(tmp_path) if one["outcome"] == "superseded"} == {"0.00"}


def test_speculation_is_capped(tmp_path: Path) -> None:
    frames = sound((0.5, False), *[(0.6, True), (0.5, False)] * 5, (0.6, True))
    options: Options = {"asr": {"transcripts": ["a b c d e f g h i j k"], "ms_per_word": 300}, "eot": {"probabilities": [0.1] * 5 + [0.9]}}
    played(tmp_path, Scene(frames, options, hearing=HEARING, speculations_max=2))
    assert endings(tmp_path).count(("llm", "superseded")) == 2
    assert endings(tmp_path).count(("llm", "completed")) == 1


def test_an_interruption_stops_the_voice_and_the_conversation_keeps_what_was_heard(tmp_path: Path) -> None:
    frames = sound(*QUESTION, (3.0, False), (1.5, True))
    options: Options = {"asr": {"transcripts": ["what time is breakfast", "and where is it"]}, "llm": {"replies": [LONG, "In the garden."]}}
    told = played(tmp_path, Scene(frames, options, hearing=HEARING))
    first, second = told.turns
    assert (first.reply.strip(), second.reply) == (LONG.strip(), "In the garden.")
    assert ("tts", "interrupted") in endings(tmp_path)
    (cut,) = [one for one in usage(tmp_path) if one["outcome"] == "interrupted"]
    assert 0 < cut["characters_heard"] < cut["characters"]
    (session,) = told.sessions
    assert [message.text for message in session.history[::2]] == ["what time is breakfast", "and where is it"]
    assert LONG.startswith(session.history[1].text)
    assert abs(len(session.history[1].text) - cut["characters_heard"]) <= 2  # and the spaces between what was said piece by piece


def test_a_cough_lowers_the_voice_and_nothing_is_lost(tmp_path: Path) -> None:
    frames = sound(*QUESTION, (3.0, False), (0.1, True))
    told = played(tmp_path, Scene(frames, {"llm": {"replies": [LONG]}}, hearing=HEARING, silence_after_s=20))
    assert endings(tmp_path) == [("asr", "completed"), ("llm", "completed"), ("tts", "completed")]
    assert usage(tmp_path)[-1]["characters_heard"] == usage(tmp_path)[-1]["characters"]
    assert len(told.turns) == 1


@pytest.mark.parametrize("noise", ["uh-huh", "", "okay"])
def test_who_only_says_that_he_listens_interrupts_nobody(tmp_path: Path, noise: str) -> None:
    frames = sound(*QUESTION, (3.0, False), (0.6, True))
    options: Options = {"asr": {"transcripts": ["what time is breakfast", noise]}, "llm": {"replies": [LONG]}}
    played(tmp_path, Scene(frames, options, hearing=HEARING, silence_after_s=20))
    assert endings(tmp_path).count(("tts", "completed")) == 1
    (voice,) = [one for one in usage(tmp_path) if one["stage"] == "tts"]
    assert voice["characters_heard"] == voice["characters"]


def test_a_session_ends_in_silence_and_the_next_customer_begins_another(tmp_path: Path) -> None:
    frames = sound(*QUESTION, (20.0, False), (1.5, True))
    told = played(tmp_path, Scene(frames, hearing=HEARING, silence_s=5, silence_after_s=4))
    first, second = told.turns
    assert first.session_id != second.session_id
    assert len(told.sessions[0].history) == 2


def test_a_monologue_is_answered_after_the_longest_utterance(tmp_path: Path) -> None:
    told = played(tmp_path, Scene(sound((0.5, False), (20.0, True)), hearing=HEARING.model_copy(update={"utterance_ms_max": 8000})))
    assert told.turns[0].reply
    assert [one.usage.characters_heard for one in told.turns[0].stages if one.stage == "tts"] > [0]
    assert max(one.usage.audio_in_ms or 0 for turn in told.turns for one in turn.stages) <= 8_100


@pytest.mark.parametrize("stop_at_s", [0.9, 1.95, 2.2, 2.6, 3.4, 6.0])
def test_a_robot_that_is_stopped_has_settled(tmp_path: Path, stop_at_s: float) -> None:
    played(tmp_path, Scene(sound(*QUESTION), {"llm": {"replies": [LONG]}}, hearing=HEARING, stop_at_s=stop_at_s))
    assert endings(tmp_path)


@pytest.mark.parametrize("gap_s", [2.2 + 0.064 * step for step in range(12)])
def test_who_says_okay_as_an_answer_ends_leaves_nobody_speaking(tmp_path: Path, gap_s: float) -> None:
    frames = sound((0.5, False), (1.0, True), (gap_s, False), (0.45, True))
    options: Options = {
        "asr": {"transcripts": ["what time is breakfast", "okay"]},
        "llm": {"replies": ["It is served from half past six."]},
    }
    told = played(tmp_path, Scene(frames, options, hearing=HEARING))
    assert told.floors[-1] == "listening"


def test_an_interruption_there_is_no_room_for_lets_the_answer_go_on(tmp_path: Path) -> None:
    frames = sound(*QUESTION, (3.0, False), (0.8, True))
    told = played(tmp_path, Scene(frames, {"llm": {"replies": [LONG]}}, hearing=HEARING, silence_after_s=20, room=lambda turn: turn == 1))
    (voice,) = [one for one in usage(tmp_path) if one["stage"] == "tts" and one["characters"] > 40]
    assert (voice["outcome"], voice["characters_heard"]) == ("completed", voice["characters"])
    assert told.floors[-1] == "listening"
    assert len(told.turns) == 1


OFFER = "I am sorry, I do not know that. Shall I call a colleague?"


class Offering:
    """Knows nothing, and calls a person for whoever agrees."""

    async def plan(self, question: str, session: Session) -> Verbatim:
        agreed = session.offered and consent(question, "en") == "yes"
        return Verbatim("I am calling one.", "phrase", "handing_over", "agreed") if agreed else Verbatim(OFFER, "phrase", "unknown")


@pytest.mark.parametrize(("gap_s", "called"), [(1.0, []), (3.4, ["agreed"])], ids=["before it is offered", "over its last words"])
def test_a_yes_over_the_offer_of_a_person_is_one(tmp_path: Path, gap_s: float, called: list[str]) -> None:
    frames = sound(*QUESTION, (gap_s, False), (0.6, True))
    options: Options = {"asr": {"transcripts": ["where is the casino", "yes please"]}}
    told = played(tmp_path, Scene(frames, options, hearing=HEARING, mind=Offering(), silence_after_s=20))
    assert [why for why, _, _ in told.calls] == called


@pytest.mark.parametrize(("stage", "script"), [("asr", "transcripts"), ("llm", "replies")])
def test_a_turn_that_came_to_nothing_is_apologised_for(tmp_path: Path, stage: str, script: str) -> None:
    options: Options = {stage: {script: ["fail: it burns"]}}
    told = played(tmp_path, Scene(sound(*QUESTION), options, hearing=HEARING, silence_after_s=20))
    assert told.apologies == [stage]
    assert told.floors[-1] == "listening"


NEWS = "The bar closes in ten minutes, and the pool in twenty. " * 2

AT_S = 0.5


GIVES_WAY = ["doubting", "hushed", "hearing", "lulled", "answering"]


@pytest.mark.parametrize(
    ("loud_s", "words", "whole", "floors"),
    [
        (0.0, "", True, ["doubting", "speaking", "listening"]),
        (0.1, "", True, ["doubting", "speaking", "doubting", "speaking", "listening"]),
        (0.6, "uh-huh", True, ["doubting", "hushed", "speaking", "doubting", "speaking", "listening"]),
        (0.9, "stop", False, [*GIVES_WAY, "listening"]),
        (1.5, "what time is breakfast", False, [*GIVES_WAY, "speaking", "listening"]),
    ],
)
def test_an_announcement_gives_way_as_an_answer_does(tmp_path: Path, loud_s: float, words: str, whole: bool, floors: list[str]) -> None:
    frames = sound((2.5, False), (loud_s, True), (1.0, False), (0.1 if whole else 0.0, True))  # whole: then somebody coughs
    scene = Scene(frames, {"asr": {"transcripts": [words]}}, hearing=HEARING, silence_after_s=20, announcements=[(AT_S, NEWS)])
    told = played(tmp_path, scene)
    (characters,) = told.announced
    assert characters == len(NEWS) if whole else 0 < characters < 0.8 * len(NEWS)
    assert told.floors == ["speaking", *floors]


def test_whoever_has_the_floor_is_not_talked_over(tmp_path: Path) -> None:
    told = played(tmp_path, Scene(sound(*QUESTION), hearing=HEARING, announcements=[(1.2, NEWS)]))
    assert told.announced == [0]
    assert [turn.reply for turn in told.turns] == ["Breakfast is served from half past six."]


@pytest.mark.parametrize(("stop_at_s", "some"), [(AT_S + 0.05, False), (AT_S + 1.0, True), (AT_S + 3.0, True)])
def test_a_robot_that_is_stopped_announces_no_more(tmp_path: Path, stop_at_s: float, some: bool) -> None:
    told = played(tmp_path, Scene(sound((1.0, False)), hearing=HEARING, stop_at_s=stop_at_s, announcements=[(AT_S, NEWS)]))
    (heard,) = told.announced
    assert 0 < heard < len(NEWS) if some else heard == 0


def test_the_silence_that_ends_a_session_goes_on_through_an_announcement(tmp_path: Path) -> None:
    frames = sound(*QUESTION, (14.0, False), (1.5, True))
    told = played(tmp_path, Scene(frames, hearing=HEARING, silence_s=10, announcements=[(6.5, NEWS)]))
    first, second = told.turns
    assert told.announced == [len(NEWS)]
    assert first.session_id != second.session_id


def test_who_speaks_into_an_announcement_after_that_silence_is_another_guest(tmp_path: Path) -> None:
    frames = sound(*QUESTION, (8.5, False), (1.5, True))
    told = played(tmp_path, Scene(frames, hearing=HEARING, silence_s=5, announcements=[(6.5, NEWS)]))
    first, second = told.turns
    assert 0 < told.announced[0] < len(NEWS)
    assert first.session_id != second.session_id


class Colleague:
    """Calls one for whoever says ambulance."""

    async def plan(self, question: str, session: Session) -> Verbatim:
        del session
        calls = "ambulance" in question
        return Verbatim("I am calling a colleague, please wait.", "phrase", "handing_over", "asked" if calls else "")


def test_a_person_is_called_even_if_the_promise_is_interrupted_before_it_sounds(tmp_path: Path) -> None:
    frames = sound((0.5, False), (1.0, True), (0.5, False), (0.6, True))
    options: Options = {"asr": {"transcripts": ["call an ambulance", "please hurry"]}}
    told = played(tmp_path, Scene(frames, options, {"tts": 1.5}, HEARING, Colleague()))
    assert [why for why, _, _ in told.calls] == ["asked"]
    assert ("tts", "superseded") in endings(tmp_path)  # nobody has heard of it


@pytest.mark.parametrize("seed", [SEED + number for number in range(6)])  # its name tells the seed
def test_wherever_a_conversation_is_interrupted_stage_records_are_turns_are_sessions(tmp_path: Path, seed: int) -> None:
    told = played(tmp_path, scene(seed), seed)
    assert unanswered(scene(seed), told) == []


@pytest.mark.parametrize("frame", range(8))
def test_who_speaks_into_a_still_hall_is_no_sign_of_load_wherever_in_a_step_it_begins(tmp_path: Path, frame: int) -> None:
    frames = sound((1.0 + frame * 0.032, False), (0.032, True), (1.5, False), (1.5, True))  # a click and a question
    told = played(tmp_path, Scene(frames, hearing=HEARING, idle_ms=256))
    (turn,) = told.turns
    assert turn.transcript == "what time is breakfast"
    assert told.said == []


def test_a_detector_that_does_not_keep_up_is_a_sign_of_load(tmp_path: Path) -> None:
    told = played(tmp_path, Scene(sound((0.5, False), (3.0, True)), hearing=HEARING, idle_ms=256, steps_s={"vad": 0.045}))
    assert "load: level 1 of 4" in told.said
