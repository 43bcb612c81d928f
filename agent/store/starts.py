"""Counts the starts of the agent on a state folder, so that what one start says is known to be newer than what an earlier one said.

A plain count would begin again with a card that is exchanged or a file that is lost, and the will that a broker keeps of the old
life would then count as the newer word, for ever. So a start is one more than the last one, and never less than the seconds since
2026: it goes back only where file and clock are both lost.
"""

import contextlib
import datetime
from pathlib import Path

from agent.clock import Clock
from agent.files import read_beginning, write_durably

STARTS_FILE = "starts"

DIGITS_MAX = 15
"""Below 2^53, what a number in a message can be."""

BEGINNING = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def counted(state: Path, clock: Clock) -> int:
    """The number of this start, more than that of any earlier one, durable when it returns.

    Once per process, by whoever owns the folder. A disk that takes nothing does not keep a robot from starting: the clock counts then.
    """
    start = max(_last(state / STARTS_FILE) + 1, _seconds(clock.utc()))
    with contextlib.suppress(OSError):
        write_durably(state / STARTS_FILE, str(start).encode())
    return start


def _last(path: Path) -> int:
    """0 for a file that is missing or damaged."""
    try:
        found = read_beginning(path, DIGITS_MAX + 1)
    except OSError:
        return 0
    digits = found[0] if found else b""
    return int(digits) if digits.isdigit() and len(digits) <= DIGITS_MAX else 0


def _seconds(now: datetime.datetime) -> int:
    """Since 2026; negative for a clock that has lost its battery."""
    return int((now - BEGINNING).total_seconds())
