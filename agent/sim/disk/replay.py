"""Follows a trace op by op and knows, for every file and folder, what is on the disk for certain and what is under way.

Content belongs to a file, names belong to a folder. Each keeps a log that can be undone: what it was when its log had n entries is
found by going back from what it is now, so that a moment close by costs little. A sync says: all entries so far are certain.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from agent.sim.disk.trace import (
    Create,
    MakeFolder,
    Mark,
    Op,
    RemoveFolder,
    Rename,
    Sync,
    SyncFolder,
    Trace,
    Truncate,
    Unlink,
    Write,
    folder_of,
)


@dataclass(frozen=True, slots=True)
class Change:
    """One write or truncate of a file."""

    index: int
    """Of the op on the trace."""
    offset: int
    """Of a truncate the smaller of the two sizes."""
    new: bytes | None
    """None is a truncate."""
    old: bytes
    """What stood at `offset`: what was overwritten or cut off."""
    size_before: int
    size_after: int


class Syncs:
    """When a node was synced, and how long its log was then."""

    def __init__(self) -> None:
        self._indexes: list[int] = []
        self._lengths: list[int] = []

    def add(self, index: int, length: int) -> None:
        self._indexes.append(index)
        self._lengths.append(length)

    @property
    def latest(self) -> int:
        """How many entries are certain by now."""
        return self._lengths[-1] if self._lengths else 0

    def certain(self, index: int) -> int:
        """How many log entries the syncs up to this op made certain."""
        place = bisect_right(self._indexes, index)
        return self._lengths[place - 1] if place else 0


class File:
    """What a file holds, and how it came to."""

    def __init__(self) -> None:
        self.log: list[Change] = []
        self.syncs = Syncs()
        self._content = bytearray()
        self._frozen: dict[int, bytes] = {}  # by length of the log: what is certain and what is there now, as the last cut asked for them

    def write(self, index: int, offset: int, new: bytes) -> None:
        size, end = len(self._content), offset + len(new)
        self.log.append(Change(index, offset, new, bytes(self._content[offset:end]), size, max(size, end)))
        put(self._content, offset, new)

    def truncate(self, index: int, size: int) -> None:
        before = len(self._content)
        self.log.append(Change(index, min(size, before), None, bytes(self._content[size:]), before, size))
        resize(self._content, size)

    def at(self, length: int) -> bytes:
        """What it held when its log had this many entries."""
        if length in self._frozen:
            return self._frozen[length]
        content = bytearray(self._content)
        for change in reversed(self.log[length:]):
            resize(content, change.size_before)
            content[change.offset : change.offset + len(change.old)] = change.old
        if length in (asked_often := (len(self.log), self.syncs.latest)):
            self._frozen = {key: kept for key, kept in self._frozen.items() if key in asked_often} | {length: bytes(content)}
        return bytes(content)


@dataclass(frozen=True, slots=True)
class NameChange:
    """A name came (no `old`), went (no `new`) or changed, in one folder."""

    index: int
    old: str | None
    new: str | None
    node: "Node"
    before: "Names"
    """All names of the folder before."""


class Folder:
    """The names in a folder, and how they came."""

    def __init__(self) -> None:
        self.log: list[NameChange] = []
        self.syncs = Syncs()
        self.names: Names = {}

    def change(self, index: int, node: "Node", old: str | None, new: str | None) -> None:
        change = NameChange(index, old, new, node, self.names)
        self.log.append(change)
        self.names = renamed(self.names, change)

    def at(self, length: int) -> "Names":
        return self.log[length].before if length < len(self.log) else self.names


Node: TypeAlias = File | Folder
Names: TypeAlias = dict[str, Node]
"""By the last part of the path; never changed once made."""


class Replay:
    """A cursor on a trace. Going forward is cheap, so make the images of many cuts in order from one cursor."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.at = -1
        """Index of the last op that has happened."""
        self.root = Folder()
        self._files: dict[str, File] = {}
        self._folders: dict[str, Folder] = {"": self.root}

    def advance(self, index: int) -> None:
        """Lets everything happen up to and including this op. It can't go back."""
        if not self.at <= index < len(self.trace):
            raise IndexError(f"op {index} is not between {self.at} and {len(self.trace) - 1}")
        for place in range(self.at + 1, index + 1):
            self._step(place, self.trace.ops[place])
        self.at = index

    def nodes(self) -> Iterator["Node"]:
        """All that have a name now."""
        yield from self._folders.values()
        yield from self._files.values()

    def _step(self, index: int, op: Op) -> None:
        match op:
            case Write(path, offset, content):
                self._files[path].write(index, offset, content)
            case Truncate(path, size):
                self._files[path].truncate(index, size)
            case Sync(path):
                file = self._files[path]
                file.syncs.add(index, len(file.log))
            case SyncFolder(path):
                folder = self._folders[path]
                folder.syncs.add(index, len(folder.log))
            case Mark():
                pass
            case _:
                self._step_name(index, op)

    def _step_name(self, index: int, op: Create | Rename | Unlink | MakeFolder | RemoveFolder) -> None:
        match op:
            case Create(path):
                self._files[path] = File()
                self._name(index, self._files[path], None, path)
            case Rename(old, new):
                self._files[new] = self._files.pop(old)
                self._name(index, self._files[new], old, new)
            case Unlink(path):
                self._name(index, self._files.pop(path), path, None)
            case MakeFolder(path):
                self._folders[path] = Folder()
                self._name(index, self._folders[path], None, path)
            case RemoveFolder(path):
                self._name(index, self._folders.pop(path), path, None)

    def _name(self, index: int, node: Node, old: str | None, new: str | None) -> None:
        self._folders[folder_of(old or new or "")].change(index, node, _last(old), _last(new))


def renamed(names: Names, change: NameChange) -> Names:
    """The names after the change; the same where its source is not there."""
    if change.old is not None and names.get(change.old) is not change.node:
        return names
    after = {name: node for name, node in names.items() if name != change.old}
    if change.new is not None:
        after[change.new] = change.node
    return after


def put(content: bytearray, offset: int, new: bytes) -> None:
    """Writes, with zeros up to `offset` where there was nothing."""
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(new)] = new


def resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def _last(path: str | None) -> str | None:
    return None if path is None else path.rpartition("/")[2]
