"""The bucket: so many at once, so many a second, and a wait that is long enough and no longer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.link.bucket import Bucket
from agent.sim.clock import SimulatedClock

RATES = st.sampled_from([0.1, 1, 3, 7.5, 100, 9999, 1_000_000])
PAUSES = st.lists(st.floats(0, 20, allow_subnormal=False), max_size=50)
"""Seconds between attempts."""


@given(RATES, st.integers(1, 20), PAUSES)
def test_never_more_than_the_burst_and_what_came_in_since(rate: float, burst: int, pauses: list[float]) -> None:
    clock = SimulatedClock()
    bucket = Bucket(clock, rate, burst)
    taken: list[float] = []
    for pause in pauses:
        clock.advance(pause)
        taken += [clock.monotonic() for _ in range(5) if bucket.take()]
    for index, since in enumerate(taken):
        assert all(later - index + 1 <= burst + (taken[later] - since + 2e-6) * rate + 1e-6 for later in range(index, len(taken)))


@given(RATES, st.integers(1, 20), PAUSES)
def test_after_the_wait_it_says_there_is_a_token_and_not_long_before(rate: float, burst: int, pauses: list[float]) -> None:
    clock = SimulatedClock()
    bucket = Bucket(clock, rate, burst)
    for pause in pauses:
        clock.advance(pause)
        wait_ms = bucket.wait_ms()
        if wait_ms > 2:
            clock.advance((wait_ms - 2) / 1000)
            assert not bucket.take()
            wait_ms = bucket.wait_ms()
        clock.advance(wait_ms / 1000)
        assert bucket.wait_ms() == 0
        assert bucket.take()


def test_a_fresh_bucket_gives_its_burst_and_then_one_by_one() -> None:
    clock = SimulatedClock()
    bucket = Bucket(clock, per_second=100, burst=3)
    assert [bucket.take() for _ in range(5)] == [True, True, True, False, False]
    clock.advance(0.01)
    assert [bucket.take() for _ in range(2)] == [True, False]


def test_a_bucket_left_alone_is_full_again_and_holds_no_more_than_its_burst() -> None:
    clock = SimulatedClock()
    bucket = Bucket(clock, per_second=1, burst=2)
    full = [bucket.full]
    assert [bucket.take() for _ in range(2)] == [True, True]
    full.append(bucket.full)
    clock.advance(1_000)
    assert [*full, bucket.full] == [True, False, True]
    assert [bucket.take() for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(("per_second", "burst"), [(0, 1), (-1, 1), (2_000_000, 1), (1, 0)])
def test_a_bucket_that_makes_no_sense_is_refused(per_second: float, burst: int) -> None:
    with pytest.raises(ValueError, match="bucket"):
        Bucket(SimulatedClock(), per_second, burst)
