"""A version that starts well and then hangs gives way by itself; and what root types on a robot is done with the robot's own rights."""

import json

from tests.system import bundles
from tests.system.robot import STATE_ITSELF, UNIT, Robot
from tests.system.test_install import Version, current, runs, upgrade

HANGS = "    from agent import alive\n    alive.SILENCES_S['ledger'] = 40.0\n    alive.Vitals.beat = lambda *_: None\n" + bundles.SERVES
"""Its ledger seems to stand still when the installer has gone; it would take minutes with the silence it really is allowed."""

IMPATIENT = "[Service]\nWatchdogSec=10\n"

KEY = bytes(range(32))

SEED = "import sys; from agent.contract.signing import SigningKey; print(SigningKey.from_seed(sys.stdin.buffer.read()).key_id)"


def test_a_version_that_hangs_when_the_installer_has_gone_gives_way_by_itself(robot: Robot, version: Version) -> None:
    machine = robot.machine
    machine.write(IMPATIENT.encode(), f"/etc/systemd/system/{UNIT}.service.d/impatient.conf")
    machine.ok("systemctl", "daemon-reload")
    robot.start()
    done = upgrade(robot, version("7.2.1", HANGS))
    assert done.status == 0, done.err
    assert json.loads(done.out)["on_trial"] is True
    assert current(robot) == "7.2.1"
    machine.until(lambda: current(robot) == "0.1.0", 120, "the way back", lambda: machine.journal(UNIT)[-3000:])
    assert "hung and was ended by the watchdog" in machine.ok("cat", "/opt/voxmeter/gave-up")
    runs(robot, "0.1.0")
    assert robot.whole()


def test_a_trial_is_ended_by_a_verdict_and_stops_by_hand_do_not_count(robot: Robot, version: Version) -> None:
    machine = robot.machine
    robot.start()
    assert upgrade(robot, version("7.0.1")).status == 0
    for _ in range(4):
        machine.ok("systemctl", "restart", UNIT)
    assert "starts=1" in machine.ok("cat", "/opt/voxmeter/trial")
    run = robot.property("InvocationID")
    assert "voxmeter-gate-" in machine.ok("systemctl", "list-timers", "--all", "--no-pager")
    assert "7.0.1" in machine.ok("/opt/voxmeter/gate", "confirm", run, seconds=120)  # what the timer will say
    assert machine.run(["ls", "/opt/voxmeter/trial"]).status != 0
    assert current(robot) == "7.0.1"


def test_what_root_types_opens_nothing_with_roots_rights(robot: Robot) -> None:
    machine = robot.machine
    robot.start()
    robot.stop()
    owner = machine.ok("stat", "-c", "%u", STATE_ITSELF).strip()
    assert owner not in ("", "0")
    machine.ok(
        "sh", "-ec", f"echo theirs > /etc/theirs && rm -f {STATE_ITSELF}/ledger.lock && ln -s /etc/theirs {STATE_ITSELF}/ledger.lock"
    )
    refused = machine.run(["voxmeter", "sync", "now", "--profile", "/etc/voxmeter/profile.toml"])
    assert refused.status == 2, refused
    assert machine.ok("cat", "/etc/theirs") == "theirs\n"
    machine.ok("rm", f"{STATE_ITSELF}/ledger.lock")
    told = json.loads(machine.ok("voxmeter", "status", "--json", "--profile", "/etc/voxmeter/profile.toml"))
    assert told["running"] is False
    assert machine.ok("find", STATE_ITSELF, "-user", "root") == ""
    robot.start()
    assert json.loads(machine.ok("voxmeter", "status", "--json"))["running"] is True
    spots = {line.split()[1] for line in machine.ok("cat", "/proc/1/mounts").splitlines()}
    assert not {"/var/lib/private", STATE_ITSELF, "/run/voxmeter-command"} & spots  # what the command mounted went with it


def test_commands_use_the_key_that_the_unit_has_as_a_credential_and_make_no_other(robot: Robot) -> None:
    machine, python = robot.machine, "/opt/voxmeter/current/bin/python"
    robot.start()
    robot.stop()
    machine.ok("rm", "-rf", f"{STATE_ITSELF}/keys")
    machine.write(KEY, "/etc/credstore/usage-key", "0600")
    shown = "import sys; from pathlib import Path; from agent.store.keys import Keys; from agent.clock import SystemClock; "
    shown += "print(Keys(Path('/var/lib/voxmeter'), SystemClock()).current.key_id)"
    machine.ok("sh", "-ec", f"sed 's|^program=[^ ]*|program={python}|' $(command -v voxmeter) > /root/python && chmod 755 /root/python")
    wanted = machine.ok(python, "-c", SEED, stdin=KEY)
    assert machine.ok("/root/python", "-c", shown) == wanted
    drop_in = f"/etc/systemd/system/{UNIT}.service.d/key.conf"
    machine.write(b"[Service]\nLoadCredential=usage-key:/root/elsewhere\n", drop_in)
    machine.ok("sh", "-ec", "mv /etc/credstore/usage-key /root/elsewhere && systemctl daemon-reload")
    assert machine.ok("/root/python", "-c", shown) == wanted
    machine.write(b"[Service]\nSetCredential=usage-key:0123456789abcdef0123456789abcdef\n", drop_in)
    machine.ok("systemctl", "daemon-reload")
    refused = machine.run(["/root/python", "-c", shown])
    assert refused.status != 0
    assert "the usage key is a credential of the unit" in refused.err
    assert machine.run(["ls", f"{STATE_ITSELF}/keys"]).status != 0


def test_billing_has_a_folder_and_a_user_of_its_own(robot: Robot) -> None:
    """A robot's bundle lacks the backend's packages, so a stand-in tells what it was given."""
    machine, name, state = robot.machine, "voxmeter-billing", "/var/lib/private/voxmeter-billing"
    given = ("DynamicUser=yes", f"User={name}", f"StateDirectory={name}", "StateDirectoryMode=0700")
    machine.write(
        b'#!/bin/sh\nset -e\ncd -P "$STATE_DIRECTORY"\ntouch made-by-$(id -u)\necho $(id -u) $(id -G) $PWD\n', "/opt/tells", "0755"
    )
    machine.ok("sh", "-ec", "sed 's|^program=[^ ]*|program=/opt/tells|' $(command -v voxmeter) > /root/tells && chmod 755 /root/tells")
    assert machine.ok("/root/tells", "billing", "token", "--state-dir", "/root").startswith("0 ")
    assert machine.run(["true"], properties=given).status == 0  # what the unit's first start leaves
    owner = machine.ok("stat", "-c", "%u %g", state).split()
    assert machine.ok("/root/tells", "billing", "token").split() == [*owner, state]
    assert machine.run(["touch", f"{state}/another"], properties=given).status == 0
    assert set(machine.ok("find", state, "-printf", "%u ").split()) == {owner[0]}
