"""The control groups of a bed: below our own ones, one name in every hierarchy that systemd counts and limits by."""

import itertools
import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
LIMITS = ("pids", "memory", "cpu", "cpuacct")
"""Controllers of version 1 that a robot's systemd needs to limit its units. nspawn lends them read-only; the bed makes them writable."""

PREFIX, NUMBERS = "voxmeter-bed", itertools.count()


def homes() -> list[Path]:
    """Our own groups: systemd's hierarchy, version 2 beside it or alone, and the controllers of version 1."""
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "" or {"name=systemd", *LIMITS} & set(controllers.split(",")):
            unified = "unified" if (ROOT / "unified").exists() else "."
            found.append(ROOT / (controllers.removeprefix("name=") or unified) / group.lstrip("/"))
    return [home for home in found if (home / "cgroup.procs").exists()]


def made() -> list[Path]:
    """New groups for one bed, after those of beds whose process is gone have been removed."""
    for old in {group.name for home in homes() for group in home.glob(f"{PREFIX}-*")}:
        if not Path(f"/proc/{old.split('-')[-2]}").exists():
            removed([home / old for home in homes()])
    name = f"{PREFIX}-{os.getpid()}-{next(NUMBERS)}"
    fresh = [home / name for home in homes()]
    for group in fresh:
        group.mkdir()
    return fresh


def removed(groups: list[Path]) -> bool:
    """Removes groups and those below; False where a process is still in one."""
    try:
        for group in (group for group in groups if group.exists()):
            for one in sorted((*(path for path in group.rglob("*") if path.is_dir()), group), reverse=True):
                one.rmdir()
    except OSError:
        return False
    return True
