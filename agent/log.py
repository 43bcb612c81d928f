"""Writes the log: JSON lines with a journal priority under systemd, plain lines on a terminal; what is written depends on the level.

    {"event": "microphone hw:1: open at 48000 Hz", "level": "info", …}      with <6> before it, which journald takes off

The newest lines are kept in memory for `diagnostics.collect`; nothing said in the hall is ever logged.
"""

import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TextIO

import orjson
import structlog

from agent.errors import BadInput

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""syslog(3), by the names of our levels."""

LEVELS = ("debug", "info", "warning", "error")
"""Those that can be asked for."""

LINES_KEPT = 200
"""The last hour or so of a robot in trouble; 40 kB."""

LINE_CHARACTERS_MAX = 2_000
"""Longer ones are cut: whoever speaks to the robot must not fill the journal."""

Line = Callable[..., None]
"""Takes one line, and `level=` by name; without it the line is information."""


class Log:
    """One process's log, on one stream."""

    def __init__(self, stream: TextIO | None = None, *, journal: bool | None = None, level: str = "info") -> None:
        """`journal`: with priorities and as JSON; found out where it is not given."""
        self._stream = stream or sys.stderr
        self.journal = to_journal(self._stream) if journal is None else journal
        self.lines: deque[str] = deque(maxlen=LINES_KEPT)
        """The newest, oldest first."""
        self._rank = 0
        self.level(level)
        steps: list[Any] = [self._ranked, structlog.processors.add_log_level, self._shown]
        self._logger = structlog.wrap_logger(structlog.WriteLogger(self._stream), processors=steps)

    def level(self, name: str) -> None:
        """Only lines at least so grave are written from now on. Raises BadInput for a name that is none."""
        if name not in LEVELS:
            raise BadInput(f"{name!r} is no level of the log", f"there are: {', '.join(LEVELS)}")
        self._rank = PRIORITIES[name]

    def say(self, line: str, *, level: str = "info", **more: Any) -> None:
        """One line. `more` are fields beside it, for machines. Nobody listening is no reason to stop."""
        with contextlib.suppress(structlog.DropEvent, OSError, ValueError):  # ValueError: the stream is closed
            getattr(self._logger, level)(" ".join(line.split())[:LINE_CHARACTERS_MAX], **more)

    def _ranked(self, _: object, level: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if PRIORITIES[level] > self._rank:
            raise structlog.DropEvent
        return event

    def _shown(self, _: object, level: str, event: MutableMapping[str, Any]) -> str:
        line = str(event["event"])
        self.lines.append(line if level == "info" else f"{level}: {line}")
        if not self.journal:
            return self.lines[-1]
        return f"<{PRIORITIES[level]}>{orjson.dumps(dict(event), default=str).decode()}"


def to_journal(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this very stream goes to journald: systemd tells its device and inode."""
    told = environment.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or no file at all
        return False
    return told == f"{status.st_dev}:{status.st_ino}"
