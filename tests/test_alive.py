"""Who is alive: each part by its own sign, within its own silence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.alive import SILENCES_S, Vitals


def test_a_part_is_stuck_only_beyond_its_silence_and_says_so() -> None:
    vitals = Vitals({"capture": 45, "ledger": 60}, 100)
    assert vitals.due(145)
    assert not vitals.due(145.1)
    (stuck,) = vitals.stuck(146)
    assert str(stuck) == "capture has stood still for 46 s (allowed: 45 s)"
    vitals.beat("capture", 146)
    assert vitals.due(160)


def test_who_is_overdue_longest_is_named_first() -> None:
    vitals = Vitals({"ledger": 60, "capture": 45, "sync": 120}, 0)
    assert [one.part for one in vitals.stuck(200)] == ["capture", "ledger", "sync"]


def test_only_a_sign_that_changes_is_progress() -> None:
    vitals = Vitals({"capture": 45}, 0)
    for now in range(0, 40, 5):
        vitals.saw("capture", (1, 7), now)
    assert not vitals.due(46)
    vitals.saw("capture", (1, 8), 46)
    assert vitals.due(90)


def test_a_robot_without_ears_or_backend_has_fewer_parts() -> None:
    vitals = Vitals({"pipeline": 45, "ledger": 60}, 0)
    vitals.saw("pipeline", 0, 44)
    assert vitals.due(60)
    with pytest.raises(KeyError):
        vitals.beat("sync", 1)


def test_a_beat_that_comes_late_does_not_set_the_clock_back() -> None:
    vitals = Vitals({"capture": 45}, 0)
    vitals.beat("capture", 100)
    vitals.beat("capture", 50)
    assert vitals.due(140)


@given(st.lists(st.tuples(st.sampled_from(sorted(SILENCES_S)), st.floats(0, 1000)), max_size=50), st.floats(0, 2000))
def test_it_is_due_exactly_while_nobody_is_stuck(beats: list[tuple[str, float]], now: float) -> None:
    vitals = Vitals(SILENCES_S, 0)
    last = dict.fromkeys(SILENCES_S, 0.0)
    for part, at in beats:
        vitals.beat(part, at)
        last[part] = max(last[part], at)
    late = {part for part, at in last.items() if now - at > SILENCES_S[part]}
    assert {one.part for one in vitals.stuck(now)} == late
    assert vitals.due(now) == (not late)
