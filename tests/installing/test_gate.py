"""The gate, as the unit runs it: three starts that failed, or one that stays down, and the robot goes back by itself."""

import os
import subprocess
from pathlib import Path

import pytest

from agent.installing.layout import COMPLETE, Layout
from agent.shipped import shipped


class Robot:
    """Two versions below a root, the new one current and on trial; what the gate asks of systemd is written down."""

    def __init__(self, root: Path) -> None:
        self.layout = layout = Layout(root)
        self.asked = root / "asked"
        for name in ("old", "new"):
            (layout.versions / name / "systemd").mkdir(parents=True)
            (layout.versions / name / COMPLETE).touch()
            (layout.versions / name / "systemd/voxmeter.service").write_text(f"# of {name}\n")
        layout.units.mkdir(parents=True)
        (layout.units / "voxmeter.service").write_text("# of new\n")
        layout.begin_trial("new", "old")
        layout.switch("new")
        (root / "bin").mkdir()
        for name in ("systemctl", "systemd-run"):
            (root / "bin" / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {self.asked}\n[ "$1" != show ] || echo invocation-1\n')
            (root / "bin" / name).chmod(0o755)

    def gate(self, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        known = {"VOXMETER_HOME": str(self.layout.home), "VOXMETER_UNITS": str(self.layout.units), "VOXMETER_STATE": "/nowhere"}
        path = f"{self.layout.root}/bin:{os.environ['PATH']}"
        command = ["/bin/sh", str(shipped("systemd") / "gate"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=known | {"PATH": path} | environment)

    @property
    def starts(self) -> str:
        return self.layout.trial.read_text().split("starts=")[1].strip()


@pytest.fixture
def robot(tmp_path: Path) -> Robot:
    return Robot(tmp_path)


def test_after_three_starts_that_did_not_hold_the_old_one_starts(robot: Robot) -> None:
    for number in ("1", "2", "3"):
        assert robot.gate("starting").returncode == 0
        assert (robot.starts, robot.layout.current()) == (number, "new")
        robot.gate("ended", SERVICE_RESULT="exit-code", EXIT_STATUS="1")
    told = robot.gate("starting").stdout
    assert told == "voxmeter gate: back to old: new failed to hold after 3 starts\n"
    assert (robot.layout.current(), robot.layout.on_trial()) == ("old", ("", ""))
    assert (robot.layout.units / "voxmeter.service").read_text() == "# of old\n"
    assert robot.layout.gave_up.read_text() == "new failed to hold after 3 starts\n"
    assert "daemon-reload" in robot.asked.read_text()
    assert robot.gate("starting").stdout == ""  # and stays


def test_a_start_that_ended_in_good_order_does_not_count(robot: Robot) -> None:
    for _ in range(5):
        robot.gate("starting")
        robot.gate("ended", SERVICE_RESULT="success", EXIT_STATUS="130")
    assert (robot.starts, robot.layout.current()) == ("0", "new")


def test_one_that_stays_down_gives_way_at_once_and_the_old_one_is_started(robot: Robot) -> None:
    robot.gate("starting")
    robot.gate("ended", SERVICE_RESULT="exit-code", EXIT_STATUS="2")
    assert robot.layout.current() == "old"
    assert "systemctl --no-block restart voxmeter" in robot.asked.read_text()


def test_one_that_is_ready_must_hold_and_then_the_trial_ends(robot: Robot) -> None:
    robot.gate("starting")
    robot.gate("started")
    assert "--on-active=90" in robot.asked.read_text()
    robot.gate("confirm", "invocation-0")  # of a start before this one
    assert robot.layout.on_trial() == ("new", "old")
    robot.gate("confirm", "invocation-1")
    assert (robot.layout.on_trial(), robot.layout.current()) == (("", ""), "new")


def test_a_switch_that_never_happened_leaves_no_trial(robot: Robot) -> None:
    robot.layout.switch("old")
    robot.gate("starting")
    assert (robot.layout.on_trial(), robot.layout.current()) == (("", ""), "old")


@pytest.mark.parametrize(
    "damage", ["", "new=new\n", "new=new\nold=\nstarts=9\n", "new=new\nold=gone\nstarts=3\n", "new=new\nold=old\nstarts=x\n"]
)
def test_a_damaged_trial_never_keeps_a_robot_from_starting(damage: str, robot: Robot) -> None:
    robot.layout.trial.write_text(damage)
    for _ in range(5):
        robot.gate("starting")
        assert (robot.layout.versions / robot.layout.current() / COMPLETE).exists()


def test_without_a_trial_it_does_nothing(robot: Robot) -> None:
    robot.layout.end_trial()
    for word in ("starting", "started", "ended", "confirm", "back"):
        done = robot.gate(word, EXIT_STATUS="2", SERVICE_RESULT="exit-code")
        assert (done.returncode, done.stdout) == (0, "")
    assert robot.layout.current() == "new"
    assert not robot.asked.exists()


def test_what_root_made_in_the_robots_state_becomes_the_robots(robot: Robot, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes files of others")
    state, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    (state / "keys").mkdir(parents=True)
    (state / "keys/usage").touch()
    elsewhere.touch()
    (state / "link").symlink_to(elsewhere)
    (state / "hard").hardlink_to(elsewhere)
    os.chown(state, 61234, 61234)
    robot.gate("starting", VOXMETER_STATE=str(state))
    assert (state / "keys").stat().st_uid == (state / "keys/usage").stat().st_uid == 61234
    assert elsewhere.stat().st_uid == 0
