"""How much memory a robot holds: the sum of the proportional set sizes of its processes."""

import os
from collections.abc import Iterable
from pathlib import Path


def pss_mb(processes: Iterable[int]) -> float:
    """Megabytes, shared pages divided by those who share them (`/proc/PID/smaps_rollup`)."""
    return sum(_pss_kb(process) for process in processes) / 1000


def _pss_kb(process: int) -> int:
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def own() -> int:
    return os.getpid()
