"""The gate, as the unit runs it: a version that fails, hangs, stays down or is deaf gives way, whenever the power is cut."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from agent.alive import SILENCES_S
from agent.installing.health import TRIAL_SECONDS
from agent.installing.layout import COMPLETE, Layout, Trial
from agent.shipped import shipped

SYSTEMCTL = """#!/bin/sh
echo systemctl "$@" >> {root}/asked
case "$*" in
"show -p InvocationID --value voxmeter") cat {root}/invocation ;;
"show -p Job "*) cat {root}/job ;;
"show "*) echo InvocationID=$(cat {root}/invocation); echo ActiveState=$(cat {root}/active) ;;
esac
"""

CUT = """#!/bin/sh
# Counts, and cuts the gate off before or after the command whose turn it is.
turn=$(($(cat {root}/turn) - 1)); echo $turn > {root}/turn
[ $turn != 0 ] || kill -KILL $PPID
/usr/bin/{name} "$@"; status=$?
[ $turn != -1 ] || kill -KILL $PPID
exit $status
"""


class Robot:
    """Two versions below a root, the new one current and on trial; what the gate asks of systemd is written down."""

    def __init__(self, root: Path) -> None:
        self.layout = layout = Layout(root)
        self.asked = root / "asked"
        self.root = root
        for name in ("old", "new", "newer"):
            (layout.versions / name / "systemd").mkdir(parents=True)
            (layout.versions / name / "bin").mkdir()
            (layout.versions / name / COMPLETE).touch()
            for one in ("voxmeter.service", "voxmeter-billing.service", "voxmeter"):
                (layout.versions / name / "systemd" / one).write_text(f"# of {name}\n")
        for path in (layout.units, layout.command.parent, root / "bin"):
            path.mkdir(parents=True)
        layout.begin_trial(Trial("new", "old", heard=True))
        layout.switch("new")
        self.lay("new")
        self.write("systemctl", SYSTEMCTL)
        self.write("systemd-run", '#!/bin/sh\necho systemd-run "$@" >> {root}/asked\n')
        self.runs("invocation-1")
        self.judges("it holds", 0)

    def write(self, name: str, script: str) -> None:
        path = self.root / "bin" / name
        path.write_text(script.format(root=self.root, name=name))
        path.chmod(0o755)

    def lay(self, version: str) -> None:
        for one in ("voxmeter.service", "voxmeter-billing.service"):
            (self.layout.units / one).write_text(f"# of {version}\n")
        self.layout.command.write_text(f"# of {version}\n")

    def laid(self) -> set[str]:
        """Of which versions that is what lies outside their folders."""
        paths = (*self.layout.units.glob("*.service"), self.layout.command)
        return {path.read_text().removeprefix("# of ").strip() for path in paths}

    def runs(self, invocation: str, state: str = "active") -> None:
        (self.root / "invocation").write_text(invocation)
        (self.root / "active").write_text(state)
        (self.root / "job").write_text("")

    def judges(self, line: str, status: int, more: str = "") -> None:
        """What the new version's own verdict is to be."""
        python = self.layout.versions / "new/bin/python"
        python.write_text(f"#!/bin/sh\necho python \"$@\" >> {self.asked}\n{more}\necho '{line}'\nexit {status}\n")
        python.chmod(0o755)

    def gate(self, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        known = {"VOXMETER_HOME": str(self.layout.home), "VOXMETER_UNITS": str(self.layout.units), "VOXMETER_STATE": "/nowhere"}
        known |= {"VOXMETER_COMMAND": str(self.layout.command)}
        path = f"{self.layout.root}/bin:{os.environ['PATH']}"
        command = ["/bin/sh", str(shipped("systemd") / "gate"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=known | {"PATH": path} | environment)

    @property
    def starts(self) -> str:
        return str(trial.starts) if (trial := self.layout.on_trial()) else ""


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
    assert (robot.layout.current(), robot.layout.on_trial()) == ("old", None)
    assert robot.laid() == {"old"}
    assert robot.layout.gave_up.read_text() == "new failed to hold after 3 starts\n"
    assert "daemon-reload" in robot.asked.read_text()
    assert robot.gate("starting").stdout == ""  # and stays


@pytest.mark.parametrize(
    ("status", "job"), [("130", ""), ("TERM", ""), ("0", "1234")], ids=["by Ctrl-C", "before it listened", "by systemd"]
)
def test_a_start_that_was_ended_from_outside_does_not_count(status: str, job: str, robot: Robot) -> None:
    (robot.root / "job").write_text(job)
    for _ in range(5):
        robot.gate("starting")
        robot.gate("ended", SERVICE_RESULT="success", EXIT_STATUS=status)
    assert (robot.starts, robot.layout.current()) == ("0", "new")


def test_one_that_stays_down_gives_way_at_once_and_the_old_one_is_started(robot: Robot) -> None:
    robot.gate("starting")
    robot.gate("ended", SERVICE_RESULT="exit-code", EXIT_STATUS="2")
    assert robot.layout.current() == "old"
    assert "systemctl --no-block restart voxmeter" in robot.asked.read_text()


def test_one_that_ends_in_good_order_by_itself_counts(robot: Robot) -> None:
    for _ in range(3):
        robot.gate("starting")
        robot.gate("started")
        robot.gate("ended", SERVICE_RESULT="success", EXIT_STATUS="0")
    robot.gate("starting")
    assert robot.layout.current() == "old"


def test_one_that_hangs_gives_way_when_the_watchdog_has_ended_it(robot: Robot) -> None:
    robot.gate("starting")
    robot.gate("started")
    done = robot.gate("ended", SERVICE_RESULT="watchdog", EXIT_STATUS="ABRT")
    assert (robot.layout.current(), robot.layout.on_trial(), robot.laid()) == ("old", None, {"old"})
    assert "back to old: new hung and was ended by the watchdog" in done.stdout
    assert "restart" not in robot.asked.read_text()  # systemd does that by itself


def test_it_is_judged_when_anything_that_hangs_would_have_been_noticed() -> None:
    gate = (shipped("systemd") / "gate").read_text()
    unit = (shipped("systemd") / "voxmeter.service").read_text()
    hold_s, watchdog_s = (int(re.findall(rf"\b{name}=(\d+)", text)[0]) for name, text in (("hold_s", gate), ("WatchdogSec", unit)))
    assert hold_s == TRIAL_SECONDS
    assert hold_s > max(SILENCES_S.values()) + watchdog_s


def test_one_that_is_ready_must_hold_and_then_the_trial_ends(robot: Robot) -> None:
    robot.gate("starting")
    robot.gate("started")
    assert f"--on-active={TRIAL_SECONDS}" in robot.asked.read_text()
    robot.gate("confirm", "invocation-0")  # of a start before this one
    robot.runs("invocation-1", "inactive")
    robot.gate("confirm", "invocation-1")  # stopped by hand meanwhile
    assert robot.layout.on_trial() == Trial("new", "old", heard=True, starts=1)
    robot.runs("invocation-1")
    robot.gate("confirm", "invocation-1")
    assert (robot.layout.on_trial(), robot.layout.current()) == (None, "new")
    assert "python -I -m agent.installing verdict --heard" in robot.asked.read_text()


def test_one_that_did_not_hear_before_need_not_hear(robot: Robot) -> None:
    robot.layout.begin_trial(Trial("new", "old", heard=False))
    robot.gate("confirm", "invocation-1")
    assert "--heard" not in robot.asked.read_text()
    assert robot.layout.on_trial() is None


def test_one_that_is_judged_not_to_hold_gives_way(robot: Robot) -> None:
    robot.judges("it does not hear, as the version before did: no such device", 1)
    robot.gate("confirm", "invocation-1")
    assert (robot.layout.current(), robot.layout.on_trial(), robot.laid()) == ("old", None, {"old"})
    assert robot.layout.gave_up.read_text() == "new does not hold: it does not hear, as the version before did: no such device\n"
    assert "systemctl --no-block restart voxmeter" in robot.asked.read_text()


def test_one_that_can_not_even_be_judged_gives_way(robot: Robot) -> None:
    (robot.layout.versions / "new/bin/python").unlink()
    robot.gate("confirm", "invocation-1")
    assert robot.layout.current() == "old"


def test_a_start_while_it_is_judged_has_a_trial_of_its_own(robot: Robot) -> None:
    robot.judges("it does not answer", 1, f"echo invocation-2 > {robot.root}/invocation")
    robot.gate("confirm", "invocation-1")
    assert (robot.layout.current(), robot.layout.on_trial() is not None) == ("new", True)


def test_a_switch_that_never_happened_leaves_no_trial_and_no_unit_of_the_other(robot: Robot) -> None:
    robot.layout.switch("old")
    assert robot.laid() == {"new"}
    robot.gate("starting")
    assert (robot.layout.on_trial(), robot.layout.current(), robot.laid()) == (None, "old", {"old"})
    assert "daemon-reload" in robot.asked.read_text()


def test_one_on_trial_that_another_was_to_follow_is_still_on_trial(robot: Robot) -> None:
    robot.layout.begin_trial(Trial("newer", "old", heard=True))  # and the power was cut before the switch
    robot.lay("newer")
    robot.gate("starting")
    assert robot.layout.on_trial() == Trial("new", "old", heard=True, starts=1)
    assert (robot.layout.current(), robot.laid()) == ("new", {"new"})


@pytest.mark.parametrize("how", ["fails", "hangs", "is deaf", "holds", "was never switched to"])
def test_wherever_the_power_is_cut_units_are_those_of_the_version_that_runs(how: str, robot: Robot, tmp_path: Path) -> None:
    """One command after another of the gate is the last that was carried out, or the first that was not; the next start puts it right."""
    for name in ("ln", "mv", "cp", "rm", "sync", "chmod"):
        robot.write(name, CUT)
    turn, cuts = tmp_path / "turn", 0
    while cuts < 100:
        robot.layout.begin_trial(Trial("new", "old", heard=True, starts=3 if how == "fails" else 1))
        robot.layout.switch("old" if how == "was never switched to" else "new")
        robot.lay("old" if how in ("fails", "holds") else "new")
        robot.judges("it holds" if how == "holds" else "it is deaf", int(how != "holds"))
        turn.write_text(str(cuts + 1))
        words = {"hangs": ["ended"], "is deaf": ["confirm", "invocation-1"], "holds": ["confirm", "invocation-1"]}.get(how, ["starting"])
        done = robot.gate(*words, SERVICE_RESULT="watchdog")
        turn.write_text("1000")
        robot.gate("starting")
        assert robot.laid() == {robot.layout.current()}, cuts
        trial = robot.layout.on_trial()
        assert robot.layout.current() == "old" if trial is None and how != "holds" else robot.layout.whole(robot.layout.current())
        if done.returncode >= 0:
            break
        cuts += 1
    assert 2 < cuts < 100
    assert robot.layout.current() == ("new" if how == "holds" else "old")


@pytest.mark.parametrize("missing", ["ln", "mv", "cp", "rm", "sync"])
def test_a_step_that_fails_never_costs_both_the_trial_and_the_way_back(missing: str, robot: Robot) -> None:
    robot.write(missing, "#!/bin/sh\nexit 1\n")  # a full disk, say
    robot.layout.begin_trial(Trial("new", "old", heard=True, starts=3))
    robot.gate("starting")
    (robot.root / "bin" / missing).unlink()
    robot.gate("starting")
    assert (robot.layout.current(), robot.layout.on_trial(), robot.laid()) == ("old", None, {"old"})


@pytest.mark.parametrize(
    "damage", ["", "=\nnew", "new=new\n", "new=new\nold=\nstarts=9\n", "new=new\nold=gone\nstarts=3\n", "new=new\nold=old\nstarts=x\n"]
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
    me = os.geteuid()
    robots = 61234 if me == 0 else me  # only root makes files of others
    state, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    (state / "keys").mkdir(parents=True)
    (state / "keys/usage").touch()
    elsewhere.touch()
    (state / "link").symlink_to(elsewhere)
    (state / "hard").hardlink_to(elsewhere)
    os.chown(state, robots, -1)
    robot.gate("starting", VOXMETER_STATE=str(state))
    assert (state / "keys").stat().st_uid == (state / "keys/usage").stat().st_uid == robots
    assert elsewhere.stat().st_uid == me
