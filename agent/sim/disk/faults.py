"""What a disk does wrong, and from which op on: decides for each op whether it may happen."""

import contextlib
import errno
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

from agent.sim.disk.trace import Create, MakeFolder, Mark, Op, Sync, SyncFolder, Write

DISK_BYTES = 1 << 30
"""What statfs tells of a disk without a limit: a partition of 1 GiB."""


@dataclass(frozen=True)
class Faults:
    """Every `..._at` and `..._from` counts ops on the trace since the disk was made: n acts on the first fitting op that finds n ops
    before it, so 0 means from now on. An op that fails is not on the trace."""

    no_space_at: int | None = None
    """From here on every write (overwriting, too: a copying file system needs room for that), create and growing truncate is ENOSPC."""

    full_bytes: int | None = None
    """Size of the disk: what would let all files together grow above it is ENOSPC; overwriting is not. statfs tells it."""

    read_only_from: int | None = None
    """From here on whatever changes something, syncs included, is EROFS."""

    io_error_at: int | None = None
    """One write or sync is EIO; what it would have done stays undone, what it would have synced stays pending."""

    fsync_ms: int = 0
    """How long every sync takes. Others wait meanwhile."""

    kill_at: int | None = None
    """The victim gets SIGKILL just before the op with this index would happen, and nothing more from it happens. Acts once."""


class Trouble:
    """Applies Faults. `admit` is called before an op, from one thread; the fields are set from another."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.victim: int | None = None
        """Process id."""
        self.ended = threading.Event()
        self._erred = False
        self._killed: int | None = None  # the last victim, until it is seen dead
        self._kills = True

    def set(self, faults: Faults) -> None:
        self.faults, self._erred, self._kills = faults, False, True

    def admit(self, op: Op, index: int, used_bytes: int, growth_bytes: int) -> None:
        """Returns when the op may happen; else raises the OSError the caller is to see."""
        self._kill_in_time(index)
        if isinstance(op, Mark):
            return
        if self.is_read_only(index):
            raise OSError(errno.EROFS, "read-only")
        if isinstance(op, Write | Sync | SyncFolder):
            self._fail_once(index)
        if isinstance(op, Write | Create | MakeFolder) or growth_bytes > 0:
            self.need_room(index, used_bytes, growth_bytes)
        if isinstance(op, Sync | SyncFolder) and self.faults.fsync_ms:
            self.ended.wait(self.faults.fsync_ms / 1000)

    def is_read_only(self, index: int) -> bool:
        return _reached(self.faults.read_only_from, index)

    def need_room(self, index: int, used_bytes: int, growth_bytes: int) -> None:
        full = self.faults.full_bytes is not None and growth_bytes > 0 and used_bytes + growth_bytes > self.faults.full_bytes
        if full or _reached(self.faults.no_space_at, index):
            raise OSError(errno.ENOSPC, "no space")

    def free_bytes(self, index: int, used_bytes: int) -> int:
        if _reached(self.faults.no_space_at, index):
            return 0
        return max(0, self.size_bytes - used_bytes)

    @property
    def size_bytes(self) -> int:
        return DISK_BYTES if self.faults.full_bytes is None else self.faults.full_bytes

    def _fail_once(self, index: int) -> None:
        if _reached(self.faults.io_error_at, index) and not self._erred:
            self._erred = True
            raise OSError(errno.EIO, "input/output error")

    def _kill_in_time(self, index: int) -> None:
        if self._kills and self.victim is not None and _reached(self.faults.kill_at, index):
            self._killed, self._kills = self.victim, False
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._killed, signal.SIGKILL)
        if self._killed is not None:
            if lives(self._killed):
                raise OSError(errno.EIO, "killed")  # its other threads may have asked before the signal reached them
            self._killed = None


def lives(process_id: int) -> bool:
    """Whether any thread of the process can still run."""
    for status in Path(f"/proc/{process_id}/task").glob("*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if status.read_text().rpartition(")")[2].split()[0] not in "ZX":
                return True
    return False


def _reached(start: int | None, index: int) -> bool:
    return start is not None and index >= start
