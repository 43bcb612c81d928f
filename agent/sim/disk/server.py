"""The disk's own process: answers the kernel for one mount, and its maker over a pipe.

The kernel's requests come one after the other to the main thread, which makes the order total; a second thread answers the maker.
Names and attributes may be cached for ever as nobody but the kernel changes anything; contents stay in the page cache (mmap needs it)
while every write reaches us before it returns, as the kernel's write-back cache is off. Locks are left to the kernel.
"""

import contextlib
import errno
import importlib
import os
import stat
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from agent.clock import SystemClock
from agent.sim.disk.faults import Trouble
from agent.sim.disk.trace import (
    Create,
    MakeFolder,
    Mark,
    Op,
    RemoveFolder,
    Rename,
    Sync,
    SyncFolder,
    Truncate,
    Unlink,
    Write,
    folder_of,
    unrecorded,
)
from agent.sim.disk.volume import NAME_BYTES_MAX, Node, Volume, growth

CACHE_SECONDS = 3600
"""How long the kernel may trust what it was told: longer than any test."""

PAGE_BYTES = 4096


class Disk:
    """What libfuse calls, by the names it looks for. An op happens whole and is recorded, or raises OSError and is not."""

    use_ns = True

    def __init__(self, fuse: Any, to_maker: "Connection[Any, Any]") -> None:
        self.ops: list[Op] = []
        self.trouble = Trouble()
        self._fuse = fuse
        self._to_maker = to_maker
        self._clock = SystemClock()
        self._volume = Volume((os.getuid(), os.getgid()), self._now_ns())
        self._open: dict[int, Node] = {}
        self._handles = 0

    def init(self, path: str) -> None:  # noqa: ARG002  libfuse's signature
        """The mount works from here on."""
        self._to_maker.send("ready")

    def getattr(self, path: str | None, handle: int | None = None) -> dict[str, int]:
        return self._node(path, handle).attributes()

    def readdir(self, path: str, handle: int) -> list[tuple[str, dict[str, int], int]]:  # noqa: ARG002  libfuse's signature
        folder = path.strip("/")
        nodes = {".": self._volume.find(folder), "..": self._volume.find(folder_of(folder)), **self._volume.listing(folder)}
        return [(name, node.attributes(), 0) for name, node in nodes.items()]  # without its number a name is skipped

    def statfs(self, path: str) -> dict[str, int]:  # noqa: ARG002  libfuse's signature
        free = self.trouble.free_bytes(len(self.ops), self._volume.used_bytes) // PAGE_BYTES
        size = self.trouble.size_bytes // PAGE_BYTES
        numbers = {"f_bsize": PAGE_BYTES, "f_frsize": PAGE_BYTES, "f_blocks": size, "f_bfree": free, "f_bavail": free}
        return numbers | {"f_files": 1 << 20, "f_ffree": 1 << 20, "f_namemax": NAME_BYTES_MAX}

    def create(self, path: str, mode: int, flags: int) -> int:  # noqa: ARG002  libfuse's signature
        name = path.strip("/")
        self._admit(Create(name))
        return self._handle(self._add(name, stat.S_IFREG | stat.S_IMODE(mode)))

    def open(self, path: str, flags: int) -> int:
        node = self._volume.find(path.strip("/"))
        if flags & os.O_ACCMODE != os.O_RDONLY and node is not self._volume.marks:
            self._need_writable()
        if flags & os.O_TRUNC and node.content:
            self._resize(node, 0)
        return self._handle(node)

    def release(self, path: str | None, handle: int) -> int:  # noqa: ARG002  libfuse's signature
        self._forget(self._open.pop(handle))
        return 0

    def read(self, path: str | None, size: int, offset: int, handle: int) -> bytes:  # noqa: ARG002  libfuse's signature
        return bytes(self._open[handle].content[offset : offset + size])

    def write(self, path: str | None, content: bytes, offset: int, handle: int) -> int:  # noqa: ARG002  libfuse's signature
        node = self._open[handle]
        if node is self._volume.marks:
            for line in content.decode(errors="replace").splitlines():
                self._admit(Mark(line))
        else:
            self._admit(Write(node.path or "", offset, content), node, growth(node, offset + len(content)))
            self._volume.write(node, offset, content, self._now_ns())
        return len(content)

    def truncate(self, path: str | None, size: int, handle: int | None = None) -> int:
        node = self._node(path, handle)
        if node is not self._volume.marks and size != len(node.content):
            self._resize(node, size)
        return 0

    def fsync(self, path: str | None, only_content: int, handle: int) -> int:  # noqa: ARG002  libfuse's signature
        node = self._open[handle]
        if node is not self._volume.marks:
            self._admit(Sync(node.path or ""), node)
        return 0

    def fsyncdir(self, path: str, only_content: int, handle: int) -> int:  # noqa: ARG002  libfuse's signature
        self._admit(SyncFolder(path.strip("/")))
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        name = path.strip("/")
        self._admit(MakeFolder(name))
        self._add(name, stat.S_IFDIR | stat.S_IMODE(mode))
        return 0

    def rmdir(self, path: str) -> int:
        name = path.strip("/")
        if self._volume.listing(name):
            raise OSError(errno.ENOTEMPTY, name)
        self._admit(RemoveFolder(name))
        self._volume.remove(name)
        return 0

    def unlink(self, path: str) -> int:
        node = self._file(path)
        self._admit(Unlink(node.path or ""), node)
        self._forget(self._volume.remove(path.strip("/")))
        return 0

    def rename(self, old: str, new: str) -> int:
        node, target = self._file(old), new.strip("/")
        if folder_of(target) != folder_of(old.strip("/")) or unrecorded(target) != unrecorded(old):
            raise OSError(errno.EXDEV, target)  # the model of a power cut knows renames within one folder
        self._admit(Rename(node.path or "", target), node)
        replaced = self._volume.rename(old.strip("/"), target)
        if replaced is not None:
            self._forget(replaced)
        return 0

    def chmod(self, path: str | None, mode: int) -> int:
        self._need_writable()
        node = self._node(path, None)
        node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        return 0

    def utimens(self, path: str | None, times: tuple[int, int] | None = None) -> int:
        self._need_writable()
        self._node(path, None).times = times or (self._now_ns(), self._now_ns())
        return 0

    def _admit(self, op: Op, node: Node | None = None, growth_bytes: int = 0) -> None:
        """Records the op, or raises what it fails with. What happens to a file without a name can't outlive a power cut."""
        index, used = len(self.ops), self._volume.used_bytes
        path = op.path if isinstance(op, Create) else node.path if node else ""
        if path is None or unrecorded(path):
            if growth_bytes or isinstance(op, Create):
                self._need_writable()
                self.trouble.need_room(index, used, growth_bytes)
            return
        self.trouble.admit(op, index, used, growth_bytes)
        self.ops.append(op)

    def _resize(self, node: Node, size: int) -> None:
        self._admit(Truncate(node.path or "", size), node, growth(node, size))
        self._volume.resize(node, size, self._now_ns())

    def _add(self, name: str, mode: int) -> Node:
        user, group, _ = self._fuse.fuse_get_context()
        return self._volume.add(name, mode, (user, group), self._now_ns())

    def _file(self, path: str) -> Node:
        """A name that can be moved or removed."""
        node = self._volume.find(path.strip("/"))
        if node.is_folder or node is self._volume.marks:
            raise OSError(errno.EPERM, path)
        return node

    def _handle(self, node: Node) -> int:
        self._handles += 1
        self._open[self._handles] = node
        return self._handles

    def _node(self, path: str | None, handle: int | None) -> Node:
        if handle is not None:
            return self._open[handle]
        if path is None:
            raise OSError(errno.ESTALE, "the file has lost its name")
        return self._volume.find(path.strip("/"))

    def _forget(self, node: Node) -> None:
        if node.path is None and all(other is not node for other in self._open.values()):
            self._volume.forget(node)

    def _need_writable(self) -> None:
        if self.trouble.is_read_only(len(self.ops)):
            raise OSError(errno.EROFS, "read-only")

    def _now_ns(self) -> int:
        return int(self._clock.utc().timestamp() * 1e9)


