"""What was done to a disk, in total order: one frozen value for each thing that happened.

Paths are relative to the disk's root, with `/` between folders; the root itself is the empty string.
"""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from agent.errors import BadInput

MARK_FILE = ".mark"
"""Each line written to this name in the root becomes a Mark. It is in no listing and in no image."""

SHARED_MEMORY = "-shm"
"""SQLite's index of the WAL ends so. The kernel writes it back when it likes and SQLite makes it anew: it is not recorded."""


@dataclass(frozen=True, slots=True)
class Write:
    path: str
    offset: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """Shortens a file, or lengthens it with zeros."""

    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Create:
    path: str


@dataclass(frozen=True, slots=True)
class Rename:
    """Within one folder; what had the new name is gone."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Unlink:
    path: str


@dataclass(frozen=True, slots=True)
class MakeFolder:
    folder: str


@dataclass(frozen=True, slots=True)
class RemoveFolder:
    folder: str


@dataclass(frozen=True, slots=True)
class Sync:
    """An fsync or fdatasync of a file that was answered with success."""

    path: str


@dataclass(frozen=True, slots=True)
class SyncFolder:
    folder: str


@dataclass(frozen=True, slots=True)
class Mark:
    """What the process under test said at this point."""

    text: str


Op: TypeAlias = Write | Truncate | Create | Rename | Unlink | MakeFolder | RemoveFolder | Sync | SyncFolder | Mark


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything that succeeded since the disk was made, oldest first."""

    ops: tuple[Op, ...] = ()

    def __len__(self) -> int:
        return len(self.ops)

    def marks(self) -> dict[str, int]:
        """Index of each mark by its text; of equal ones the first."""
        return {op.text: index for index, op in reversed(list(enumerate(self.ops))) if isinstance(op, Mark)}

    def save(self, path: Path) -> None:
        path.write_bytes(pickle.dumps(self.ops, protocol=pickle.HIGHEST_PROTOCOL))

    @staticmethod
    def load(path: Path) -> "Trace":
        """What `save` wrote. Raises BadInput where the file is something else; only load files of your own."""
        try:
            ops = pickle.loads(path.read_bytes())  # noqa: S301  a developer's own file, made by `save`
        except OSError as error:
            raise BadInput(f"{path}: {error.strerror}", "name a trace that was saved") from error
        except Exception as error:  # unpickling what is no pickle raises nearly anything
            raise BadInput(f"{path} is not a trace", "name a file that Trace.save made") from error
        if not (isinstance(ops, tuple) and all(isinstance(op, Op) for op in ops)):
            raise BadInput(f"{path} is not a trace", "name a file that Trace.save made")
        return Trace(ops)


def folder_of(path: str) -> str:
    """The folder a name stands in."""
    return path.rpartition("/")[0]


def unrecorded(path: str) -> bool:
    return path.endswith(SHARED_MEMORY)


def mark(root: Path, text: str) -> None:
    """Says something to the recorded disk mounted at `root`; it is on the trace when this returns."""
    with (root / MARK_FILE).open("wb", buffering=0) as file:
        file.write(text.encode() + b"\n")
