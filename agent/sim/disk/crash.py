"""What a power cut may leave of a trace: makes the images of a disk that keeps every promise of POSIX and none besides.

What was synced is there. Of the rest every sector of a write, every truncate and every change of a name may or may not have reached the
disk, in any order; the sector under way may be half new. A file's own sync says nothing of its name, a folder's nothing of its files.
A lying disk has said of some syncs that they happened when they had not.
"""

import shutil
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from random import Random  # noqa: TID251  the type alone; chance is handed in
from typing import Literal, TypeAlias, get_args

from agent.sim.disk.replay import Change, File, Folder, Names, Node, Replay, put, renamed, resize
from agent.sim.disk.trace import Trace, unrecorded

Image: TypeAlias = dict[str, bytes]
"""The files that are there after the cut, by path. A folder without files is not."""

Mode: TypeAlias = Literal["synced", "everything", "prefix", "random", "torn"]
"""Of what is pending: nothing; all (what SIGKILL leaves); all up to some op, which is torn; any part, sector by sector; all, but in each
file one sector is torn and what comes after it in the same write is lost."""

MODES: tuple[Mode, ...] = get_args(Mode)

SECTOR_BYTES = 512
"""The smallest piece a disk promises to write whole, and here not even that for the last."""

NEAR_OPS = 64
"""Half of a disk's lies are about syncs not older than this: a cache of some hundred KiB that was not flushed."""


def images(trace: Trace, k: int, chance: Random, count: int, lying: bool = False) -> Iterator[Image]:
    """As many images of a cut after op `k` (-1: before any), the modes in turn. For many cuts use one Replay and `images_at`."""
    replay = Replay(trace)
    replay.advance(k)
    yield from images_at(replay, chance, count, lying)


def images_at(replay: Replay, chance: Random, count: int, lying: bool = False) -> Iterator[Image]:
    """The same where a cursor stands. Take them all before the cursor moves."""
    modes = [mode for mode in MODES if not (lying and mode == "everything")]  # a disk that lost nothing has not lied
    first = chance.randrange(len(modes))
    for place in range(count):
        yield image(replay, modes[(first + place) % len(modes)], chance, lying)


def image(replay: Replay, mode: Mode, chance: Random, lying: bool = False) -> Image:
    return _Cut(replay, mode, chance, lying).image()


def write(image: Image, folder: Path) -> None:
    """Makes a real folder hold the image and nothing else. Nothing is synced."""
    folder.mkdir(parents=True, exist_ok=True)
    for there in folder.iterdir():
        if there.is_dir() and not there.is_symlink():
            shutil.rmtree(there)
        else:
            there.unlink()
    for path, content in image.items():
        target = folder / path
        if "/" in path:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o600)


