"""What of a stream of sound is speech: decided from probabilities alone."""

from hypothesis import given
from hypothesis import strategies as st

from agent.audio.endpoint import Listener
from agent.profile import Hearing
from agent.values import FRAME_MS

HEARING = Hearing()
PAUSE = HEARING.pause_ms // FRAME_MS
BEFORE = HEARING.before_ms // FRAME_MS
ENOUGH = HEARING.speech_ms_min // FRAME_MS


def passed(probabilities: list[float]) -> tuple[list[int], list[int]]:
    """Indices of the frames passed on, and of those marked as before a pause."""
    listener = Listener(HEARING)
    chunks = [chunk for index, probability in enumerate(probabilities) for chunk in listener.step(index.to_bytes(4, "little"), probability)]
    frames = [int.from_bytes(chunk.pcm, "little") for chunk in chunks]
    return frames, [frame for frame, chunk in zip(frames, chunks, strict=True) if chunk.pause]


def test_speech_comes_with_what_was_before_it_and_ends_with_its_pause() -> None:
    frames, pauses = passed([0.0] * 30 + [0.9] * 20 + [0.0] * 30)
    assert frames == list(range(30 + ENOUGH - BEFORE, 50 + PAUSE))
    assert pauses == [50 + PAUSE - 1]


def test_a_click_is_not_speech() -> None:
    assert passed([0.0] * 5 + [0.99] * (ENOUGH - 1) + [0.0] * 50) == ([], [])


def test_a_short_gap_inside_a_word_is_not_a_pause() -> None:
    _, pauses = passed([0.9] * 20 + [0.0] * (PAUSE - 1) + [0.9] * 20)
    assert pauses == []


def test_between_the_thresholds_speech_goes_on_and_does_not_begin() -> None:
    assert passed([0.42] * 50) == ([], [])
    assert passed([0.9] * 10 + [0.42] * 50)[0] == list(range(60))


@given(st.lists(st.floats(0, 1), max_size=400))
def test_frames_come_once_in_order_and_none_without_speech(probabilities: list[float]) -> None:
    frames, pauses = passed(probabilities)
    assert frames == sorted(set(frames))
    assert set(pauses) <= set(frames)
    if max(probabilities, default=0) < HEARING.speech_above:
        assert frames == []
