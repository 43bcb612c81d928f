"""The files of the recorded disk, in memory: names, contents and what stat tells of them; nothing here fails or records."""

import errno
import os
import stat
from dataclasses import dataclass, field

from agent.sim.disk.trace import MARK_FILE, folder_of

BLOCK_BYTES = 512
"""The unit of st_blocks."""

NAME_BYTES_MAX = 255


@dataclass(slots=True)
class Node:
    """A file or a folder. Numbers are never used again, so that two files are never taken for one."""

    number: int
    mode: int
    """With the type bits."""
    owner: tuple[int, int]
    """User and group."""
    times: tuple[int, int]
    """Nanoseconds: last access, last change."""
    path: str | None
    """None once no name leads here."""
    content: bytearray = field(default_factory=bytearray)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    def attributes(self) -> dict[str, int]:
        """Under the names of struct stat."""
        size = len(self.content)
        return {
            "st_mode": self.mode,
            "st_ino": self.number,
            "st_nlink": 2 if self.is_folder else int(self.path is not None),
            "st_uid": self.owner[0],
            "st_gid": self.owner[1],
            "st_size": size,
            "st_blocks": -(-size // BLOCK_BYTES),
            "st_atime": self.times[0],
            "st_mtime": self.times[1],
            "st_ctime": self.times[1],
        }


class Volume:
    """Errors are OSErrors, as a real file system gives them."""

    def __init__(self, owner: tuple[int, int], now_ns: int) -> None:
        self.used_bytes = 0
        """Of all files that have a name or are open."""
        self._names: dict[str, Node] = {}
        self._last = 0
        self.add("", stat.S_IFDIR | 0o700, owner, now_ns)
        self.marks = Node(self._next(), stat.S_IFREG | 0o666, owner, (now_ns, now_ns), MARK_FILE)
        """What a look at the mark file finds; it stands in no folder."""

    def find(self, path: str) -> Node:
        node = self.marks if path == MARK_FILE else self._names.get(path)
        if node is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return node

    def has(self, path: str) -> bool:
        return path in self._names

    def add(self, path: str, mode: int, owner: tuple[int, int], now_ns: int) -> Node:
        node = Node(self._next(), mode, owner, (now_ns, now_ns), path)
        self._names[path] = node
        return node

    def listing(self, folder: str) -> dict[str, Node]:
        """By the last part of the path."""
        return {path.rpartition("/")[2]: node for path, node in self._names.items() if path and folder_of(path) == folder}

    def rename(self, old: str, new: str) -> Node | None:
        """Gives the file that lost its name to this one."""
        replaced = self._names.pop(new, None)
        if replaced is not None:
            replaced.path = None
        node = self._names[new] = self._names.pop(old)
        node.path = new
        return replaced

    def remove(self, path: str) -> Node:
        """The node lives on while it is open; call `forget` at the end."""
        node = self._names.pop(path)
        node.path = None
        return node

    def forget(self, node: Node) -> None:
        """Its room is free again."""
        self.used_bytes -= len(node.content)
        node.content.clear()

    def write(self, node: Node, offset: int, content: bytes, now_ns: int) -> None:
        if offset > len(node.content):
            self.resize(node, offset, now_ns)
        self.used_bytes += growth(node, offset + len(content))
        node.content[offset : offset + len(content)] = content
        node.times = (node.times[0], now_ns)

    def resize(self, node: Node, size: int, now_ns: int) -> None:
        change = size - len(node.content)
        self.used_bytes += change
        if change < 0:
            del node.content[size:]
        else:
            node.content.extend(bytes(change))
        node.times = (node.times[0], now_ns)

    def _next(self) -> int:
        self._last += 1
        return self._last


def growth(node: Node, end: int) -> int:
    """Bytes a file grows by when its last byte comes to stand before `end`."""
    return max(0, end - len(node.content))
