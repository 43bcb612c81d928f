"""Cutting an utterance for the recogniser, and what it tells while the utterance goes on."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.audio import wav
from agent.engines.asr_moonshine import SEGMENT_MS_MAX, SEGMENT_MS_MIN, AsrMoonshine, takes
from agent.engines.moonshine.network import Samples
from agent.engines.worker import Step
from agent.values import FRAME_MS, FRAME_SAMPLES, RATE_HZ, AudioChunk, StageUsage, Transcript
from tests.conftest import GOLDEN
from tests.engines.helpers import settings


def chunk(value: int, *, pause: bool) -> AudioChunk:
    return AudioChunk(value.to_bytes(2, "little", signed=True) * FRAME_SAMPLES, pause)


def whole(chunks: list[AudioChunk]) -> list[Samples]:
    return [take.samples for take in takes(iter(chunks)) if take.final]


@given(st.lists(st.booleans(), max_size=2000))
def test_nothing_is_lost_and_no_segment_is_too_long(pauses: list[bool]) -> None:
    given_chunks = [chunk(index % 30_000, pause=pause) for index, pause in enumerate(pauses)]
    cut = list(whole(given_chunks))
    assert sum(map(len, cut)) == len(pauses) * FRAME_SAMPLES
    assert all(len(segment) * 1000 / RATE_HZ <= SEGMENT_MS_MAX + FRAME_MS for segment in cut)
    heard = [round(float(segment[at]) * 32768) for segment in cut for at in range(0, len(segment), FRAME_SAMPLES)]
    assert heard == [index % 30_000 for index in range(len(pauses))]


def test_it_cuts_at_a_pause_and_not_before_it_must() -> None:
    early, late = SEGMENT_MS_MIN // FRAME_MS - 20, SEGMENT_MS_MIN // FRAME_MS + 20
    chunks = [chunk(1, pause=index in (early, late)) for index in range(late + 30)]
    assert [len(segment) // FRAME_SAMPLES for segment in whole(chunks)] == [late + 1, 29]


def test_without_a_late_pause_it_cuts_at_the_last_one_there_was() -> None:
    early = 100
    longest = -(-SEGMENT_MS_MAX // FRAME_MS)
    chunks = [chunk(1, pause=index == early) for index in range(early + 1 + 2 * longest + 7)]
    assert [len(segment) // FRAME_SAMPLES for segment in whole(chunks)] == [early + 1, longest, longest, 7]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=1200))
def test_each_wish_is_met_once_and_changes_no_segment(marks: list[tuple[bool, bool]]) -> None:
    chunks = [AudioChunk(bytes(2 * FRAME_SAMPLES), pause, partial) for pause, partial in marks]
    given_ = list(takes(iter(chunks)))
    assert [take.until_ms for take in given_ if not take.final] == [(at + 1) * FRAME_MS for at, (_, partial) in enumerate(marks) if partial]
    unasked = [AudioChunk(bytes(2 * FRAME_SAMPLES), pause) for pause, _ in marks]
    final = [(len(take.samples), take.until_ms) for take in given_ if take.final]
    assert final == [(len(take.samples), take.until_ms) for take in takes(iter(unasked))]
    assert sum(size for size, _ in final) == len(marks) * FRAME_SAMPLES


@pytest.fixture(scope="module")
def engine(models: Path) -> AsrMoonshine:
    return AsrMoonshine(settings("asr_moonshine", models))


def told(steps: list[Step[Transcript]]) -> list[tuple[Transcript, StageUsage]]:
    return [(output, usage) for output, usage in steps if output is not None]


def test_partial_transcripts_come_when_asked_for_and_are_not_billed(engine: AsrMoonshine, question: Path) -> None:
    plain = [AudioChunk(frame) for frame in wav.read(question)]
    asking = [AudioChunk(one.pcm, partial=at in (30, 60)) for at, one in enumerate(plain)]
    ((unasked, billed),) = told(list(engine.run(iter(plain))))
    steps = list(engine.run(iter(asking)))
    *partial, (final, usage) = told(steps)
    assert [(one.final, one.until_ms, used.output_tokens) for one, used in partial] == [
        (False, 31 * FRAME_MS, 0),
        (False, 61 * FRAME_MS, 0),
    ]
    assert partial[1][0].text.startswith("What time")
    assert (final, usage) == (unasked, billed)
    counts = [(used.output_tokens or 0, used.audio_in_ms or 0) for _, used in steps]
    assert counts == sorted(counts)


def test_where_no_sound_follows_the_last_partial_the_final_takes_no_run(engine: AsrMoonshine, question: Path) -> None:
    frames = list(wav.read(question))
    steps = list(engine.run(iter([AudioChunk(frame, partial=at == len(frames) - 1) for at, frame in enumerate(frames)])))
    asked = next(at for at, (output, _) in enumerate(steps) if output is not None)
    partial, final = steps[asked][0], steps[-1][0]
    assert partial is not None
    assert final == Transcript(partial.text, final=True, until_ms=partial.until_ms)
    assert len(steps) - asked == 3  # it is heard that no more follows, and the words are final
    assert steps[asked][1].output_tokens == 0
    assert steps[-1][1].output_tokens


def test_a_partial_says_nothing_of_segments_that_are_final(engine: AsrMoonshine) -> None:
    first, second = (list(wav.read(GOLDEN / "librivox" / name)) for name in ("sense-0920.wav", "sense-0880.wav"))
    filled = first + [bytes(1024)] * (SEGMENT_MS_MIN // FRAME_MS + 1 - len(first))
    chunks = [AudioChunk(frame, pause=at == len(filled) - 1, partial=at == len(filled) - 1) for at, frame in enumerate(filled)]
    chunks += [AudioChunk(frame, partial=at == len(second) // 2) for at, frame in enumerate(second)]
    heard = [output for output, _ in told(list(engine.run(iter(chunks))))]
    assert [one.final for one in heard] == [True, False, False, True]
    assert heard[0].text.startswith("Had he married")
    assert heard[1].text == ""
    assert heard[2].text.startswith("He was")
    assert heard[3].text.startswith("He was")


def test_a_segment_as_long_as_the_one_before_is_heard_anew(engine: AsrMoonshine, question: Path) -> None:
    longest = -(-SEGMENT_MS_MAX // FRAME_MS)
    silence = [bytes(1024)] * longest
    frames = list(wav.read(question))
    chunks = [AudioChunk(frame) for frame in [*silence, *frames, *silence[len(frames) :]]]
    heard = [output.text for output, _ in told(list(engine.run(iter(chunks))))]
    assert heard[0] == ""
    assert heard[1].startswith("What time")


def test_a_call_cut_short_leaves_no_draft_behind(engine: AsrMoonshine, question: Path) -> None:
    chunks = [AudioChunk(frame) for frame in wav.read(question)]
    before = told(list(engine.run(iter(chunks))))
    steps = engine.run(iter([AudioChunk(one.pcm, partial=True) for one in chunks]))
    next(output for output, _ in steps if output is not None and output.text)
    steps.close()
    assert told(list(engine.run(iter(chunks)))) == before
