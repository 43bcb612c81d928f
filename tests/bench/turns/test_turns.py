"""The bench of turns: its clips are what they say, and its listener waits and cuts off as told."""

import asyncio
from typing import Any

import numpy as np

from agent.bench.turns import clips as made
from agent.bench.turns.clips import Clip, clips, in_hall, said, seams, with_pause
from agent.bench.turns.replay import ASR_MS, ENDS_MS, Judged, Replay, alike, judge
from agent.clock import seeded
from agent.engines.scripted import TtsScripted
from agent.ports import EngineSettings
from agent.profile import Hearing
from agent.values import RATE_HZ, Speech, StageUsage
from tests.audio.local import LocalEngine
from tests.conftest import tone

HEARING = Hearing(lull_ms=64, whole_ms=288, window_ms=992, open_ms=1184, whole_above=0.9)


class Scripted:
    """Models that hear a sine as speech, and words as told."""

    def __init__(self, whole: float, words: str, ends: float = 0.5) -> None:
        self._whole, self._words, self._ends = whole, words, ends

    def ends(self, words: str) -> float:
        assert words == self._words
        return self._ends

    def speech(self, frames: tuple[bytes, ...]) -> tuple[float, ...]:
        return tuple(float(np.abs(np.frombuffer(frame, "<i2")).mean() > 300) for frame in frames)

    def whole(self, _: bytes) -> float:
        return self._whole

    def words(self, _: bytes) -> str:
        return self._words


def question(pause_ms: int) -> Clip:
    sound = (tone(1.6) * 32767).astype(np.int16)
    return in_hall("what time", with_pause(sound, RATE_HZ, pause_ms) if pause_ms else sound, pause_ms, seeded(1))


def judged(models: Any, pause_ms: int, known: tuple[str, ...] = ()) -> Judged:
    return judge(models, HEARING, [question(pause_ms)], known)


def test_who_is_taken_to_have_finished_is_cut_off_in_a_pause() -> None:
    assert len(judged(Scripted(0.95, "what time is it"), 600).cut_off) == 1
    assert judged(Scripted(0.95, "what time does"), 600).cut_off == []
    assert judged(Scripted(0.1, "what time is it"), 600).cut_off == []
    assert judged(Scripted(0.1, "what time is it"), 600).told()["lulls_per_clip"] == 2


def test_words_a_model_takes_to_be_all_are_cut_off_too() -> None:
    assert len(judged(Scripted(0.1, "what time is it", ends=0.9), 600).cut_off) == 1
    assert judged(Scripted(0.1, "what time does", ends=0.9), 600).cut_off == []
    (silence_ms,) = judged(Scripted(0.1, "what time is it", ends=0.9), 0).silence_ms
    assert HEARING.lull_ms + ASR_MS + ENDS_MS <= silence_ms <= HEARING.whole_ms + 64


def test_silence_is_counted_from_the_last_sound() -> None:
    whole, known, lasting = (
        judged(Scripted(0.95, "what time is it"), 0),
        judged(Scripted(0.1, "What time is it?"), 0, ("what time is it",)),
        judged(Scripted(0.1, "what time does"), 0),
    )
    assert [told.why for told in (whole, known, lasting)] == [["whole"], ["whole"], ["open"]]
    assert HEARING.whole_ms <= whole.silence_ms[0] <= HEARING.whole_ms + 64
    assert HEARING.lull_ms + ASR_MS <= known.silence_ms[0] <= HEARING.whole_ms + 64
    assert HEARING.open_ms <= lasting.silence_ms[0] <= HEARING.open_ms + 64


def test_silence_around_a_question_is_none_of_it() -> None:
    sound = (tone(1.0) * 32767).astype(np.int16)
    still = np.zeros(RATE_HZ // 2, np.int16)
    clip = in_hall("", np.concatenate([still, sound, still]), 0, seeded(1))
    assert clip.spoken_ms == in_hall("", sound, 0, seeded(1)).spoken_ms == 1_500 - 1


def test_marks_of_a_later_piece_count_from_the_beginning() -> None:
    class Pieces(LocalEngine):
        def open(self) -> Any:
            call = super().open()
            call._outputs.put_nowait(Speech(bytes(2_000), 16_000, "one ", ((900, 3),)))
            return call

    tts = Pieces(TtsScripted(EngineSettings("tts_scripted", "script", options={"ms_per_character": 1})))
    whole = asyncio.run(said(tts, "two"))
    assert whole.marks == ((900, 3),)
    tts.worker = Again()
    assert asyncio.run(said(tts, "two")).marks == ((900, 3), (1_500, 7))


class Again:
    """A voice whose piece has a mark."""

    def run(self, inputs: Any) -> Any:
        for text in inputs:
            yield Speech(bytes(2_000), 16_000, text, ((500, 3),)), StageUsage()


def test_a_clip_nobody_hears_is_counted() -> None:
    clip = in_hall("", (tone(0.5, size=0.011) * 32767).astype(np.int16), 0, seeded(1))
    assert judge(Scripted(1, ""), HEARING, [clip]).told()["unheard"] == 1  # type: ignore[arg-type]
    assert Replay(Scripted(1, ""), HEARING).run(clip).ended is None  # type: ignore[arg-type]


def test_words_are_known_despite_small_mistakes_only() -> None:
    assert alike("What time does breakfast tart?", "What time does breakfast start")
    assert not alike("What time does breakfast?", "What time does breakfast start")


def test_a_pause_is_between_two_words_and_as_long_as_it_says() -> None:
    sound = (tone(1.0) * 32767).astype(np.int16)
    sound[8000:8400] = 0
    paused = with_pause(sound, 8100, 500)
    assert len(paused) == len(sound) + 8000
    assert np.array_equal(paused[:7000], sound[:7000])
    assert np.array_equal(paused[-7000:], sound[-7000:])
    assert not paused[8200:16000].any()


def test_seams_are_in_the_middle_of_the_words() -> None:
    marks = tuple((1000 * word, 5 * word) for word in range(1, 9))
    assert seams(Speech(bytes(20_000), 16_000, "a" * 40, marks)) == list(marks[1:6])
    assert seams(Speech(bytes(20_000), 16_000, "one two", marks[:2])) == [marks[0]]


def test_each_question_comes_with_a_pause_and_without_and_again_from_the_same_seed(monkeypatch: Any) -> None:
    class Marked(TtsScripted):
        def run(self, inputs: Any) -> Any:
            for speech, usage in super().run(inputs):
                assert speech is not None
                words = [index for index, letter in enumerate(speech.text) if letter == " "]
                yield Speech(speech.pcm, speech.rate_hz, speech.text, tuple((960 * index, index) for index in words)), usage

    async def main(seed: int) -> list[tuple[Clip, Clip]]:
        tts = LocalEngine(Marked(EngineSettings("tts_scripted", "script")))
        assert (await said(tts, "one two")).marks == ((2880, 3),)
        return [pair async for pair in clips(tts, (1.0, 1.1), seeded(seed))]

    monkeypatch.setattr(made, "QUESTIONS", ("What time does breakfast start",))
    pairs = asyncio.run(main(1))
    assert len(pairs) == 2
    for paused, plain in pairs:
        assert " | " in paused.text
        assert paused.text.replace(" |", "") == plain.text
        assert 300 <= paused.pause_ms <= 1000
        assert paused.spoken_ms - plain.spoken_ms == paused.pause_ms
    assert pairs == asyncio.run(main(1))
    assert pairs != asyncio.run(main(2))
