"""The verdict on a soak: growth, a thread too many, a broken book and a silent hall are each found, and a steady robot is let pass."""

from collections import Counter
from collections.abc import Callable

import pytest

from agent.sim.soak import judge
from agent.sim.soak.look import Held, Sample, Seen
from agent.store.verify import Verdict

WHOLE = Verdict(100, "ab")


def holding(grown_mb: float, threads: int = 0, descriptors: int = 0) -> Held:
    """A robot that has grown by so much."""
    return Held(80 + grown_mb, 90 + grown_mb, 60 + grown_mb, 5 + threads, 30 + descriptors)


def seen(minutes: float, robot: Callable[[float], Held] = lambda _: holding(0), turns: int = 600) -> Seen:
    """A sample each 10 s; the language model never changes, the robot does as told (seconds -> what it holds)."""
    samples = [Sample(at, {"robot": robot(at), "llm": Held(200, 200, 190, 3, 9)}) for at in range(0, int(minutes * 60), 10)]
    return Seen(samples, turns=turns, visits=turns, outcomes=Counter(completed=turns, interrupted=5))


def test_a_steady_robot_passes() -> None:
    told = judge.told(1, 120, seen(120), WHOLE)
    assert told["broken"] == []
    assert {told["slope_mb_per_hour"][name]["upper"] for name in ("pss", "rss", "own")} == {0}
    assert told["warm_up_minutes"] == 15
    assert told["samples"] == 105 * 6
    assert told["interrupted"] == 5
    assert told["pss_mb"]["last"] == {"sum": 280, "robot": 80, "llm": 200}


def test_what_grows_while_it_warms_up_is_no_leak() -> None:
    told = judge.told(1, 120, seen(120, lambda at: holding(min(at, 900) / 10)), WHOLE)
    assert told["broken"] == []


@pytest.mark.parametrize(("mb_an_hour", "found"), [(2.5, 0), (3.5, 1), (-9, 0)])
def test_a_slow_leak_is_found_in_two_hours(mb_an_hour: float, found: int) -> None:
    told = judge.told(1, 120, seen(120, lambda at: holding(mb_an_hour * at / 3600)), WHOLE)
    assert len(told["broken"]) == found
    assert told["slope_mb_per_hour"]["pss"]["median"] == pytest.approx(mb_an_hour)
    assert told["parts_own_mb_per_hour"]["robot"]["median"] == pytest.approx(mb_an_hour)
    assert told["parts_own_mb_per_hour"]["llm"]["median"] == 0


def test_others_on_the_machine_are_not_the_robots_leak() -> None:
    """A program that ends leaves its share of the common libraries to the robot."""
    told = judge.told(1, 120, seen(120, lambda at: Held(80 + 25 * (at > 4000), 110, 60, 5, 30)), WHOLE)
    assert told["slope_mb_per_hour"]["pss"]["upper"] > judge.UPPER_MB_H
    assert told["broken"] == []


def test_a_short_run_is_judged_by_a_looser_bound_of_its_own() -> None:
    told = judge.told(1, 6, seen(6, lambda at: holding(100 * at / 3600)), WHOLE)
    assert told["broken"] == []
    assert told["slope_mb_per_hour"]["reach"] == {"lower": judge.SHORT_LOWER_MB_H}
    assert told["samples"] == 24
    told = judge.told(1, 6, seen(6, lambda at: holding(2 * judge.SHORT_LOWER_MB_H * at / 3600)), WHOLE)
    assert "memory grows" in told["broken"][0]


@pytest.mark.parametrize(("threads", "descriptors", "found"), [(1, 0, "threads"), (0, 1, "descriptors")])
def test_one_more_that_stays_is_found(threads: int, descriptors: int, found: str) -> None:
    grows = seen(120, lambda at: holding(0, threads * (at > 5000), descriptors * (at > 5000)))
    (line,) = judge.told(1, 120, grows, WHOLE)["broken"]
    assert line.startswith(f"{found} are not constant")


def test_what_is_held_while_a_sentence_is_spoken_is_no_growth() -> None:
    spoken = seen(6, lambda at: holding(20 * (at % 30 > 0) * (at > 200)))
    assert judge.told(1, 6, spoken, WHOLE)["slope_mb_per_hour"]["rss"]["upper"] == 0


def test_one_more_for_a_moment_is_none() -> None:
    assert judge.told(1, 120, seen(120, lambda at: holding(0, 0, at % 100 == 0)), WHOLE)["broken"] == []


def test_broken_books_a_silent_hall_a_dead_robot_and_a_run_too_short() -> None:
    told = judge.told(1, 120, seen(120, turns=3), Verdict(7, "ab", 8, "the hash is another"))
    assert told["broken"] == ["3 turns in 120 minutes are no conversation", "the ledger: the hash is another"]
    gone = seen(120)
    gone.failed = "process 7 has ended: without a word"
    assert judge.told(1, 120, gone, WHOLE)["broken"] == [gone.failed]
    assert "too short" in judge.told(1, 1, seen(0.4), WHOLE)["broken"][0]
    assert "too short" in judge.told(1, 1, Seen(), WHOLE)["broken"][0]
