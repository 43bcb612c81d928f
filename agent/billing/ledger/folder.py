"""Whose the backend's folder is, and whether the database in it is the one that was used here last, or an older copy put back.

billing.db      the database; it says which backend it is of and how many commits it has seen
billing.mark    the same two, written after each commit: a database that is behind its mark was copied back
billing.lock    held by the one process that serves
"""

import fcntl
import os
from pathlib import Path

from agent.errors import LedgerBusy
from agent.files import MODE

LOCK_FILE = "billing.lock"
MARK_FILE = "billing.mark"


class Folder:
    """Owned by this process until `release`. Descriptors close on exec: children inherit nothing."""

    def __init__(self, path: Path) -> None:
        """Raises LedgerBusy naming the owner."""
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(self._lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._lock)
            raise LedgerBusy(f"the books in {path} belong to process {owner}", "wait for it or use another --state-dir") from error
        os.fchmod(self._lock, MODE)  # of a file that was there before, too
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)
        self._mark = os.open(path / MARK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, MODE)
        os.fchmod(self._mark, MODE)

    def is_as_left(self, backend_id: str, commits: int) -> bool:
        """Whether a database that says this of itself is the one that was used here last, and not behind it."""
        told = os.pread(self._mark, 200, 0).decode("ascii", "replace").split()
        return len(told) == 2 and told[0] == backend_id and told[1].isdecimal() and int(told[1]) <= commits

    def note(self, backend_id: str, commits: int) -> None:
        """After a commit. A power cut may take it back, which hides a copy put back then, and never accuses anybody."""
        os.pwrite(self._mark, f"{backend_id} {commits:020d}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._mark)
        os.close(self._lock)