class _Cut:
    """One power cut: what it decided about each node so far."""

    def __init__(self, replay: Replay, mode: Mode, chance: Random, lying: bool) -> None:
        self._replay, self._mode, self._chance = replay, mode, chance
        self._starts: dict[Node, int] = {}  # how much of each log is certain
        self._since = self._moment() if lying else replay.at
        self._whose = chance.choice(("all", "some", "each")) if lying else "all"
        self._last = self._last_op() if mode == "prefix" else replay.at

    def image(self) -> Image:
        left: Image = {}
        self._walk(self._replay.root, "", left)
        return left

    def _walk(self, folder: Folder, prefix: str, left: Image) -> None:
        for name, node in self._names(folder).items():
            if isinstance(node, Folder):
                self._walk(node, f"{prefix}{name}/", left)
            elif not unrecorded(name):
                left[prefix + name] = self._content(node)

    def _start(self, node: Node) -> int:
        if node not in self._starts:
            self._starts[node] = node.syncs.certain(self._believed())
        return self._starts[node]

    def _believed(self) -> int:
        """The last op whose syncs count, for one node."""
        if self._whose == "all":
            return self._since
        if self._whose == "some":
            return self._chance.choice((self._since, self._replay.at))
        return self._chance.randint(self._since, self._replay.at)

    def _moment(self) -> int:
        """An op up to which the disk was honest; -1: never."""
        earliest = max(-1, self._replay.at - NEAR_OPS) if self._chance.getrandbits(1) else -1
        return self._chance.randint(earliest, self._replay.at)

    def _last_op(self) -> int:
        """Which op was under way."""
        pending = [change.index for node in self._replay.nodes() for change in node.log[self._start(node) :]]
        return self._chance.choice(pending) if pending else self._replay.at

    def _names(self, folder: Folder) -> Names:
        start, end = self._start(folder), len(folder.log)
        if self._mode == "synced" or start == end:
            return folder.at(start)
        if self._mode == "prefix":
            return folder.at(max(start, _place(folder, self._last)))
        if self._mode == "random":
            return self._some_names(folder, start, end)
        return folder.names

    def _some_names(self, folder: Folder, start: int, end: int) -> Names:
        if self._chance.getrandbits(1):  # as a journal does it: none, some of the first, or all
            return folder.at(self._chance.randint(start, end))
        names = folder.at(start)
        for change in folder.log[start:]:
            if self._chance.getrandbits(1):
                names = renamed(names, change)
        return names

    def _content(self, file: File) -> bytes:
        start, end = self._start(file), len(file.log)
        if self._mode == "synced" or start == end:
            return file.at(start)
        if self._mode == "prefix":
            place = max(start, _place(file, self._last))
            return self._torn_at(file, place, place) if place < end and file.log[place].index == self._last else file.at(place)
        if self._mode == "random":
            return self._some_sectors(file, start, end)
        if self._mode == "torn":
            return self._torn_at(file, self._chance.randrange(start, end), end)
        return file.at(end)

    def _torn_at(self, file: File, place: int, end: int) -> bytes:
        """All changes before `place`, that one torn, and then whole ones up to `end`."""
        content = bytearray(file.at(place))
        self._tear(content, file.log[place])
        for change in file.log[place + 1 : end]:
            apply(content, change, -1)
        return bytes(content)

    def _tear(self, content: bytearray, change: Change) -> None:
        """Some sectors from the first on, and of the next one a part; a truncate happens or not."""
        if change.new is None:
            apply(content, change, -self._chance.getrandbits(1))
        elif change.new:
            length = self._chance.randrange(len(change.new))
            put(content, change.offset, change.new[:length])
            if self._chance.getrandbits(1):  # the size may be on the disk before the rest of what it covers
                size = min(change.size_after, _sector_end(change.offset + length))
                resize(content, max(len(content), size))

    def _some_sectors(self, file: File, start: int, end: int) -> bytes:
        """Each with one chance for the whole file, as what reaches the disk first is often all of one file."""
        fate = self._chance.randrange(5)
        if fate in (0, 4):
            return file.at(start if fate == 0 else end)
        content = bytearray(file.at(start))
        for change in file.log[start : end - 1]:
            apply(content, change, self._bits(fate, change))
        last = file.log[end - 1]
        if self._chance.getrandbits(1):
            apply(content, last, self._bits(fate, last))
        else:
            self._tear(content, last)
        return bytes(content)

    def _bits(self, fate: int, change: Change) -> int:
        """A set bit for each sector that is kept: a quarter, a half or three quarters of them."""
        count = sectors(change)
        bits = self._chance.getrandbits(count)
        if fate == 1:
            return bits & self._chance.getrandbits(count)
        return bits | self._chance.getrandbits(count) if fate == 3 else bits


def sectors(change: Change) -> int:
    """How many a write touches; a truncate counts as one."""
    if not change.new:
        return 1
    return (change.offset + len(change.new) - 1) // SECTOR_BYTES - change.offset // SECTOR_BYTES + 1


def apply(content: bytearray, change: Change, kept: int) -> None:
    """Does what the disk did of a change: bit n of `kept` is its n-th sector, -1 is all of it."""
    if change.new is None:
        if kept:
            resize(content, change.size_after)
    elif kept in (-1, (1 << sectors(change)) - 1):
        put(content, change.offset, change.new)
    elif kept:
        _apply_sectors(content, change.offset, change.new, kept)


def _apply_sectors(content: bytearray, offset: int, new: bytes, kept: int) -> None:
    at, end = offset, offset + len(new)
    while kept:
        stop = min(end, _sector_end(at))
        if kept & 1:
            put(content, at, new[at - offset : stop - offset])
        at, kept = stop, kept >> 1


def _sector_end(offset: int) -> int:
    return (offset // SECTOR_BYTES + 1) * SECTOR_BYTES


def _place(node: Node, index: int) -> int:
    """How many log entries are older than this op."""
    return bisect_left(node.log, index, key=lambda change: change.index)
