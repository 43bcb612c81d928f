"""How what was measured on the stage is told: groups, percentiles, verdicts, the onset of an interruption, sums of the books."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.bench.talk import barge_in, course, reached, run
from agent.bench.talk.barge_in import ONSET_MS, onset_s, silent_ms
from agent.bench.talk.latency import group, percentile, told
from agent.bench.talk.questions import ASK_FOR_STORY, STORY, Question, site_faq
from agent.bench.talk.stage import Asked
from agent.clock import seeded
from agent.dialog.faq import book
from agent.dialog.telling import told as tell
from agent.errors import BadInput
from agent.metering.cards import Cards
from agent.shipped import shipped
from agent.sim.talk import Scene, play, sound
from agent.values import RATE_HZ
from tests.conftest import GOLDEN, tone
from tests.metering.test_rating import card

BILLED = {"billed_tokens": "10", "outcome": "ok"}


def asked(plan: str, first_sound_ms: float | None = 300.0, *, gave_way: bool = False, cut_off: bool = False, stages: Any = ()) -> Any:
    turn = {"transcript": "", "stages": list(stages)}
    one = Asked(None, turn, plan, gave_way, first_sound_ms, 0.0, cut_off)  # type: ignore[arg-type]
    return Question("faq", "", b""), one


@pytest.mark.parametrize(
    ("plan", "gave_way", "expected"),
    [
        ("llm", False, "llm"),
        ("llm", True, "gave_way"),
        ("faq:breakfast", False, "faq"),
        ("phrase:greeting", False, "phrase"),
        ("phrase:handing_over", False, "phrase"),
        ("phrase:unknown", False, "unknown"),
        ("phrase:offer_person", False, "unknown"),
        ("phrase:small_talk", False, "unknown"),
        ("nothing", False, "none"),
        ("", False, "none"),
    ],
)
def test_an_answer_belongs_to_whose_words_sound_first(plan: str, expected: str, *, gave_way: bool) -> None:
    assert group(asked(plan, gave_way=gave_way)[1]) == expected


def test_what_waits_on_purpose_is_told_apart_and_in_the_sum() -> None:
    figures = told([asked("faq:a", 200), asked("phrase:thanks", 300), asked("phrase:unknown", 1200), asked("llm", 700)])["first_sound"]
    assert figures["ready"]["each_ms"] == [200, 300]
    assert figures["ready"]["reached"] is True
    assert figures["all_ready"]["each_ms"] == [200, 300, 1200]
    assert figures["unknown"]["median_ms"] == 1200
    assert "reached" not in figures["unknown"] | figures["all_ready"]
    assert figures["llm"]["reached"] is False
    assert figures["gave_way"]["median_ms"] is None


def test_who_was_not_heard_or_cut_off_or_not_answered_is_counted_and_waited_for_nothing() -> None:
    figures = told([asked("faq:a", 0.5, cut_off=True), asked("faq:a", None), (Question("faq", "", b""), None)])
    assert [figures[name] for name in ("questions", "not_heard", "cut_off", "no_sound")] == [3, 1, 1, 1]
    assert figures["first_sound"]["ready"] == {
        "answers": 0,
        "median_ms": None,
        "p95_ms": None,
        "each_ms": [],
        "reach_ms": [350, 600],
        "reached": None,
    }


def test_tokens_of_answers_taken_back_are_a_share_of_the_billed() -> None:
    lost = {"billed_tokens": "3", "outcome": "superseded"}
    share = told([asked("llm", stages=[BILLED, lost]), asked("faq:a", stages=[BILLED, {"billed_tokens": None, "outcome": "ok"}])])[
        "superseded"
    ]
    assert (share["share"], share["reached"]) == (0.15, True)
    assert told([asked("llm", stages=[BILLED, lost])])["superseded"]["reached"] is False
    assert told([])["superseded"]["reached"] is None


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([], 0.95) is None
    assert percentile([5.04], 0.95) == 5.0
    assert percentile([float(value) for value in range(100, 0, -1)], 0.95) == 96
    assert percentile([1.0, 2.0], 1.0) == 2.0


def test_verdicts_are_found_wherever_they_stand() -> None:
    figures = {"memory": {"reached": True}, "latency": {"llm": {"reached": None}, "words": ["reached"]}, "seed": 1}
    assert reached(figures) == {"memory": True, "latency.llm": None}


def test_the_faq_of_the_stage_can_be_read_and_has_its_stories(tmp_path: Path) -> None:
    path = shipped("device_profiles") / "faq" / "hotel.en.toml"
    entries = book.read(site_faq(path, tmp_path / "faq.toml")).entries
    assert entries[:-3] == book.read(path).entries
    assert [(entry.question, entry.answer) for entry in entries[-3:]] == list(zip(ASK_FOR_STORY, STORY, strict=True))
    assert all(entry.id.startswith(barge_in.STORY_PLAN.removeprefix("faq:")) for entry in entries[-3:])


@pytest.mark.parametrize(
    ("profile", "corpus", "picture", "says"),
    [
        ("simulated", GOLDEN, None, "no FAQ"),
        ("hotel", Path("/nowhere"), None, "holds no faq/questions.json"),
        ("hotel", GOLDEN, Path("/nowhere/talk.png"), "can't be written"),
    ],
)
def test_what_can_not_be_measured_is_refused_at_once(profile: str, corpus: Path, picture: Path | None, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        asyncio.run(run(profile, corpus, picture=picture))


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * RATE_HZ))


@pytest.mark.parametrize("level", [1.0, 0.01])
def test_an_onset_is_the_first_sound_near_its_own_level_that_lasts(level: float) -> None:
    breath, click, speech = tone(0.2, size=0.01), tone(ONSET_MS / 1000 - 0.01), tone(1.0)
    sound = np.concatenate([silence(0.1), breath, silence(0.1), click, silence(0.1), speech])
    expected = (len(sound) - len(speech)) / RATE_HZ
    assert onset_s(np.asarray(sound * level, np.float32)) == pytest.approx(expected, abs=0.006)


def test_what_is_loud_from_its_beginning_begins_there_and_silence_never() -> None:
    assert onset_s(np.asarray(tone(0.5), np.float32)) == 0
    assert onset_s(np.zeros(100, np.float32)) == 0


def test_the_books_are_held_against_the_turns_told(tmp_path: Path) -> None:
    cards = Cards.of([card()])
    played = play(Scene(sound((0.4, False), (0.9, True), (6.0, False))), tmp_path, cards, 1)
    turns = [tell(turn, card(), reply_audio=None, problems=[]) for turn in played.turns]
    held = course.books(tmp_path, turns)
    assert held["reached"] is True
    assert held["stages"] == {"on_books": 3, "told": 3, "of_no_turn": 0}
    assert held["sums"]["on_books"]["audio_in_ms"] > 0
    turns[0]["stages"].append(dict.fromkeys(course.COUNTED))
    assert course.books(tmp_path, turns)["reached"] is False
    turns[0]["stages"].pop()
    turns[0]["stages"][0]["audio_in_ms"] += 1
    assert course.books(tmp_path, turns)["reached"] is False
    assert course.books(tmp_path, [])["stages"]["of_no_turn"] == 3


def test_silent_is_who_sounds_no_more_until_the_guest_has_finished() -> None:
    played = np.asarray(np.concatenate([tone(1.2), silence(0.4), tone(0.2), silence(1.0), tone(0.2)]), np.float32)
    assert silent_ms(played, 1.0, 2.7) == pytest.approx(800, abs=6)
    assert silent_ms(played, 1.0, 1.5) == pytest.approx(200, abs=6)
    assert silent_ms(played, 1.9, 2.7) == 0
    assert silent_ms(played, 1.0, 2.9) is None
    assert silent_ms(played, 1.0, 2.0) is None


def test_a_pause_of_the_story_s_own_is_no_giving_way() -> None:
    chance = seeded(1)
    story = np.array([chance.uniform(-0.3, 0.3) for _ in range(3 * RATE_HZ)], np.float32)
    gives_way = story.copy()
    gives_way[int(1.6 * RATE_HZ) :] = 0
    assert (times := barge_in._times(0.0, gives_way, 1.5, 3.0, story)) is not None
    assert times[1] == pytest.approx(100, abs=10)
    story[int(1.515 * RATE_HZ) : int(1.9 * RATE_HZ)] = 0
    gives_way[int(1.515 * RATE_HZ) :] = 0
    assert barge_in._times(0.0, gives_way, 1.5, 3.0, story) is None