def answer(disk: Disk, maker: "Connection[Any, Any]", mount_point: str) -> None:
    """Serves the maker until it is gone; without it nobody would unmount, so this does, and ends the process."""
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            match maker.recv():
                case ("faults", faults):
                    disk.trouble.set(faults)
                    maker.send(None)
                case ("victim", process_id):
                    disk.trouble.victim = process_id
                    maker.send(None)
                case ("count", _):
                    maker.send(len(disk.ops))
                case ("trace", start):
                    maker.send(tuple(disk.ops[start:]))
    disk.trouble.ended.set()
    subprocess.run(["fusermount3", "-u", "-z", "-q", mount_point], check=False, stderr=subprocess.DEVNULL)  # noqa: S607  PATH is the machine's matter
    os._exit(0)


def main(mount_point: str, descriptor: str) -> None:
    """Runs until unmounted. Tells the maker `ready`, or one line of what is in the way."""
    maker: Connection[Any, Any] = Connection(int(descriptor))
    try:
        importlib.import_module("mfusepy")  # has no types, and fails here where there is no libfuse
    except (ImportError, OSError, AttributeError) as error:  # the last two: no libfuse, or one it does not know
        maker.send(f"mfusepy does not load: {error}")
        return
    fuse: Any = sys.modules["mfusepy"]
    disk = Disk(fuse, maker)
    threading.Thread(target=answer, args=(disk, maker, mount_point), daemon=True).start()
    caching = {"kernel_cache": True, "entry_timeout": CACHE_SECONDS, "attr_timeout": CACHE_SECONDS, "negative_timeout": 0}
    others = {"allow_other": True} if os.geteuid() == 0 else {}
    rights = {"default_permissions": True, "hard_remove": True, "use_ino": True, "fsname": "recorded-disk"}
    with contextlib.suppress(RuntimeError):  # libfuse has told stderr why; the maker sees the end
        fuse.FUSE(disk, mount_point, foreground=True, nothreads=True, **caching, **others, **rights)


if __name__ == "__main__":
    main(*sys.argv[1:])
