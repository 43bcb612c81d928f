"""Refused commands are told at once or together, and every one of them is counted once."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from agent.fleet.running.refusals import TOGETHER_S, Refusal, Refusals

STEPS = st.lists(st.tuples(st.sampled_from(["forged", "stale", ""]), st.floats(0, 2 * TOGETHER_S)), max_size=60)


def test_the_first_is_told_at_once_and_the_rest_with_the_last_line() -> None:
    refusals = Refusals()
    assert refusals.note("forged", "one", 5.0) == Refusal("forged", "one")
    assert refusals.note("forged", "two", 6.0) is None
    assert refusals.note("stale", "else", 6.0) == Refusal("stale", "else")
    assert refusals.note("forged", "three", 7.0) is None
    assert refusals.due(5.0 + TOGETHER_S - 1) == []
    assert refusals.due(5.0 + TOGETHER_S) == [Refusal("forged", "three", 2)]
    assert refusals.due(500.0) == []
    assert refusals.note("forged", "four", 501.0) == Refusal("forged", "four")
    refusals.note("forged", "five", 502.0)
    assert refusals.rest() == [Refusal("forged", "five")]
    assert refusals.rest() == []


@given(STEPS)
def test_none_is_lost_and_none_is_told_more_often_than_agreed(steps: list[tuple[str, float]]) -> None:
    """A step without a code is a look at what is due."""
    refusals, now_s = Refusals(), 0.0
    noted, told = Counter[str](), Counter[str]()
    last_s: dict[str, float] = {}
    for code, seconds in steps:
        now_s += seconds
        if code:
            noted[code] += 1
        found = [refusals.note(code, "why", now_s)] if code else refusals.due(now_s)
        for one in filter(None, found):
            told[one.code] += one.count
            assert now_s - last_s.get(one.code, -TOGETHER_S) >= TOGETHER_S
            last_s[one.code] = now_s
    for one in refusals.rest():
        told[one.code] += one.count
    assert told == noted
