"""Mounts a recorded disk: starts its process, tells it what to do wrong, takes the trace, and leaves no mount behind.

with recorded(folder) as disk:
    ...  # any process uses the folder
    disk.set(Faults(no_space_at=0))
images(disk.trace(), ...)
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from agent.errors import BadInput, MissingPart, VoxmeterError
from agent.sim.disk.faults import Faults
from agent.sim.disk.trace import Op, Trace, mark

DEVICE = Path("/dev/fuse")

REMEDY = "run: apt-get install fuse3, and see that /dev/fuse is there and may be used"

START_SECONDS_MAX = 60.0
"""A Python process starts and mounts in well under a second, on a machine that has nothing else to do."""

STOP_SECONDS_MAX = 5.0
"""After the mount is gone its process has nothing to do but end."""


class DiskGone(VoxmeterError):
    """The disk's process has died; what used the mount sees ENOTCONN."""

    code = "disk-gone"


class RecordedDisk:
    """A mounted disk. Its trace can still be read when it is unmounted."""

    def __init__(self, mount_point: Path, connection: "Connection[Any, Any]") -> None:
        self.mount_point = mount_point
        self._connection = connection
        self._ops: list[Op] = []  # what was taken so far
        self._victim: int | None = None

    def set(self, faults: Faults) -> None:
        """From now on these and no others. `Faults()` lifts all."""
        self._ask("faults", faults)

    def lift(self) -> None:
        self.set(Faults())

    @property
    def victim(self) -> int | None:
        """The process that `Faults.kill_at` kills, by id."""
        return self._victim

    @victim.setter
    def victim(self, process_id: int | None) -> None:
        self._victim = process_id
        self._ask("victim", process_id)

    def count(self) -> int:
        """How many ops are on the trace, which is the index of the next."""
        ops: int = self._ask("count", None)
        return ops

    def trace(self) -> Trace:
        if not self._connection.closed:
            self._ops += self._ask("trace", len(self._ops))
        return Trace(tuple(self._ops))

    def mark(self, text: str) -> None:
        """Puts a Mark here; other processes call `trace.mark` with the mount point."""
        mark(self.mount_point, text)

    def _ask(self, what: str, argument: Any) -> Any:
        try:
            self._connection.send((what, argument))
            return self._connection.recv()
        except (EOFError, OSError) as error:
            raise DiskGone(f"the disk at {self.mount_point} is gone", "mount a new one") from error


@contextmanager
def recorded(mount_point: Path, faults: Faults | None = None) -> Iterator[RecordedDisk]:
    """An empty disk at an empty folder. Raises MissingPart where FUSE can't be used, BadInput where the folder can't.

    It is unmounted at the end even where files on it are still open; whoever holds them gets ENOTCONN.
    """
    _check(mount_point)
    ours, theirs = Pipe()
    words = [sys.executable, "-P", "-m", "agent.sim.disk.server", str(mount_point), str(theirs.fileno())]
    with ours, theirs:
        # a session of its own: Ctrl-C is for the maker, which then unmounts in order
        process = subprocess.Popen(words, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, start_new_session=True)
        theirs.close()
        try:
            _wait_until_mounted(ours, mount_point)
            disk = RecordedDisk(mount_point, ours)
            if faults is not None:
                disk.set(faults)
            yield disk
            disk.trace()
        finally:
            ours.close()
            _end(process, mount_point)


def _check(mount_point: Path) -> None:
    if not DEVICE.exists() or shutil.which("fusermount3") is None:
        raise MissingPart("there is no FUSE on this machine", REMEDY)
    if not mount_point.is_dir() or any(mount_point.iterdir()):
        raise BadInput(f"{mount_point} is not an empty folder", "name one to mount the disk at")


def _wait_until_mounted(connection: "Connection[Any, Any]", mount_point: Path) -> None:
    said = "its process ended"
    with suppress(EOFError, ConnectionError):
        said = connection.recv() if connection.poll(START_SECONDS_MAX) else f"nothing happened in {START_SECONDS_MAX:.0f} s"
    if said != "ready":
        raise MissingPart(f"no disk can be mounted at {mount_point}: {said}", REMEDY)


def _end(process: "subprocess.Popen[bytes]", mount_point: Path) -> None:
    """The disk unmounts itself as its maker has hung up; if it does not, or is dead, this does."""
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if os.path.ismount(mount_point) or _is_dead_mount(mount_point):
        subprocess.run(["fusermount3", "-u", "-z", "-q", str(mount_point)], check=False)  # noqa: S607  PATH is the machine's matter


def _is_dead_mount(mount_point: Path) -> bool:
    """A mount whose process has died answers no stat, so that `ismount` takes it for none."""
    try:
        mount_point.stat()
    except OSError:
        return True
    return False
