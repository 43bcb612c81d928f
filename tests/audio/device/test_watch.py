"""Whether a stream is alive, from counts and times alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.audio.device.watch import DEAD_S, FAST, RETRY_S_FIRST, RETRY_S_MOST, SLOW, START_S, STEADY_S, WINDOW_S, Cure, Verdict, Watch

RATE = 16_000
BLOCK = 160


def run(watch: Watch, seconds: float, speed: float = 1.0, *, begin: float = 0.0) -> set[Verdict]:
    """Blocks as they come at that speed; all verdicts after each."""
    seen = set()
    for number in range(1, int(seconds * RATE * speed / BLOCK) + 1):
        at = begin + number * BLOCK / RATE / speed
        watch.got(BLOCK, at)
        seen.add(watch.verdict(at))
    return seen


def test_a_stream_at_its_rate_is_fine() -> None:
    watch = Watch(RATE, 0.0)
    assert watch.verdict(0.5) == "starting"
    assert run(watch, 20) == {"fine"}
    assert watch.rate(20) == pytest.approx(1, abs=0.01)


def test_a_stream_that_stops_is_dead_and_one_that_never_began_too() -> None:
    watch = Watch(RATE, 0.0)
    assert watch.verdict(START_S + 0.1) == "dead"
    run(watch, 5)
    assert watch.verdict(5 + DEAD_S - 0.1) == "fine"
    assert watch.verdict(5 + DEAD_S + 0.1) == "dead"
    assert watch.rate(5 + DEAD_S + 0.1) == 0


@pytest.mark.parametrize("block_s", [1.2, 2.0])
def test_a_server_that_gives_seconds_at_once_lives_until_it_owes_more_than_one(block_s: float) -> None:
    watch, last = Watch(RATE, 0.0), 0.0
    for number in range(1, 20):
        for part in range(100):  # it takes a moment to give it all
            last = number * block_s + part * 0.0005
            watch.got(int(RATE * block_s / 100), last)
        at = last
        while at < last + block_s:
            assert watch.verdict(at) == "fine"
            at += 0.1
    assert watch.verdict(last + block_s + DEAD_S - 0.1) == "fine"
    assert watch.verdict(last + block_s + DEAD_S + 0.1) == "dead"


def test_half_the_samples_while_it_runs_is_seen_within_the_window() -> None:
    watch = Watch(RATE, 0.0)
    assert "slow" in run(watch, WINDOW_S, 0.47)
    assert watch.rate(WINDOW_S) == pytest.approx(0.47, abs=0.01)


def test_a_fast_clock_is_told_from_a_burst() -> None:
    fast, burst = Watch(RATE, 0.0), Watch(RATE, 0.0)
    assert "fast" in run(fast, 2.5 * WINDOW_S, 1.4)
    assert fast.rate(2.5 * WINDOW_S) == pytest.approx(1.4, abs=0.01)
    run(burst, 10)
    burst.got(int(0.9 * RATE), 10.9)  # a stall, and all that was missed at once
    assert "fast" not in run(burst, 20, begin=10.9)


@given(st.floats(0.05, 3.0), st.lists(st.floats(0, 0.08), min_size=1, max_size=30), st.integers(40, 960))
def test_whatever_the_jitter_and_the_block_the_rate_is_found(speed: float, late: list[float], block: int) -> None:
    watch = Watch(RATE, 0.0)
    last, number = 0.0, 0
    while last < 3 * WINDOW_S:
        number += 1
        last = max(last, number * block / RATE / speed + late[number % len(late)])
        watch.got(block, last)
    verdict = watch.verdict(last)
    if block / RATE / speed < DEAD_S / 2:
        assert watch.rate(last) == pytest.approx(speed, rel=0.06, abs=2 * block / RATE / WINDOW_S)
        tolerance = 0.06 * speed + 2 * block / RATE / WINDOW_S
        if abs(speed - SLOW) > tolerance and abs(speed - FAST) > tolerance:
            assert verdict == ("slow" if speed < SLOW else "fast" if speed > FAST else "fine")


def test_zeros_are_silence_only_after_a_while_and_any_noise_ends_them() -> None:
    watch = Watch(RATE, 0.0, zeros_s=3)
    run(watch, 5)
    watch.sounded(2.9, zeros=True)
    watch.sounded(0.01, zeros=False)
    watch.sounded(2.9, zeros=True)
    assert watch.verdict(5) == "fine"
    watch.sounded(0.2, zeros=True)
    assert watch.verdict(5) == "zeros"


def test_slow_dead_and_mute_are_reopened_each_time_mute_less_and_less_often() -> None:
    cure = Cure(zeros_s=10)
    verdicts: list[Verdict] = ["slow", "dead", "zeros", "zeros"]
    assert [cure.after(verdict, 0.5, at, silent=True) for at, verdict in enumerate(verdicts)] == ["reopen"] * 4
    assert cure.zeros_s == 40
    assert cure.after("fine", 1, 5, silent=True) == "go on"
    assert cure.zeros_s == 40
    cure.after("fine", 1, 6)
    assert cure.zeros_s == 10


def test_a_clock_that_stays_fast_is_taken_as_it_is() -> None:
    cure = Cure()
    assert cure.after("fast", 1.4, 0) == "reopen"
    assert cure.after("starting", 1, 1) == cure.after("fine", 1, 2) == "go on"
    assert cure.after("fast", 1.4, 12) == "retune"
    assert cure.true_rate == 1.4
    assert cure.after("dead", 0, 20) == "reopen"
    assert cure.true_rate == 1.0


def test_tries_come_at_longer_and_longer_pauses_until_a_stream_was_steady() -> None:
    cure = Cure()
    pauses = [cure.pause_s() for _ in range(12)]
    assert pauses[:3] == [RETRY_S_FIRST, RETRY_S_FIRST * 2, RETRY_S_FIRST * 4]
    assert pauses[-1] == RETRY_S_MOST
    cure.after("fine", 1, 100)
    assert cure.pause_s() == RETRY_S_MOST
    cure.after("fine", 1, 100 + STEADY_S + 1)
    assert cure.pause_s() == RETRY_S_FIRST
