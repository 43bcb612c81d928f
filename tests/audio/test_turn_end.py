"""Turns of live sound: decided from probabilities, verdicts and hints alone."""

import itertools
import math
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.audio.turn_end import ANSWER_MS, ONSET_MS_MAX, PARTIAL_MS, RESUME_FRAMES, SURE_ABOVE, SURE_FRAMES, Endpointer
from agent.ports import Began, Chunk, Ended, FalseStart, Lull, Onset, Resumed, SpeechEvent
from agent.profile import Hearing
from agent.values import FRAME_MS, AudioChunk

HEARING = Hearing(lull_ms=64, known_ms=160, whole_ms=192, window_ms=608, open_ms=1504, whole_above=0.5, barge_in_ms=192, barge_in_above=0.6)
SPEECH = [0.9] * 20


class Hall:
    """Feeds numbered frames and keeps what came of them."""

    def __init__(self, hearing: Hearing = HEARING, **changed: Any) -> None:
        self.endpointer = Endpointer(hearing.model_copy(update=changed))
        self.events: list[SpeechEvent] = []
        self._frames = 0

    def hears(self, probabilities: Iterable[float]) -> "Hall":
        for probability in probabilities:
            self._frames += 1
            self.events += self.endpointer.step(self._frames.to_bytes(4, "little"), probability, self._frames * FRAME_MS / 1000)
        return self

    def says(self, probability: float) -> "Hall":
        self.events += self.endpointer.verdict(probability)
        return self

    @property
    def kinds(self) -> str:
        """Without the chunks between."""
        return " ".join(type(event).__name__ for event in self.events if not isinstance(event, Chunk))

    @property
    def ended(self) -> Ended:
        ends = [event for event in self.events if isinstance(event, Ended)]
        assert len(ends) == 1
        return ends[0]


def chunks(events: list[SpeechEvent]) -> list[AudioChunk]:
    found: list[AudioChunk] = []
    for event in events:
        found += event.chunks if isinstance(event, Began) else [event.chunk] if isinstance(event, Chunk | Lull) else []
    return found


def numbers(events: list[SpeechEvent]) -> list[int]:
    return [int.from_bytes(chunk.pcm, "little") for chunk in chunks(events)]


