"""What is left undone when the machine can't keep up: one thing after the other, and taken back as slowly."""

from hypothesis import given
from hypothesis import strategies as st

from agent.dialog.live.load import BEHIND_MS, LEVEL_MAX, LOOKS_TO_RECOVER, WELL_MS, Lag, Load


def test_it_rises_one_by_one_and_recovers_one_by_one() -> None:
    load = Load()
    assert [load.look(BEHIND_MS + 1, 0) for _ in range(6)] == [1, 2, 3, 4, 4, 4]
    assert [load.look(WELL_MS, 0) for _ in range(LOOKS_TO_RECOVER)] == [4] * (LOOKS_TO_RECOVER - 1) + [3]


def test_a_gap_in_a_reply_counts_once() -> None:
    load = Load()
    assert [load.look(0, 1), load.look(0, 1), load.look(0, 2)] == [1, 1, 2]


def test_neither_good_nor_bad_changes_nothing() -> None:
    load = Load()
    load.look(BEHIND_MS + 1, 0)
    assert {load.look((BEHIND_MS + WELL_MS) / 2, 0) for _ in range(50)} == {1}


def test_sound_that_lay_there_by_agreement_is_not_late_and_what_came_later_is() -> None:
    lag = Lag()
    lag.note(BEHIND_MS * 2, 10.0)  # nobody has the floor
    lag.attend(10.0, idle=False)
    lag.note(BEHIND_MS, 10.1)  # it came before anybody had
    lag.attend(10.2, idle=False)
    assert lag.taken() == 0
    lag.note(90, 10.1)
    lag.note(30, 10.1)
    assert (lag.taken(), lag.taken()) == (90, 0)
    lag.attend(11.0, idle=True)
    lag.note(90, 12.0)
    assert lag.taken() == 0


@given(st.lists(st.tuples(st.floats(0, 1000), st.integers(0, 2)), max_size=80))
def test_it_moves_one_step_at_a_time_between_its_ends(looks: list[tuple[float, int]]) -> None:
    load, gaps = Load(), 0
    for lag_ms, more in looks:
        before, gaps = load.level, gaps + more
        assert abs(load.look(lag_ms, gaps) - before) <= 1
        assert 0 <= load.level <= LEVEL_MAX
