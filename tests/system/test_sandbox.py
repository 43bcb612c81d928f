"""The unit as systemd judges it, and its sandbox as a program that was taken over finds it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system import probe
from tests.system.robot import UNIT, Robot

EXPOSURE_MAX = 1.5

PROBING = """\
[Service]
Type=oneshot
Restart=no
WatchdogSec=0
ExecStartPre=
ExecStart=
ExecStart=/usr/bin/python3 /opt/probe.py
ExecStartPost=
ExecStopPost=
"""
"""Over the real unit: its sandbox, but the probe in place of the agent."""

STAGED = """
mkdir -p /home/guest /var/lib/other && chmod 777 /home/guest /var/lib/other
for one in /home/guest/diary /root/secret /var/lib/other/secret; do echo secret > $one; done && chmod 600 /var/lib/other/secret
"""


@pytest.mark.parametrize("unit", ["voxmeter", "voxmeter-billing"])
def test_systemd_finds_nothing_wrong_with_a_unit_and_little_exposed(
    robot: Robot, unit: str, record_property: Callable[[str, object], None]
) -> None:
    verified = robot.machine.run(["systemd-analyze", "verify", f"{unit}.service"])
    assert (verified.status, verified.out, verified.err) == (0, "", "")
    judged = robot.machine.ok("systemd-analyze", "security", "--no-pager", f"{unit}.service")
    exposure = float(re.findall(r"exposure level for \S+: ([\d.]+)", judged)[0])
    record_property(f"exposure of {unit}", exposure)
    assert exposure <= EXPOSURE_MAX, judged


def test_the_sandbox_refuses_what_an_intruder_would_try_and_root_could(robot: Robot) -> None:
    machine = robot.machine
    machine.ok("sh", "-ec", STAGED)
    machine.copy_in(Path(probe.__file__), "/opt/probe.py")
    assert machine.enter("mknod", "-m", "666", "/dev/loop-probe", "b", "7", "0").status == 0  # it stands for the robot's disk
    machine.write(PROBING.encode(), f"/etc/systemd/system/{UNIT}.service.d/zz-probe.conf")
    machine.ok("systemctl", "daemon-reload")
    assert machine.run(["systemctl", "start", UNIT]).status == 0, machine.journal(UNIT)[-2000:]
    tried = json.loads(next(line for line in machine.journal(UNIT).splitlines() if '"write below /usr"' in line))
    assert {name for name in probe.REFUSED if tried[name] == "done"} == set()
    assert {name: tried[name] for name in probe.GRANTED if tried[name] != "done"} == {}
    free = json.loads(machine.enter("unshare", "--mount", "python3", "/opt/probe.py").out)
    assert {name: word for name, word in free.items() if word != "done"} == {}, "an attempt that root cannot make either proves nothing"
