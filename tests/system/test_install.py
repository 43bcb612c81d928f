"""Versions come and go: installed out of one file, upgraded, refused, rolled back, cut off by the power, taken away; the robot runs on."""

import json
from collections.abc import Callable
from functools import partial

import pytest

from tests.system import bundles
from tests.system.bed import Done
from tests.system.robot import STATE_ITSELF, UNIT, Robot

Version = Callable[..., str]

HOME = "/opt/voxmeter"

IMPATIENT = "[Service]\nTimeoutStartSec=15\n"
"""So that a version that never gets ready is not waited for a minute and a half."""

UPGRADE_S_MAX = 600


def current(robot: Robot) -> str:
    """The version that the next start runs, without the digest of its bundle."""
    return robot.machine.ok("readlink", f"{HOME}/current").strip().removeprefix("versions/").split("-")[0]


def upgrade(robot: Robot, bundle: str) -> Done:
    return robot.machine.run(["voxmeter", "upgrade", "--bundle", bundle, "--json"], seconds=UPGRADE_S_MAX)


def runs(robot: Robot, number: str) -> None:
    """That version is the current one, its unit is active and it answers."""
    robot.machine.until(lambda: robot.property("ActiveState") == "active", 120, number, lambda: robot.machine.journal(UNIT)[-3000:])
    assert current(robot) == number
    assert robot.told("status")["running"]


def test_an_upgrade_holds_and_the_books_go_on(robot: Robot, version: Version) -> None:
    robot.start()
    records = len(robot.told("usage", "list"))
    first = current(robot)
    done = upgrade(robot, version("7.0.1"))
    assert done.status == 0, done.err
    assert json.loads(done.out)["upgraded"] is True
    runs(robot, "7.0.1")
    assert len(robot.told("usage", "list")) >= records
    assert robot.whole()
    assert first == "0.1.0"
    assert sorted(name.split("-")[0] for name in robot.machine.ok("ls", f"{HOME}/versions").split()) == ["0.1.0", "7.0.1"]
    again = upgrade(robot, version("7.0.1"))
    assert json.loads(again.out)["upgraded"] is False


@pytest.mark.parametrize(
    ("number", "instead"),
    [("7.1.1", bundles.EXITS), ("7.1.2", bundles.NEVER_READY), ("7.1.3", bundles.GIVES_UP)],
    ids=["exits", "hangs", "gives up"],
)
def test_an_upgrade_that_does_not_hold_gives_way_to_the_version_before(robot: Robot, version: Version, number: str, instead: str) -> None:
    robot.machine.write(IMPATIENT.encode(), f"/etc/systemd/system/{UNIT}.service.d/impatient.conf")
    robot.machine.ok("systemctl", "daemon-reload")
    robot.start()
    done = upgrade(robot, version(number, instead))
    assert done.status == 1, done
    assert "Traceback" not in done.err
    assert number in done.err
    runs(robot, "0.1.0")
    assert robot.whole()


def test_a_bundle_that_is_cut_short_or_altered_changes_nothing(robot: Robot, version: Version) -> None:
    robot.start()
    good = version("7.0.1")
    half = f"size=$(stat -c %s {good}) && head -c $((size / 2)) {good} > /root/half.tar"
    robot.machine.ok("sh", "-ec", half)
    robot.machine.ok(
        "sh", "-ec", f"cp {good} /root/altered.tar && printf x | dd of=/root/altered.tar bs=1 seek=9000000 conv=notrunc status=none"
    )
    before = robot.machine.ok("find", HOME, "/etc/systemd", "-newer", f"{HOME}/current")
    for bundle in ("/root/half.tar", "/root/altered.tar", "/root/none.tar"):
        done = upgrade(robot, bundle)
        assert done.status == 2, done
        assert len(done.err.strip().splitlines()) <= 2, done.err
    assert robot.machine.ok("find", HOME, "/etc/systemd", "-newer", f"{HOME}/current") == before
    runs(robot, "0.1.0")
    assert robot.property("NRestarts") == "0"


MOMENTS = {
    "laying it down": f"ls -d {HOME}/versions/7.0.1-*/bin",
    "writing what is on trial": f"grep new=7.0.1 {HOME}/trial",
    "changing over": f"readlink {HOME}/current | grep 7.0.1",
    "seeing whether it holds": f"readlink {HOME}/current | grep 7.0.1 && systemctl is-active --quiet {UNIT}",
}
"""Moments of an upgrade, and by what an onlooker knows them."""


def test_a_robot_whose_power_is_cut_during_an_upgrade_runs_at_boot_and_the_upgrade_can_be_done_again(
    robot: Robot, version: Version
) -> None:
    machine, bundle = robot.machine, version("7.0.1")
    robot.start()
    for moment, sign in MOMENTS.items():
        machine.ok("systemd-run", "--unit=upgrade", "--collect", "--quiet", "voxmeter", "upgrade", "--bundle", bundle)
        seen = partial(_seen, robot, sign)
        machine.until(seen, UPGRADE_S_MAX, moment, lambda: machine.journal("upgrade"))
        machine.power_cut()
        machine.boot()
        machine.until(
            lambda: robot.property("ActiveState") == "active", 120, f"a start after a cut {moment}", lambda: machine.journal(UNIT)[-3000:]
        )
        assert current(robot) in ("0.1.0", "7.0.1")
        assert robot.told("status")["running"]
        assert robot.whole()
    done = upgrade(robot, bundle)
    assert done.status == 0, done.err
    runs(robot, "7.0.1")


def _seen(robot: Robot, sign: str) -> bool:
    return robot.machine.enter("sh", "-c", sign).status == 0


def test_uninstalled_it_leaves_the_books_and_the_profile_and_purged_nothing(robot: Robot) -> None:
    machine = robot.machine
    robot.start()
    machine.ok("voxmeter", "uninstall")
    assert robot.property("LoadState") == "not-found"
    assert machine.run(["ls", HOME]).status != 0
    machine.ok("ls", "/etc/voxmeter/profile.toml", f"{STATE_ITSELF}/ledger.db")
    machine.ok("sh", "-ec", "cd /root && sh install --bundle hotel.tar", seconds=UPGRADE_S_MAX)
    robot.start()
    assert robot.whole()
    machine.ok("voxmeter", "uninstall", "--purge")
    left = machine.ok("find", "/etc", "/opt", "/usr/local", "/var/lib", "-name", "*voxmeter*")
    assert left == ""