def test_speech_begins_with_what_was_before_it_and_ends_with_the_lull() -> None:
    hall = Hall().hears([0.0] * 30 + SPEECH + [0.0] * 30)
    assert hall.kinds == "Onset Began Lull Ended"
    before = HEARING.before_ms // FRAME_MS
    assert numbers(hall.events) == list(range(31 - before, 30 + len(SPEECH) + HEARING.lull_ms // FRAME_MS + 1))
    assert isinstance(hall.events[0], Onset)
    assert hall.events[0].at == pytest.approx(0.96)  # when frame 31 began
    assert chunks(hall.events)[-1].partial
    assert hall.ended == Ended("window", HEARING.window_ms)


def test_a_complete_sentence_ends_early_and_an_incomplete_one_late() -> None:
    assert Hall().hears(SPEECH + [0.0] * 2).says(0.9).hears([0.0] * 60).ended == Ended("whole", HEARING.whole_ms)
    assert Hall().hears(SPEECH + [0.0] * 2).says(0.0).hears([0.0] * 60).ended == Ended("open", HEARING.open_ms)


def test_the_less_likely_the_end_the_longer_the_window() -> None:
    waits = [Hall().hears(SPEECH + [0.0] * 2).says(word / 10).hears([0.0] * 60).ended.quiet_ms for word in range(10)]
    assert waits == sorted(waits, reverse=True)
    assert len(set(waits)) > 3


def test_words_that_cannot_be_all_hold_the_turn_open_whatever_the_sound_says() -> None:
    hall = Hall().hears(SPEECH + [0.0] * 2).says(0.9)
    hall.events += hall.endpointer.hint(unfinished=True)
    assert hall.hears([0.0] * 60).ended == Ended("open", HEARING.open_ms)


def test_words_somebody_vouches_for_end_the_turn_whatever_the_sound_says() -> None:
    hall = Hall().hears(SPEECH + [0.0] * 2).says(0.0)
    hall.events += hall.endpointer.hint(unfinished=False, complete=True)
    assert hall.hears([0.0] * 60).ended == Ended("whole", HEARING.known_ms)
    again = Hall().hears(SPEECH + [0.0] * 2)
    again.events += again.endpointer.hint(unfinished=False, complete=True)
    assert again.hears([0.9] * 3 + [0.0] * 60).ended.why == "window"  # of other words nobody has said anything


def told_at_the_lull(**words: Any) -> Hall:
    hall = Hall().hears(SPEECH + [0.0] * 2).says(0.1)
    hall.events += hall.endpointer.hint(**words)
    return hall


def test_words_a_model_takes_to_be_all_end_the_turn_like_a_complete_sentence() -> None:
    sure = HEARING.ends_above
    assert told_at_the_lull(unfinished=False, ends=sure).hears([0.0] * 60).ended == Ended("whole", HEARING.whole_ms)
    assert told_at_the_lull(unfinished=False, ends=sure - 0.01).hears([0.0] * 60).ended.why == "open"
    again = told_at_the_lull(unfinished=False, ends=sure)
    assert again.hears([0.9] * 3 + [0.0] * 60).ended.why == "window"  # of other words nobody has said anything


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.booleans(), st.booleans())
def test_the_likelier_the_words_are_all_the_shorter_the_window(
    sound: float, less: float, more: float, unfinished: bool, complete: bool
) -> None:
    less, more = sorted((less, more))
    waits = []
    for ends in (None, less, more):
        hall = Hall().hears(SPEECH + [0.0] * 2).says(sound)
        hall.events += hall.endpointer.hint(unfinished=unfinished, complete=complete, ends=ends)
        waits.append(hall.hears([0.0] * 60).ended.quiet_ms)
    assert waits[0] >= waits[1] >= waits[2]
    assert not unfinished or waits == [HEARING.open_ms // FRAME_MS * FRAME_MS] * 3


def test_finished_words_alone_decide_nothing() -> None:
    hall = Hall().hears(SPEECH + [0.0] * 2)
    hall.events += hall.endpointer.hint(unfinished=False)
    assert hall.hears([0.0] * 60).ended.why == "window"


def test_a_hint_on_less_than_all_sound_is_none() -> None:
    hall = Hall().hears(SPEECH + [0.0] * 2).says(0.9)
    hall.events += hall.endpointer.hint(unfinished=True, until_ms=hall.endpointer.given_ms - FRAME_MS)
    assert hall.hears([0.0] * 60).ended.why == "whole"


def test_a_verdict_after_its_window_ends_the_turn_at_once() -> None:
    hall = Hall().hears(SPEECH + [0.0] * 10)
    assert hall.kinds == "Onset Began Lull"
    assert hall.says(0.9).ended == Ended("whole", 10 * FRAME_MS)


def test_a_verdict_outside_a_lull_is_of_no_use() -> None:
    hall = Hall().says(0.9).hears(SPEECH).says(0.9).hears([0.0] * 60).says(0.9)
    assert hall.ended.why == "window"


def test_a_new_lull_needs_a_new_verdict() -> None:
    hall = Hall().hears(SPEECH + [0.0] * 2).says(0.9).hears(SPEECH + [0.0] * 60)
    assert hall.kinds == "Onset Began Lull Resumed Lull Ended"
    assert hall.ended.why == "window"


def test_what_was_held_back_comes_when_the_customer_goes_on_and_not_when_the_turn_is_over() -> None:
    hall = Hall().hears(SPEECH + [0.0] * 15)
    assert numbers(hall.events)[-1] == len(SPEECH) + 2
    hall.hears(SPEECH)
    assert numbers(hall.events) == list(range(1, 2 * len(SPEECH) + 16))
    held = [chunk.pause for chunk in chunks(hall.events)]
    assert held.index(True) == len(SPEECH) + HEARING.pause_ms // FRAME_MS - 1  # where a recogniser may cut
    assert held.count(True) == 1


def test_a_click_in_a_lull_neither_resumes_nor_begins_the_count_anew() -> None:
    hall = Hall().hears(SPEECH + [0.0] * 10 + [0.99] * (RESUME_FRAMES - 1) + [0.0] * 30)
    assert hall.kinds == "Onset Began Lull Ended"
    assert hall.ended.quiet_ms == HEARING.window_ms


def test_a_turn_does_not_end_in_the_first_frame_of_going_on() -> None:
    quiet = HEARING.window_ms // FRAME_MS - 1
    assert Hall().hears(SPEECH + [0.0] * quiet + [0.99] * RESUME_FRAMES).kinds == "Onset Began Lull Resumed"


def test_sound_after_the_end_is_before_the_next_beginning() -> None:
    hall = Hall().hears(SPEECH + [0.0] * 2).says(0.9).hears([0.0] * 4).hears(SPEECH)
    assert hall.kinds == "Onset Began Lull Ended Onset Began"
    assert numbers(hall.events) == list(range(1, 2 * len(SPEECH) + 7))


def test_a_click_and_a_cough_are_false_starts() -> None:
    enough = HEARING.speech_ms_min // FRAME_MS
    assert Hall().hears([0.99] * (enough - 1) + [0.0] * 9).kinds == "Onset FalseStart"
    cough = [0.7] * 5 + [0.0] * 10
    hall = Hall()
    hall.endpointer.robot_speaks = True
    assert hall.hears(cough).kinds == "Onset FalseStart"
    assert Hall().hears(cough).kinds == "Onset Began Lull"


def test_who_surely_speaks_interrupts_sooner() -> None:
    frames = {}
    for probability in (SURE_ABOVE - 0.01, SURE_ABOVE):
        hall = Hall()
        hall.endpointer.robot_speaks = True
        frames[probability] = next(n for n in range(1, 99) if hall.hears([probability]).kinds.endswith("Began"))
    assert list(frames.values()) == [HEARING.barge_in_ms // FRAME_MS, math.ceil(HEARING.barge_in_ms / FRAME_MS / SURE_FRAMES)]
    assert Hall().hears([SURE_ABOVE] * (HEARING.speech_ms_min // FRAME_MS - 1)).kinds == "Onset"


def test_who_interrupts_is_louder_and_longer() -> None:
    hall = Hall()
    hall.endpointer.robot_speaks = True
    assert hall.hears([HEARING.barge_in_above - 0.01] * 50).kinds == ""
    hall.hears([0.7] * 3 + [0.1] + [0.7] * 4)  # a plosive inside a word
    assert hall.kinds == "Onset Began"
    before = HEARING.before_ms // FRAME_MS
    assert numbers(hall.events) == list(range(51 - before, 59))  # all since the onset, and what was before


def test_a_noise_that_stays_undecided_is_none() -> None:
    hall = Hall(speech_ms_min=320).hears([0.9, 0.9, *[0.1, 0.9] * 200])
    assert "Began" not in hall.kinds
    assert hall.kinds.startswith("Onset FalseStart Onset")
    onsets = [event.at for event in hall.events if isinstance(event, Onset)]
    assert onsets[1] - onsets[0] <= ONSET_MS_MAX / 1000 + 2 * FRAME_MS / 1000


def test_partials_are_asked_for_again_and_again_but_not_in_quiet() -> None:
    asked = [index for index, chunk in enumerate(chunks(Hall().hears([0.9] * 200).events)) if chunk.partial]
    assert {b - a for a, b in itertools.pairwise(asked)} == {-(-PARTIAL_MS // FRAME_MS)}
    assert len(asked) == 200 * FRAME_MS // PARTIAL_MS
    flicker = Hall().hears([0.9] * 3 + [0.9, 0.0] * 90)
    assert [i for i, chunk in enumerate(chunks(flicker.events)) if chunk.partial and i % 2 == 0] == []


def test_a_monologue_ends_and_goes_on_as_another_turn_once_it_could_be_answered() -> None:
    hall = Hall(utterance_ms_max=20_000).hears([0.9] * 1000)
    assert hall.kinds == "Onset Began Ended Onset Began"
    assert [e.why for e in hall.events if isinstance(e, Ended)] == ["long"]
    onset = [at for at, event in enumerate(hall.events) if isinstance(event, Onset)][1]
    assert chunks(hall.events[onset:])[0].pcm == (625 + ANSWER_MS // FRAME_MS - HEARING.before_ms // FRAME_MS).to_bytes(4, "little")


@pytest.mark.parametrize(("quiet_ms", "heard"), [(64, False), (608, True)])
def test_after_a_monologue_a_pause_or_the_answer_lets_others_begin(quiet_ms: int, heard: bool) -> None:
    hall = Hall(utterance_ms_max=10_000).hears([0.9] * 320 + [0.0] * (quiet_ms // FRAME_MS) + [0.9] * 10)
    assert hall.kinds.endswith("Began") is heard
    hall = Hall(utterance_ms_max=10_000).hears([0.9] * 320)
    hall.endpointer.robot_speaks = True
    assert hall.hears([0.9] * 20).kinds.endswith("Onset Began")


def test_two_people_and_music_make_turns_of_bounded_length() -> None:
    """One speaks as soon as the other stops; then a song, of which the detector takes every other bar for speech."""
    for sound in ([0.9] * 40 + [0.2] + [0.8] * 35 + [0.3] * 3, [0.9] * 8 + [0.1] * 8):
        hall = Hall(utterance_ms_max=10_000)
        for _ in range(60):
            hall.hears(sound).says(0.1)
        lengths = [len(event.chunks) if isinstance(event, Began) else 1 for event in hall.events if isinstance(event, Began | Chunk | Lull)]
        turns = hall.kinds.count("Ended")
        assert turns >= 2
        assert sum(lengths) * FRAME_MS <= (turns + 1) * 10_400


def test_the_stream_ends_where_it_ends() -> None:
    for probabilities, kinds in (
        ([], ""),
        ([0.9], "Onset FalseStart"),
        (SPEECH, "Onset Began Ended"),
        ([*SPEECH, 0.0, 0.0], "Onset Began Lull Ended"),
    ):
        hall = Hall().hears(probabilities)
        hall.events += hall.endpointer.finish()
        assert hall.kinds == kinds


class TestPushToTalk:
    def test_only_what_is_said_with_the_key_held_counts(self) -> None:
        hall = Hall(push_to_talk=True).hears(SPEECH)
        assert hall.events == []
        hall.events += hall.endpointer.press(1.5)
        assert hall.events == [Onset(1.5)]
        hall.hears(SPEECH + [0.0] * 90).says(0.9)
        assert hall.kinds == "Onset Began Lull"  # however long the silence
        hall.events += hall.endpointer.release()
        assert hall.ended.why == "released"
        assert hall.hears(SPEECH).kinds == "Onset Began Lull Ended"

    def test_a_key_held_in_silence_is_a_false_start(self) -> None:
        hall = Hall(push_to_talk=True)
        hall.events += hall.endpointer.press()
        hall.hears([0.0] * 500)
        hall.events += hall.endpointer.release()
        assert hall.kinds == "Onset FalseStart"

    def test_the_robots_own_speech_makes_nobody_shout(self) -> None:
        hall = Hall(push_to_talk=True)
        hall.endpointer.robot_speaks = True
        hall.events += hall.endpointer.press()
        assert hall.hears([0.55] * 3).kinds == "Onset Began"

    def test_a_key_that_is_stuck_ends_a_turn_all_the_same(self) -> None:
        hall = Hall(push_to_talk=True, utterance_ms_max=5_000)
        hall.events += hall.endpointer.press()
        hall.hears(SPEECH + [0.0] * 300)
        assert hall.ended.why == "long"

    def test_without_it_the_key_does_nothing(self) -> None:
        hall = Hall()
        assert hall.endpointer.press() + hall.endpointer.release() == []


STEP = st.one_of(
    st.tuples(st.just("sound"), st.floats(0, 1), st.integers(1, 30)),
    st.tuples(st.just("verdict"), st.floats(0, 1), st.just(1)),
    st.tuples(st.just("hint"), st.sampled_from([0.0, 1.0]), st.just(1)),
    st.tuples(st.just("robot"), st.sampled_from([0.0, 1.0]), st.just(1)),
    st.tuples(st.just("key"), st.sampled_from([0.0, 1.0]), st.just(1)),
)


def play(hall: Hall, steps: list[tuple[str, float, int]]) -> None:
    endpointer = hall.endpointer
    for kind, value, times in steps:
        match kind:
            case "sound":
                hall.hears([value] * times)
            case "verdict":
                hall.says(value)
            case "hint":
                hall.events += endpointer.hint(unfinished=value > 0, complete=value == 0)
            case "robot":
                endpointer.robot_speaks = value > 0
            case _:
                hall.events += endpointer.press() if value else endpointer.release()
    hall.events += endpointer.finish()


FOLLOWS: dict[str, set[str]] = {
    "": {"Onset"},
    "Onset": {"FalseStart", "Began"},
    "FalseStart": {"Onset"},
    "Began": {"Chunk", "Lull", "Ended"},
    "Chunk": {"Chunk", "Lull", "Ended"},
    "Lull": {"Resumed", "Ended"},
    "Resumed": {"Chunk"},
    "Ended": {"Onset"},
}


@given(st.lists(STEP, max_size=60), st.booleans(), st.sampled_from([600, 2_000, 30_000]))
def test_whatever_happens_events_come_in_order_and_sound_once(steps: list[tuple[str, float, int]], key: bool, longest: int) -> None:
    hall = Hall(push_to_talk=key, utterance_ms_max=longest)
    play(hall, steps)
    before = ""
    for event in hall.events:
        assert type(event).__name__ in FOLLOWS[before]
        before = type(event).__name__
    assert before in ("", "FalseStart", "Ended")
    given = numbers(hall.events)
    assert given == sorted(set(given))
    turn: list[int] = []
    for event in hall.events:
        turn += numbers([event])
        if isinstance(event, Ended):
            assert turn == list(range(turn[0], turn[0] + len(turn)))  # nothing is missing between Began and Ended
            turn = []


def test_every_kind_of_event_is_seen() -> None:
    hall = Hall().hears([0.9, 0.0, *SPEECH, 0.0, 0.0, 0.0, *SPEECH, *[0.0] * 60])
    assert {type(event) for event in hall.events} == {Onset, FalseStart, Began, Chunk, Lull, Resumed, Ended}
