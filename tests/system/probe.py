"""Tries from inside what a program that was taken over would try; prints one JSON object of attempt and outcome.

Stands alone: the robot's own Python runs it, once under the unit's sandbox and once as root without. An outcome is `done` or the name of an
error.
"""

import contextlib
import ctypes
import errno
import json
import mmap
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

CLONE_NEWUSER, PTRACE_TRACEME, ADDR_NO_RANDOMIZE = 0x10000000, 0, 0x0040000
C = ctypes.CDLL(None, use_errno=True)
STATE = Path(os.environ.get("STATE_DIRECTORY", "/var/lib/voxmeter-probe"))


def write(path: str) -> Callable[[], None]:
    def attempt() -> None:
        Path(path).write_text("1")
        Path(path).unlink()

    return attempt


def read(path: str) -> Callable[[], None]:
    def attempt() -> None:
        with Path(path).open("rb") as file:
            file.read(16)

    return attempt


def call(name: str, *arguments: object) -> Callable[[], None]:
    """A function of the C library that tells of its failure by -1."""

    def attempt() -> None:
        if C[name](*arguments) == -1:
            raise OSError(ctypes.get_errno(), name)

    return attempt


def opened(family: int, kind: int, protocol: int = 0) -> Callable[[], None]:
    return lambda: socket.socket(family, kind, protocol).close()


def writable_code() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def setuid_file() -> None:
    path = STATE / "setuid"
    path.write_text("")
    try:
        path.chmod(0o4755)
    finally:
        path.unlink()


def real_time() -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


REFUSED: dict[str, Callable[[], None]] = {
    "write below /usr": write("/usr/probe"),
    "write below /etc": write("/etc/voxmeter/probe"),
    "write beside the program": write("/opt/voxmeter/probe"),
    "write into another's state": write("/var/lib/other/probe"),
    "write a log": write("/var/log/probe"),
    "write into a home": write("/home/guest/probe"),
    "read the passwords": read("/etc/shadow"),
    "read another's state": read("/var/lib/other/secret"),
    "read a home that is open to all": read("/home/guest/diary"),
    "read root's home": read("/root/secret"),
    "see other processes": read("/proc/1/cmdline"),
    "read a disk": read("/dev/loop-probe"),
    "make a device": lambda: os.mknod(STATE / "null", 0o20666, os.makedev(1, 3)),
    "open a raw socket": opened(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "open a packet socket": opened(socket.AF_PACKET, socket.SOCK_DGRAM),
    "talk to the kernel's network": opened(socket.AF_NETLINK, socket.SOCK_RAW),
    "trace a process": call("ptrace", PTRACE_TRACEME, 0, 0, 0),
    "mount": call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
    "make a name space": call("unshare", CLONE_NEWUSER),
    "become root": lambda: os.setuid(0),
    "write code": writable_code,
    "make a setuid file": setuid_file,
    "run before all others": real_time,
    "rename the machine": call("sethostname", b"robot", 5),
    "change the personality": call("personality", ADDR_NO_RANDOMIZE),
    "make a control group": lambda: Path("/sys/fs/cgroup/systemd/probe").mkdir(),
    "signal the machine's first process": lambda: os.kill(1, 0),
}

GRANTED: dict[str, Callable[[], None]] = {
    "write its state": write(str(STATE / "probe")),
    "write a temporary file": write("/tmp/probe"),
    "read its models": lambda: os.listdir("/opt/voxmeter/models").sort(),
    "connect over the internet": opened(socket.AF_INET, socket.SOCK_STREAM),
    "connect on the machine": opened(socket.AF_UNIX, socket.SOCK_STREAM),
}


def outcome(attempt: Callable[[], None]) -> str:
    """In a child of its own, for some attempts change whoever makes them."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        word = "done"
        try:
            attempt()
        except OSError as error:
            word = errno.errorcode.get(error.errno or 0, str(error))
        os.write(writer, word.encode())
        os._exit(0)
    os.close(writer)
    word = os.read(reader, 100).decode()
    os.close(reader)
    os.waitpid(child, 0)
    return word or "killed"


if __name__ == "__main__":
    with contextlib.suppress(FileExistsError, OSError):
        STATE.mkdir()
    json.dump({name: outcome(attempt) for name, attempt in {**REFUSED, **GRANTED}.items()}, sys.stdout)
