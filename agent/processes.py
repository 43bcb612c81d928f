"""Reads out of /proc what this process and its children take: memory and computing time."""

import os
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")

TICKS_PER_S = os.sysconf("SC_CLK_TCK")

PARENT, TIMES = 1, slice(11, 15)
"""Of /proc/PID/stat, counted after the name: the parent; ticks in user and kernel mode, of itself and of children that it buried."""


def own() -> int:
    return os.getpid()


def family(eldest: int) -> list[int]:
    """A process and all that descend from it and live, the eldest first."""
    children: dict[int, list[int]] = {}
    for path in PROC.iterdir():
        if path.name.isdigit() and (told := _stat(int(path.name))):
            children.setdefault(int(told[PARENT]), []).append(int(path.name))
    found = [eldest]
    for one in found:  # grows meanwhile
        found += children.get(one, [])
    return found


def pss_mb(processes: Iterable[int]) -> float:
    """Megabytes they hold, shared pages divided by those who share them; a process that is gone holds none."""
    return sum(map(_pss_mb, processes))


def cpu_s(processes: Iterable[int]) -> float:
    """Seconds of computing, those of children that have ended included once their parent has seen it."""
    return sum(int(ticks) for one in processes for ticks in _stat(one)[TIMES]) / TICKS_PER_S


def _pss_mb(process: int) -> float:
    try:
        lines = (PROC / str(process) / "smaps_rollup").read_text().splitlines()
    except OSError:  # ended, or just ending
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000


def _stat(process: int) -> list[str]:
    """Fields after the name, which may hold anything; empty where there is no such process."""
    try:
        return (PROC / str(process) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
