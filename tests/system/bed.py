"""Boots a robot's Debian with a real systemd, runs commands in it, cuts its power; nothing of it outlives the test.

Theory of operation. `unshare` opens a mount and a process name space; in them a shell mounts the disk over the tree and becomes
`systemd-nspawn`, whose child is the robot's systemd: the leader. All processes and mounts of the bed live in those two spaces, so they
vanish with `unshare`, which dies with this process even if that is killed (`setpriv --pdeathsig`). Commands go in through `nsenter` and
are started by the robot's own systemd (`systemd-run --pipe`), so they are in its control groups and under its limits, not ours.

Control groups of version 1 are lent to a container read-only; the bed makes those of memory, tasks and CPU writable, so that limits bind.

What such a bed is not: the kernel is the host's, so modules, `/proc/sys` and real devices are out of reach for all in it, and there is no
network but loopback. There is no sound card; its clock is the host's and cannot be set.
"""

import contextlib
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.system import groups
from tests.system.disk import Disk, cut_off

BOOT_S_MAX = 60
"""A boot takes 2 s on an idle machine."""

OFF_S_MAX = 60
"""An orderly shutdown; a unit that will not stop is killed after its TimeoutStopSec."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"


class Done(NamedTuple):
    """How a command in the robot ended."""

    status: int
    out: str
    err: str


class Machine:
    """A robot that is on, or off, and keeps its disk."""

    def __init__(self, disk: Disk, tree: Path, work: Path, reading: dict[Path, str]) -> None:
        """`reading`: folders of the host and where the robot sees them, read-only."""
        self.disk, self.tree, self.work, self.reading = disk, tree, work, reading
        self._groups: list[Path] = []
        self._shell: subprocess.Popen[bytes] | None = None

    def boot(self) -> None:
        """Until every unit of the boot has started or failed. Raises `TimeoutError` with what the console says."""
        outside = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")
        with (self.work / "console.log").open("wb") as log:
            self._shell = subprocess.Popen(
                (*outside, "sh", "-ec", self._script()), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.until(self._up, BOOT_S_MAX, "the boot", self._console)
        if [self.enter("mount", "-o", "remount,bind,rw", f"/sys/fs/cgroup/{one}").status for one in groups.LIMITS] == [0] * len(
            groups.LIMITS
        ):
            self.enter("systemctl", "daemon-reexec")  # it has tried to write there and thinks it did; version 2 needs none of this

    def _console(self) -> str:
        return (self.work / "console.log").read_text(errors="replace")[-2000:]

    def _script(self) -> str:
        self._groups = groups.made()
        joins = [f"echo 0 > {group}/cgroup.procs" for group in self._groups]
        binds = [f"--bind-ro={path}:{spot}" for path, spot in self.reading.items()]
        nspawn = ["systemd-nspawn", "--boot", "--register=no", "--keep-unit", "--private-network", "--console=pipe", "--machine=robot"]
        commands = [*self.disk.mounting(self.work, self.tree), ["exec", *nspawn, *binds, f"--directory={self.work}/root"]]
        return "\n".join([*joins, *(shlex.join(words) for words in commands)])

    def _up(self) -> bool:
        if self._shell is not None and self._shell.poll() is not None:
            raise RuntimeError(f"the bed ended: {self._console()}")
        return self.leader() is not None and self.enter("systemctl", "is-system-running").out.strip() in ("running", "degraded")

    def leader(self) -> int | None:
        """The robot's process 1 as the host numbers it, the child of nspawn; None while it is off."""
        nspawn = child_of(self._shell.pid) if self._shell else None
        leader = child_of(nspawn) if nspawn else None
        return leader if leader and _name(leader) == "systemd" else None

    def enter(self, *words: str, stdin: bytes = b"", seconds: float = 60) -> Done:
        """Runs a command of the host's rights in the robot's name spaces: for what must work before or without its systemd."""
        leader = self.leader()
        if leader is None:
            return Done(255, "", "the robot is off")
        inside = ("nsenter", "--target", str(leader), "--all", "env", "-i", f"PATH={PATH}", "LANG=C.UTF-8", "HOME=/root")
        done = subprocess.run((*inside, *words), input=stdin, capture_output=True, timeout=seconds, check=False)
        return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def run(self, words: Sequence[str], *, stdin: bytes = b"", seconds: float = 60, properties: Sequence[str] = ()) -> Done:
        """Runs a command as root as a unit of the robot's systemd. Raises `TimeoutExpired` after `seconds`."""
        given = [f"--property={one}" for one in properties]
        return self.enter("systemd-run", "--quiet", "--wait", "--pipe", "--collect", *given, "--", *words, stdin=stdin, seconds=seconds)

    def ok(self, *words: str, stdin: bytes = b"", seconds: float = 60) -> str:
        """What a command that must succeed prints."""
        done = self.run(words, stdin=stdin, seconds=seconds)
        assert done.status == 0, f"{shlex.join(words)}: {done.status}: {done.out[-2000:]}{done.err[-2000:]}"
        return done.out

    def copy_in(self, path: Path, to: str, mode: str = "0644") -> None:
        """A file of the host; folders on the way are made. Whole folders go by `reading`."""
        self.write(path.read_bytes(), to, mode)

    def write(self, content: bytes, to: str, mode: str = "0644") -> None:
        done = self.enter("install", "-D", "-m", mode, "/dev/stdin", to, stdin=content)
        assert done.status == 0, done.err

    def journal(self, unit: str) -> str:
        """What a unit, or systemd about it, said since the robot's disk is new, without dates."""
        return self.enter("journalctl", "--no-pager", "--output=cat", f"--unit={unit}").out

    def show(self, unit: str, name: str) -> str:
        """A property of a unit, as `systemctl show` tells it."""
        return self.enter("systemctl", "show", "--value", f"--property={name}", unit).out.strip()

    def until(self, true: Callable[[], bool], seconds: float, what: str, told: Callable[[], str] = str) -> None:
        """Waits until something is true, a tenth of a second between looks. Raises `TimeoutError`."""
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end:
                raise TimeoutError(f"{what}: not within {seconds} s: {told()}")
            time.sleep(0.1)

    def power_cut(self) -> None:
        """Everything stops, and the disk keeps only what had reached it. `boot` starts the robot again."""
        nspawn = child_of(self._shell.pid) if self._shell else None
        if nspawn is not None and _name(nspawn) == "systemd-nspawn":
            cut_off(Path(f"/proc/{nspawn}/root{self.work}/disk-0"))
        self._end()

    def power_off(self) -> None:
        """An orderly shutdown."""
        if self._shell is not None:
            self.enter("systemctl", "poweroff", "--no-block")
            self._shell.wait(OFF_S_MAX)
        self._end()

    def _end(self) -> None:
        if self._shell is not None:
            self._shell.kill()
            self._shell.wait()
            self._shell = None
        attached = ("losetup", "--noheadings", "--associated", str(self.disk.image))
        self.until(lambda: not subprocess.run(attached, capture_output=True, check=True).stdout, OFF_S_MAX, "letting go of the disk")
        self.until(lambda: groups.removed(self._groups), OFF_S_MAX, "the end of its processes")


def child_of(process: int) -> int | None:
    """The first child of a process, if it has one."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None


def _name(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return ""


@contextlib.contextmanager
def booted(tree: Path, work: Path, under: Disk | None = None, reading: dict[Path, str] | None = None) -> Iterator[Machine]:
    """A robot that is on, with a new disk over the tree, or over another's disk; at the end it is off and nothing of it is left running."""
    machine = Machine(Disk.new(work / "disk.img", under), tree, work, reading or {})
    try:
        machine.boot()
        yield machine
    finally:
        machine.power_cut()
        machine.disk.image.unlink()
