"""The back-off: never at once, never beyond its ceiling, never before the other side wants it, and not the same for two robots."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.link.retry import Backoff
from agent.sim.clock import SimulatedClock


@given(st.integers(0, 2**32), st.integers(1, 5_000), st.integers(0, 100_000), st.integers(0, 40))
def test_a_wait_is_between_one_millisecond_and_a_ceiling_that_doubles(seed: int, first_ms: int, more_ms: int, tries: int) -> None:
    backoff = Backoff(SimulatedClock(seed), first_ms, first_ms + more_ms)
    waits = [backoff.next_ms() for _ in range(tries)]
    assert all(1 <= wait <= min(first_ms * 2**index, first_ms + more_ms) for index, wait in enumerate(waits))


@given(st.integers(0, 2**32), st.lists(st.integers(-10, 100_000), max_size=20))
def test_what_the_other_side_asks_for_is_a_floor_with_chance_above_it(seed: int, asked: list[int]) -> None:
    backoff = Backoff(SimulatedClock(seed), 100, 1_000)
    assert all(max(floor, 0) < backoff.next_ms(floor) <= max(floor, 0) + 1_000 for floor in asked)


def test_the_ceiling_is_reached_and_used_from_end_to_end() -> None:
    backoff = Backoff(SimulatedClock(1), 1, 10)
    waits = {backoff.next_ms() for _ in range(500)}
    assert waits == set(range(1, 11))


def test_after_a_success_the_next_failure_is_a_first_one() -> None:
    backoff = Backoff(SimulatedClock(2), 10, 1_000_000)
    for _ in range(20):
        backoff.next_ms()
    backoff.reset()
    assert backoff.next_ms() <= 10


def test_two_robots_don_t_return_together() -> None:
    backoffs = [Backoff(SimulatedClock(seed), 60_000, 60_000) for seed in range(100)]
    assert len({backoff.next_ms() for backoff in backoffs}) > 90


@pytest.mark.parametrize(("first_ms", "most_ms"), [(0, 1), (-1, 1), (2, 1)])
def test_a_back_off_that_makes_no_sense_is_refused(first_ms: int, most_ms: int) -> None:
    with pytest.raises(ValueError, match="back-off"):
        Backoff(SimulatedClock(), first_ms, most_ms)
