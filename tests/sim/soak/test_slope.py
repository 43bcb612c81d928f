"""The slope: exact on a line, deaf to wild points, and an interval that holds the truth as often as it says."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.sim.soak.slope import theil_sen

whole = st.integers(-1000, 1000).map(float)


@settings(max_examples=50)
@given(slope=whole, base=whole, xs=st.lists(st.integers(0, 10_000), min_size=3, max_size=40, unique=True))
def test_a_line_has_its_own_slope_and_no_doubt(slope: float, base: float, xs: list[int]) -> None:
    found = theil_sen([(x, base + slope * x) for x in sorted(xs)])
    assert found is not None
    assert found.median == found.lower == found.upper == slope


@settings(max_examples=50)
@given(ys=st.lists(whole, min_size=3, max_size=40), shift=whole, factor=st.integers(1, 9))
def test_it_moves_with_what_is_measured(ys: list[float], shift: float, factor: int) -> None:
    found, moved = theil_sen(list(enumerate(ys))), theil_sen([(x, y * factor + shift * x) for x, y in enumerate(ys)])
    assert found is not None
    assert moved is not None
    assert found.lower <= found.median <= found.upper
    assert moved.median == pytest.approx(found.median * factor + shift)


@given(ys=st.lists(whole, min_size=3, max_size=30))
def test_backwards_in_time_is_the_same_the_other_way(ys: list[float]) -> None:
    found, mirrored = theil_sen(list(enumerate(ys))), theil_sen(list(enumerate(reversed(ys))))
    assert found is not None
    assert mirrored is not None
    assert mirrored.median == pytest.approx(-found.median)
    assert mirrored.upper == pytest.approx(-found.lower)


def test_a_fifth_of_wild_points_moves_it_little() -> None:
    chance = random.Random(1)
    points = [(float(x), 2.0 * x + chance.gauss(0, 1) + (500 if x % 5 == 0 else 0)) for x in range(100)]
    found = theil_sen(points)
    assert found is not None
    assert found.median == pytest.approx(2.0, abs=0.2)


def test_the_interval_holds_the_truth_in_95_of_100_runs() -> None:
    held = 0
    for seed in range(200):
        chance = random.Random(seed)
        found = theil_sen([(float(x), 0.5 * x + chance.gauss(0, 3)) for x in range(30)])
        assert found is not None
        held += found.lower <= 0.5 <= found.upper
    assert 180 <= held <= 199


def test_sens_own_way_to_count_the_ranks() -> None:
    """Of eight points without ties: 28 slopes, sigma = sqrt(8*7*21/18), (28 - 1.96 sigma) / 2 is 6.08: the 6th from either end."""
    ys = [9.0, 15.0, 19.0, 20.0, 45.0, 55.0, 78.0, 79.0]
    found = theil_sen(list(enumerate(ys)))
    assert found is not None
    slopes = sorted((later - y) / (b - a) for a, y in enumerate(ys) for b, later in enumerate(ys) if b > a)
    assert (found.lower, found.upper) == (slopes[5], slopes[22])


def test_two_points_have_no_interval() -> None:
    assert theil_sen([(0.0, 1.0), (1.0, 2.0)]) is None
    assert theil_sen([]) is None


def test_equal_heights_narrow_the_interval() -> None:
    """30 points at 5 heights, 6 at each: sigma^2 = (30*29*65 - 5 * 6*5*17) / 18, so the 163rd from either end and not the 162nd."""
    chance = random.Random(4)
    ys = [float(x % 5) for x in range(30)]
    chance.shuffle(ys)
    found = theil_sen(list(enumerate(ys)))
    assert found is not None
    slopes = sorted((later - y) / (b - a) for a, y in enumerate(ys) for b, later in enumerate(ys) if b > a)
    assert (found.lower, found.upper) == (slopes[162], slopes[-163])
    assert slopes[161] < slopes[162]
