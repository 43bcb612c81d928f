"""How much memory a robot holds: the sum of the proportional set sizes of its processes."""

import os
from collections.abc import Iterable

from agent.engines import life


def pss_mb(processes: Iterable[int]) -> float:
    """Megabytes, shared pages divided by those who share them."""
    return sum(map(life.pss_mb, processes))


def own() -> int:
    return os.getpid()
