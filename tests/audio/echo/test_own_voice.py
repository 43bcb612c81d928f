"""The gate in front of the interruption: levels in, verdicts out."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.audio.echo.own_voice import (
    ABOVE_ECHO_DB,
    COUPLING_DB_MIN,
    ECHO_MS_MAX,
    HOLD_MS,
    LEFT_DB_MAX,
    MAY_COME_DB,
    SILENT_DB,
    OwnVoiceGate,
)

ROBOT_DB, QUIET_DB = -18.0, -75.0


def speaking(gate: OwnVoiceGate, seconds: float, *, echo_db: float = -10, left_db: float = -35, seed: int = 1) -> list[bool]:
    """The robot speaks alone, loud and soft: its echo lags and scatters, `left_db` of it are left after cleaning."""
    chance = random.Random(seed)
    levels = [ROBOT_DB + chance.uniform(-15, 5) for _ in range(int(seconds * 100))]
    verdicts = []
    for at, level in enumerate(levels):
        heard = max(QUIET_DB, levels[at - 8] + echo_db + chance.uniform(-3, 3)) if at >= 8 else QUIET_DB
        verdicts.append(gate.step(level, heard, max(QUIET_DB, heard - echo_db + left_db)))
    return verdicts


def test_its_own_voice_never_passes() -> None:
    gate = OwnVoiceGate()
    assert not any(speaking(gate, 60))
    assert -16 < gate.coupling_db < -6
    assert gate.loud_ms == 0


def test_an_echo_that_is_hardly_cancelled_does_not_pass_once_the_coupling_is_known() -> None:
    gate = OwnVoiceGate()
    speaking(gate, 5)
    assert sum(speaking(gate, 60, left_db=-24, seed=2)) == 0


@pytest.mark.parametrize("echo_db", [-12, -10, 0])
def test_a_guest_10_db_above_the_echo_passes_at_once(echo_db: float) -> None:
    gate = OwnVoiceGate()
    speaking(gate, 10, echo_db=echo_db)
    guest_db = ROBOT_DB + 5 + echo_db + 10
    held_back = [gate.step(ROBOT_DB, guest_db, QUIET_DB) for _ in range(5)]  # the canceller lets the first 50 ms not through
    assert held_back.index(True) < 4
    assert gate.loud_ms >= 20


@settings(max_examples=50)
@given(st.integers(2, 20), st.floats(-12, -10), st.integers(0, 2**32), st.integers(5, 20))
def test_an_echo_that_comes_where_none_was_stops_nothing(late: int, echo_db: float, seed: int, alone_s: int) -> None:
    """The canceller takes nothing out of it for a second."""
    gate, chance = OwnVoiceGate(), random.Random(seed)
    levels = [ROBOT_DB + chance.uniform(-15, 5) for _ in range(alone_s * 100 + 100)]
    for level in levels[: alone_s * 100]:
        gate.step(level, QUIET_DB, QUIET_DB)
    assert gate.coupling_db == COUPLING_DB_MIN
    for at in range(alone_s * 100, len(levels)):
        heard = levels[at - late] + echo_db + chance.uniform(-3, 3)
        assert not gate.step(levels[at], heard, heard)


def test_such_an_echo_is_loud_all_the_same_and_lowers_the_voice() -> None:
    gate = OwnVoiceGate()
    speaking(gate, 20, echo_db=-100)
    loud = [gate.step(ROBOT_DB, ROBOT_DB - 10, ROBOT_DB - 10) or gate.loud_ms for _ in range(3)]
    assert loud == [10, 20, 30]


@settings(max_examples=50)
@given(st.floats(-60, 0), st.integers(0, 2**32), st.floats(0, 10))
def test_a_guest_louder_than_any_echo_that_may_come_passes_in_every_hall(echo_db: float, seed: int, louder_db: float) -> None:
    gate = OwnVoiceGate()
    speaking(gate, 10, echo_db=echo_db, seed=seed)
    guest_db = ROBOT_DB + 5 + max(gate.coupling_db, MAY_COME_DB) + ABOVE_ECHO_DB + 0.5 + louder_db
    assert [gate.step(ROBOT_DB, guest_db, QUIET_DB) for _ in range(3)][-1]


def test_a_canceller_proves_nobody_once_the_echo_it_knew_has_gone() -> None:
    gate = OwnVoiceGate()
    speaking(gate, 10)
    assert gate.left_db < LEFT_DB_MAX
    speaking(gate, 10, echo_db=-100)
    assert gate.left_db == 0
    echo_db = ROBOT_DB + 5 - 10
    assert not any(gate.step(ROBOT_DB, echo_db, echo_db - 3) for _ in range(10))


def test_a_guest_whom_the_canceller_lets_through_passes_though_not_louder_than_the_echo() -> None:
    gate = OwnVoiceGate()
    speaking(gate, 10)
    echo_db = ROBOT_DB + 5 - 10
    verdicts = [gate.step(ROBOT_DB, echo_db, echo_db - 3) for _ in range(10)]
    assert verdicts[-1]


def test_between_syllables_the_verdict_holds_but_loudness_starts_again() -> None:
    gate = OwnVoiceGate()
    speaking(gate, 10)
    for _ in range(10):
        assert gate.step(ROBOT_DB, ROBOT_DB, ROBOT_DB) in (True, False)
    after = [gate.step(ROBOT_DB, QUIET_DB, QUIET_DB) for _ in range(HOLD_MS // 10 + 5)]
    assert after[HOLD_MS // 20]
    assert not after[-1]
    assert gate.loud_ms == 0


def test_while_the_robot_is_silent_everything_may_be_a_guest() -> None:
    gate = OwnVoiceGate()
    assert all(gate.step(SILENT_DB, level, level) for level in (SILENT_DB, -60.0, -20.0))
    assert gate.loud_ms == 0


def test_the_ring_of_the_room_after_its_last_word_is_its_own() -> None:
    gate = OwnVoiceGate()
    speaking(gate, 10)
    ringing = [gate.step(SILENT_DB, ROBOT_DB - 12 - at, ROBOT_DB - 40 - at) for at in range(ECHO_MS_MAX // 10 - 1)]
    assert not any(ringing)
    for _ in range(2):
        last = gate.step(SILENT_DB, QUIET_DB, QUIET_DB)
    assert last


def test_people_in_the_background_are_no_interruption_for_long() -> None:
    gate = OwnVoiceGate()
    chance = random.Random(3)
    for _ in range(3000):
        gate.step(SILENT_DB, -42 + chance.uniform(-3, 3), -42 + chance.uniform(-3, 3))
    levels = [-42 + chance.uniform(-3, 3) for _ in range(1000)]
    verdicts = [gate.step(-45.0, level, level) for level in levels]  # a voice turned low: its echo drowns in what others say
    assert not any(verdicts[200:])
    assert any(gate.step(-45.0, -30.0, -30.0) for _ in range(2))
