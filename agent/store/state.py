"""Where a device keeps its state."""

import os
from pathlib import Path


def state_folder(named: Path | None = None) -> Path:
    """`--state-dir`, else `$STATE_DIRECTORY` (systemd), else the XDG state folder."""
    if named is not None:
        return named
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "voxmeter"
