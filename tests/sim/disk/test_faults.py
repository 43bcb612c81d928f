"""The disk fails as it was told, from the op it was told, until it is told otherwise."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.sim.disk.faults import DISK_BYTES, Faults, lives
from agent.sim.disk.fuse import RecordedDisk, recorded
from agent.sim.disk.trace import Create, Mark, Sync, Write

PAGE = b"x" * 4096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[RecordedDisk]:
    (tmp_path / "disk").mkdir()
    with recorded(tmp_path / "disk") as mounted:
        yield mounted


@pytest.fixture
def file(disk: RecordedDisk) -> Iterator[int]:
    """A descriptor; op 0 made it, op 1 gave it a page."""
    descriptor = os.open(disk.mount_point / "a", os.O_RDWR | os.O_CREAT, 0o600)
    os.write(descriptor, PAGE)
    yield descriptor
    os.close(descriptor)


def fails(expected: int, *calls: Callable[[], object]) -> None:
    for call in calls:
        with pytest.raises(OSError, match=os.strerror(expected)):
            call()


def test_there_is_no_space_from_an_op_on_until_lifted(disk: RecordedDisk, file: int) -> None:
    disk.set(Faults(no_space_at=3))
    os.pwrite(file, PAGE, 4096)
    root = disk.mount_point
    fails(errno.ENOSPC, lambda: os.pwrite(file, b"y", 0), (root / "b").touch, (root / "f").mkdir, lambda: os.ftruncate(file, 9000))
    os.ftruncate(file, 100)
    os.fsync(file)
    assert os.statvfs(root).f_bavail == 0
    disk.lift()
    assert os.pwrite(file, b"y", 0) == 1
    assert os.pread(file, 100, 0) == b"y" + PAGE[:99]


def test_a_full_disk_lets_nothing_grow_but_what_is_there_can_be_written(disk: RecordedDisk, file: int) -> None:
    disk.set(Faults(full_bytes=8192))
    os.pwrite(file, PAGE, 4096)
    fails(errno.ENOSPC, lambda: os.pwrite(file, b"y", 8192), lambda: os.ftruncate(file, 8193))
    assert os.pwrite(file, b"y", 8191) == 1
    assert os.statvfs(disk.mount_point).f_bavail == 0
    os.ftruncate(file, 4096)
    assert os.statvfs(disk.mount_point).f_bavail == 1
    assert os.pwrite(file, PAGE, 4096) == 4096


def test_removed_files_give_their_room_back(disk: RecordedDisk) -> None:
    free = os.statvfs(disk.mount_point).f_bavail
    assert free * 4096 == DISK_BYTES
    for name in ("a", "b"):
        (disk.mount_point / name).write_bytes(PAGE)
    (disk.mount_point / "b").rename(disk.mount_point / "a")
    assert os.statvfs(disk.mount_point).f_bavail == free - 1
    (disk.mount_point / "a").unlink()
    assert os.statvfs(disk.mount_point).f_bavail == free


def test_a_read_only_disk_changes_nothing(disk: RecordedDisk, file: int) -> None:
    disk.set(Faults(read_only_from=0))
    root = disk.mount_point
    fails(
        errno.EROFS, lambda: os.pwrite(file, b"y", 0), lambda: os.fsync(file), lambda: os.ftruncate(file, 1), lambda: os.utime(root / "a")
    )
    fails(errno.EROFS, (root / "b").touch, (root / "f").mkdir, (root / "a").unlink, lambda: (root / "a").rename(root / "c"))
    fails(errno.EROFS, lambda: (root / "a").chmod(0o644), lambda: (root / "a").open("r+b"), lambda: os.utime(root / "a"))
    assert (root / "a").read_bytes() == PAGE
    assert disk.trace().ops == (Create("a"), Write("a", 0, PAGE))


def test_one_write_or_sync_is_an_io_error(disk: RecordedDisk, file: int) -> None:
    disk.set(Faults(io_error_at=3))
    os.fsync(file)
    fails(errno.EIO, lambda: os.fsync(file))
    os.fsync(file)
    disk.set(Faults(io_error_at=0))
    fails(errno.EIO, lambda: os.pwrite(file, b"y", 0))
    assert os.pread(file, 1, 0) == b"x"
    assert os.pwrite(file, b"z", 0) == 1
    assert disk.trace().ops == (Create("a"), Write("a", 0, PAGE), Sync("a"), Sync("a"), Write("a", 0, b"z"))


def test_a_slow_sync_is_waited_for(disk: RecordedDisk, file: int) -> None:
    disk.set(Faults(fsync_ms=30))
    os.fsync(file)
    assert disk.trace().ops[-1] == Sync("a")


WRITING = """
import os, sys, threading
def work(name):
    with open(f"{sys.argv[1]}/{name}", "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 100)
            os.fsync(file.fileno())
sys.stdin.readline()
for name in "abc":
    threading.Thread(target=work, args=(name,)).start()
"""


@pytest.mark.parametrize("index", [0, 1, 17, 100])
def test_the_victim_dies_just_before_an_op_and_does_nothing_more(disk: RecordedDisk, index: int) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITING, str(disk.mount_point)], stdin=subprocess.PIPE, text=True) as victim:
        disk.victim = victim.pid
        disk.set(Faults(kill_at=index))
        victim.communicate("go\n")
    assert victim.returncode == -signal.SIGKILL
    assert disk.count() == index
    assert not lives(victim.pid)
    disk.mark("another process goes on")
    assert disk.trace().ops[-1] == Mark("another process goes on")


def test_a_kill_happens_once_for_each_setting(disk: RecordedDisk) -> None:
    disk.set(Faults(kill_at=3))
    for expected in (3, 50):
        with subprocess.Popen([sys.executable, "-c", WRITING, str(disk.mount_point)], stdin=subprocess.PIPE, text=True) as victim:
            disk.victim = victim.pid
            disk.set(Faults(kill_at=expected))
            victim.communicate("go\n")
        assert disk.count() == expected
