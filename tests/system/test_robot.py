"""A robot under its unit: it hears and answers without a network, and whatever happens to it, it runs again and its books are whole."""

import time
from collections.abc import Callable

import pytest

from tests.system import sound
from tests.system.bed import Machine
from tests.system.robot import PROFILE, PROGRAM, STATE, STATE_ITSELF, UNIT, Robot

QUESTION = "/opt/question.wav"

IDLE_S = 60
"""Over which the idle robot's share of a core is taken."""

WATCHDOG_S = 30
"""The unit's WatchdogSec; after it systemd aborts, and starts again after RestartSec."""

ANSWER_S_MAX = 60

SMALL = 'mkdir /run/old && cp -a "$1/." /run/old && mount -t tmpfs -o size=40m,mode=700 tmpfs "$1" && cp -a /run/old/. "$1"'
"""Puts a small partition where the state folder is."""


def asked(robot: Robot) -> None:
    sound.play(robot.machine, QUESTION)


def until_it_speaks(robot: Robot) -> None:
    """A turn is under way: its intent is on the books, its usage is not, and it is heard."""
    robot.machine.until(
        lambda: robot.told("status")["hearing"]["floor"] == "speaking", ANSWER_S_MAX, "an answer", lambda: str(robot.told("status"))
    )


def settled(robot: Robot) -> bool:
    """Of every turn that was begun something is on the books, and of one all of it down to what was spoken: a busy machine may cut a
    question in two, and of one half nothing is understood."""
    turns = robot.outcomes().values()
    return all(turns) and any({"asr", "tts"} <= set(stages) for stages in turns)


def test_it_starts_hears_and_answers_without_a_network_and_idles(talking: Robot, record_property: Callable[[str, object], None]) -> None:
    robot = talking
    robot.start()
    robot.until_it_hears()
    robot.stop()
    record_property("start to READY, models warm, s", round(robot.start(), 2))
    robot.until_it_hears()
    asked(robot)
    assert sound.loudest(robot.machine, 6) > 0.05
    robot.machine.until(lambda: settled(robot), ANSWER_S_MAX, "a turn on the books", lambda: str(robot.outcomes()))
    (stages,) = robot.outcomes().values()
    assert set(stages.values()) == {"completed"}
    heard = next(one for one in robot.records("usage") if one["stage"] == "asr")
    assert heard["engine"] == "asr_moonshine"
    assert int(heard["billed_tokens"]) > 5
    assert robot.whole()
    time.sleep(5)
    before = robot.cpu_s()
    time.sleep(IDLE_S)
    record_property("idle with VAD on, % of a core", round((robot.cpu_s() - before) / IDLE_S * 100, 1))
    assert robot.hears()


def test_a_stop_in_mid_sentence_settles_the_turn(talking: Robot, record_property: Callable[[str, object], None]) -> None:
    robot = talking
    robot.start()
    robot.until_it_hears()
    asked(robot)
    until_it_speaks(robot)
    record_property("stop while speaking, s", round(robot.stop(), 2))
    assert robot.property("Result") == "success"
    (stages,) = robot.outcomes().values()
    assert stages["tts"] == "interrupted"
    assert set(stages) == {"asr", "llm", "tts"}
    assert robot.whole()


def test_a_kill_in_mid_sentence_is_settled_by_the_next_start(talking: Robot) -> None:
    robot = talking
    robot.start()
    robot.until_it_hears()
    asked(robot)
    until_it_speaks(robot)
    robot.machine.ok("systemctl", "kill", "--signal=KILL", UNIT)
    robot.until_restarted(1, 60)
    robot.machine.until(lambda: settled(robot), ANSWER_S_MAX, "the turn that was cut off", lambda: str(robot.outcomes()))
    assert robot.whole()
    robot.until_it_hears()


def test_power_cut_in_mid_sentence_and_at_boot_it_runs_by_itself(talking: Robot) -> None:
    robot = talking
    robot.start()
    robot.until_it_hears()
    asked(robot)
    until_it_speaks(robot)
    robot.machine.power_cut()
    robot.machine.boot()
    robot.until_it_hears()
    robot.machine.until(lambda: settled(robot), ANSWER_S_MAX, "the turn that was cut off", lambda: str(robot.outcomes()))
    assert robot.whole()


def test_a_pipeline_that_hangs_is_killed_by_the_watchdog_and_started_again(talking: Robot) -> None:
    robot = talking
    robot.start()
    robot.until_it_hears()
    robot.halt(int(robot.property("MainPID")))
    robot.until_restarted(1, WATCHDOG_S + 60)
    assert "Watchdog timeout" in robot.machine.journal(UNIT)
    robot.until_it_hears()
    assert robot.whole()


@pytest.mark.parametrize("engine", ["vad", "asr"])
def test_an_engine_that_hangs_costs_a_turn_and_not_the_robot(talking: Robot, engine: str) -> None:
    robot = talking
    robot.start()
    robot.until_it_hears()
    robot.halt(robot.engine(engine))
    asked(robot)
    robot.machine.until(lambda: answered(robot), 240, "an answer after a hang", lambda: robot.machine.journal(UNIT)[-3000:])
    assert robot.whole()


def answered(robot: Robot) -> bool:
    """Asks once more, as a guest would, and looks whether any turn was completed."""
    if not robot.hears():
        return False
    asked(robot)
    time.sleep(8)
    return any(stages.get("tts") == "completed" for stages in robot.outcomes().values())


def test_a_second_instance_is_told_so_and_does_no_harm(robot: Robot) -> None:
    robot.start()
    second = robot.machine.run([PROGRAM, "run", "--state-dir", STATE, "--profile", PROFILE])
    assert second.status == 2
    assert len(second.err.strip().splitlines()) == 1
    assert "Traceback" not in second.err
    assert robot.property("ActiveState") == "active"
    assert robot.property("NRestarts") == "0"
    assert robot.whole()


def test_a_full_state_partition_stops_no_robot(robot: Robot) -> None:
    machine: Machine = robot.machine
    robot.start()
    robot.stop()
    assert machine.enter("sh", "-ec", SMALL, "sh", STATE_ITSELF).status == 0
    machine.enter("sh", "-c", f"cat /dev/zero > {STATE_ITSELF}/filler")
    started = machine.run(["systemctl", "start", UNIT], seconds=120)
    assert "Traceback" not in machine.journal(UNIT)
    assert started.status == 0, machine.journal(UNIT)[-3000:]
    machine.enter("rm", f"{STATE_ITSELF}/filler")
    assert robot.whole()
    robot.stop()
