"""What the bed itself promises: a real systemd that enforces, power cuts that lose what was not synced, and nothing left behind."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.system.bed import Machine, booted
from tests.system.groups import PREFIX, homes

TOY = """
import os, pathlib, socket, time
def tell(word):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
        bell.connect(os.environ["NOTIFY_SOCKET"])
        bell.send(word)
state = pathlib.Path(os.environ["STATE_DIRECTORY"])
try:
    pathlib.Path("/etc/toy").write_text("no")
    print("outside: written")
except OSError as error:
    print("outside:", error.strerror)
(state / "mine").write_text(str(os.getuid()))
tell(b"READY=1")
while not (state / "hang").exists():
    tell(b"WATCHDOG=1")
    time.sleep(0.2)
(state / "hang").unlink()
time.sleep(1000)
"""
UNIT = """
[Service]
Type=notify
ExecStart=/usr/bin/python3 -u /opt/toy.py
DynamicUser=yes
StateDirectory=toy
ProtectSystem=strict
WatchdogSec=2
Restart=on-watchdog
"""


def test_commands_have_a_status_and_two_outputs(bare: Machine) -> None:
    assert bare.run(["sh", "-c", "cat; echo wrong >&2; exit 7"], stdin=b"given") == (7, "given", "wrong\n")
    assert bare.ok("cat", "/proc/1/comm") == "systemd\n"


def test_there_is_no_network_but_loopback(bare: Machine) -> None:
    assert [line.split(":")[0].strip() for line in bare.ok("cat", "/proc/net/dev").splitlines()[2:]] == ["lo"]


def test_notify_watchdog_dynamic_user_and_sandbox_are_enforced(bare: Machine) -> None:
    bare.write(TOY.encode(), "/opt/toy.py")
    bare.write(UNIT.encode(), "/etc/systemd/system/toy.service")
    bare.ok("systemctl", "daemon-reload")
    bare.ok("systemctl", "start", "toy")
    assert "outside: Read-only file system" in bare.journal("toy")
    assert int(bare.ok("cat", "/var/lib/private/toy/mine")) >= 61184  # the first dynamic user
    first = bare.show("toy", "MainPID")
    bare.ok("touch", "/var/lib/private/toy/hang")
    bare.until(lambda: bare.show("toy", "NRestarts") == "1", 20, "a restart by the watchdog")
    bare.until(lambda: bare.show("toy", "ActiveState") == "active", 20, "the start after it")
    assert bare.show("toy", "MainPID") != first
    assert "Watchdog timeout" in bare.journal("toy")
    bare.ok("systemctl", "stop", "toy")


def test_limits_of_tasks_memory_and_cpu_bind(bare: Machine) -> None:
    forks = bare.run(["sh", "-c", "for one in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait"], properties=["TasksMax=6"])
    assert "fork" in forks.err
    assert bare.run(["python3", "-c", "print(len(b'1' * 300_000_000))"], properties=["MemoryMax=100M"]).out == ""
    busy = "import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass\nprint(time.process_time())"
    assert float(bare.run(["python3", "-c", busy], properties=["CPUQuota=20%"]).out) < 0.5


def test_a_power_cut_loses_what_was_not_synced_and_keeps_the_rest(debian: Path, tmp_path: Path) -> None:
    with booted(debian, tmp_path) as machine:
        machine.ok("sh", "-c", "echo kept > /var/kept; sync /var/kept; sync")
        machine.ok("sh", "-c", "echo lost > /var/lost")
        machine.power_cut()
        assert machine.enter("true") == (255, "", "the robot is off")
        machine.boot()
        assert machine.ok("cat", "/var/kept") == "kept\n"
        assert machine.run(["cat", "/var/lost"]).status == 1
        machine.power_off()
        machine.boot()
        assert machine.ok("cat", "/var/kept") == "kept\n"


def test_a_disk_lies_over_another_and_leaves_it_alone(debian: Path, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "above").mkdir()
    with booted(debian, tmp_path / "below") as lower:
        lower.ok("sh", "-c", "echo below > /var/one; rm /etc/fstab")
        lower.power_off()
        with booted(debian, tmp_path / "above", lower.disk) as upper:
            assert upper.run(["ls", "/etc/fstab"]).status == 2
            upper.ok("sh", "-c", "grep below /var/one; echo above > /var/one")
        lower.boot()
        assert lower.ok("cat", "/var/one") == "below\n"


def test_the_host_sees_into_a_robot_only_what_it_lends(debian: Path, tmp_path: Path) -> None:
    lent = tmp_path / "lent"
    lent.mkdir()
    (lent / "file").write_text("lent")
    with booted(debian, tmp_path, reading={lent: "/mnt/lent"}) as machine:
        assert machine.ok("cat", "/mnt/lent/file") == "lent"
        assert "Read-only" in machine.run(["touch", "/mnt/lent/file"]).err


def test_nothing_outlives_a_test_that_is_killed(debian: Path, tmp_path: Path) -> None:
    script = "import sys, time, pathlib; from tests.system.bed import booted\n"
    script += "with booted(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])): print('up', flush=True); time.sleep(1000)"
    with subprocess.Popen((sys.executable, "-c", script, str(debian), str(tmp_path)), stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"up\n"
        groups = [home / f"{PREFIX}-{killed.pid}-0" for home in homes()]
        assert any((group / "payload").exists() for group in groups)
        killed.kill()
    end = time.monotonic() + 20
    while _left(tmp_path, groups) and time.monotonic() < end:
        time.sleep(0.1)
    assert not _left(tmp_path, groups)


def _left(work: Path, groups: list[Path]) -> list[str]:
    """Processes in the bed's groups, its mounts, its loop devices."""
    inside = [one for group in groups for procs in group.rglob("cgroup.procs") for one in procs.read_text().split()]
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(work) in line]
    loops = subprocess.run(("losetup", "--noheadings", "--associated", str(work / "disk.img")), capture_output=True, check=True).stdout
    return [*inside, *mounts, *loops.decode().split()]


def test_a_machine_that_cannot_boot_says_what_its_console_said(debian: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the bed ended"), booted(tmp_path / "none", tmp_path):
        pass
