"""Cutting an utterance for the recogniser, and hearing a human being."""

from hypothesis import given
from hypothesis import strategies as st

from agent.engines.asr_moonshine import SEGMENT_MS_MAX, SEGMENT_MS_MIN, segments
from agent.values import FRAME_MS, FRAME_SAMPLES, RATE_HZ, AudioChunk


def chunk(value: int, *, pause: bool) -> AudioChunk:
    return AudioChunk(value.to_bytes(2, "little", signed=True) * FRAME_SAMPLES, pause)


@given(st.lists(st.booleans(), max_size=2000))
def test_nothing_is_lost_and_no_segment_is_too_long(pauses: list[bool]) -> None:
    given_chunks = [chunk(index % 30_000, pause=pause) for index, pause in enumerate(pauses)]
    cut = list(segments(iter(given_chunks)))
    assert sum(map(len, cut)) == len(pauses) * FRAME_SAMPLES
    assert all(len(segment) * 1000 / RATE_HZ <= SEGMENT_MS_MAX + FRAME_MS for segment in cut)
    heard = [round(float(segment[at]) * 32768) for segment in cut for at in range(0, len(segment), FRAME_SAMPLES)]
    assert heard == [index % 30_000 for index in range(len(pauses))]


def test_it_cuts_at_a_pause_and_not_before_it_must() -> None:
    early, late = SEGMENT_MS_MIN // FRAME_MS - 20, SEGMENT_MS_MIN // FRAME_MS + 20
    chunks = [chunk(1, pause=index in (early, late)) for index in range(late + 30)]
    assert [len(segment) // FRAME_SAMPLES for segment in segments(iter(chunks))] == [late + 1, 29]


def test_without_a_late_pause_it_cuts_at_the_last_one_there_was() -> None:
    early = 100
    longest = -(-SEGMENT_MS_MAX // FRAME_MS)
    chunks = [chunk(1, pause=index == early) for index in range(early + 1 + 2 * longest + 7)]
    assert [len(segment) // FRAME_SAMPLES for segment in segments(iter(chunks))] == [early + 1, longest, longest, 7]
