"""Pieces of a sentence: none lost, growing, at the ends of words; and windows whose seams don't show."""

import itertools

import numpy as np
import pytest

from agent.engines.windows import FRAMES_FIRST, FRAMES_LAST, FRAMES_MAX, STRETCH, Ahead, Frames, pieces, window

KERNEL = np.random.default_rng(1).normal(size=7)
LATENTS = np.random.default_rng(2).normal(size=(1, 1, 300)).astype(np.float32)


def convolved(since: int, until: int) -> Frames:
    """Sees three frames on either side, as far as it is given them, and makes each two samples long."""
    sound = np.convolve(LATENTS[0, 0, since:until], KERNEL, "same")
    return np.repeat(sound, 2)[None, None].astype(np.float32)


@pytest.mark.parametrize("frames", [1, 9, 20, 28, 29, 38, 39, 100, 494, 2000])
def test_pieces_are_the_sentence_and_bounded(frames: int) -> None:
    cut = list(pieces(frames))
    assert [first for first, _ in cut] == [0, *(last for _, last in cut[:-1])]
    assert cut[-1][1] == frames
    sizes = [last - first for first, last in cut]
    assert max(sizes) <= FRAMES_MAX * (1 + STRETCH) + FRAMES_LAST
    assert sizes[0] <= FRAMES_FIRST * (1 + STRETCH) + FRAMES_LAST
    assert len(sizes) == 1 or sizes[-1] >= FRAMES_LAST


def test_a_piece_ends_where_a_word_ends_if_one_is_near() -> None:
    assert [last for _, last in pieces(200, [16, 22, 70, 71, 72, 150])] == [22, 70, 150, 200]
    assert next(pieces(200, [5, 60])) == (0, FRAMES_FIRST)


def test_no_sound_has_no_piece() -> None:
    assert list(pieces(0)) == []


def test_windows_make_what_one_run_makes() -> None:
    whole = convolved(0, 300)
    seen = [window(convolved, first, last, 300, overlap=3) for first, last in pieces(300)]
    assert np.array_equal(np.concatenate(seen, -1), whole)
    blind = [window(convolved, first, last, 300, overlap=2) for first, last in pieces(300)]
    assert not np.array_equal(np.concatenate(blind, -1), whole)


def test_frames_are_made_as_they_are_wanted_each_once_and_ever_more_at_a_time() -> None:
    asked: list[tuple[int, int]] = []

    def run(since: int, until: int) -> Frames:
        asked.append((since, until))
        return LATENTS[..., since:until]

    ahead = Ahead(run, 300, overlap=3)
    for wanted in (20, 20, 25, 30, 45, 300, 999):
        assert np.array_equal(ahead.until(wanted)[..., :wanted], LATENTS[..., :wanted])
    own = [(max(0, since + 3 * (since > 0)), until - 3 * (until < 300)) for since, until in asked]
    assert own == [(0, 20), (20, 40), (40, 80), (80, 300)]
    assert all(one[1] == other[0] for one, other in itertools.pairwise(own))
