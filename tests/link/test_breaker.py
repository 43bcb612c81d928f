"""The breaker: opens after failures in a row, lets one through after a while, closes when it works."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.link.breaker import Breaker
from agent.sim.clock import SimulatedClock

STEPS = st.lists(st.one_of(st.sampled_from(["ask", "ok", "failed"]), st.integers(1, 3_000)), max_size=60)
"""Questions, news, and milliseconds that pass."""


@given(STEPS, st.integers(1, 4))
def test_it_goes_as_its_drawing_says(steps: list[str | int], failures_max: int) -> None:
    clock = SimulatedClock()
    breaker = Breaker(clock, failures_max, open_ms=1_000)
    in_a_row, shut_until_ms, now_ms = 0, 0, 0
    for step in steps:
        if isinstance(step, int):
            now_ms += step
            clock.advance(now_ms / 1000 - clock.monotonic())
        elif step == "ok":
            breaker.ok()
            in_a_row = 0
        elif step == "failed":
            breaker.failed()
            in_a_row, shut_until_ms = in_a_row + 1, now_ms + 1_000
        else:
            expected = in_a_row < failures_max or now_ms >= shut_until_ms
            assert breaker.allows() is expected
            if expected and in_a_row >= failures_max:
                shut_until_ms = now_ms + 1_000


def test_half_open_lets_one_through_and_waits_for_its_news() -> None:
    clock = SimulatedClock()
    breaker = Breaker(clock, failures_max=1, open_ms=1_000)
    breaker.failed()
    states = [str(breaker.state)]
    clock.advance(1)
    states.append(breaker.state)
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.ok()
    states.append(breaker.state)
    assert states == ["open", "half-open", "closed"]
    assert breaker.allows()


def test_a_trial_nobody_reports_of_is_followed_by_another() -> None:
    clock = SimulatedClock()
    breaker = Breaker(clock, failures_max=1, open_ms=1_000)
    breaker.failed()
    clock.advance(1)
    assert breaker.allows()
    clock.advance(1)
    assert breaker.allows()


@pytest.mark.parametrize(("failures_max", "open_ms"), [(0, 1), (1, 0)])
def test_a_breaker_that_makes_no_sense_is_refused(failures_max: int, open_ms: int) -> None:
    with pytest.raises(ValueError, match="breaker"):
        Breaker(SimulatedClock(), failures_max, open_ms)
