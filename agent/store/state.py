"""Where a device keeps its state, and which process owns it."""

import contextlib
import fcntl
import os
from pathlib import Path

from agent.errors import LedgerBusy

LOCK_FILE = "ledger.lock"


def state_folder(named: Path | None = None) -> Path:
    """`--state-dir`, else `$STATE_DIRECTORY` (systemd), else the XDG state folder."""
    if named is not None:
        return named
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "voxmeter"


class Lock:
    """Ownership of a state folder, as long as the process lives. The descriptor closes on exec: children inherit nothing."""

    def __init__(self, state: Path) -> None:
        """Raises LedgerBusy naming the owner, OSError where there is a link in place of the file: it may lead elsewhere."""
        self._descriptor = os.open(state / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(self._descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise LedgerBusy(f"the ledger in {state} belongs to process {owner}", "wait for it or use another --state-dir") from error
        with contextlib.suppress(OSError):  # a full disk: only whoever finds it locked would like to know by whom
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        os.close(self._descriptor)
