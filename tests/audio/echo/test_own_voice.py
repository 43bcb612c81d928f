"""The gate in front of the interruption: levels in, verdicts out."""

import random

import pytest

from agent.audio.echo.own_voice import ECHO_MS_MAX, HOLD_MS, SILENT_DB, OwnVoiceGate

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


@pytest.mark.parametrize("echo_db", [-30, -10, 0])
def test_a_guest_10_db_above_the_echo_passes_at_once(echo_db: float) -> None:
    gate = OwnVoiceGate()
    speaking(gate, 10, echo_db=echo_db)
    guest_db = ROBOT_DB + 5 + echo_db + 10
    held_back = [gate.step(ROBOT_DB, guest_db, QUIET_DB) for _ in range(5)]  # the canceller lets the first 50 ms not through
    assert held_back.index(True) < 4
    assert gate.loud_ms >= 20


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
