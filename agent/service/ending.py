"""Holds a process to its word that it ends in time, whatever its robot is at: being opened, serving, being opened anew.

    told (a signal: `stop`; a restart that was asked for: `close`) --STOP_SECONDS, and the process still is--> at_worst(stopped)

Whoever hangs beyond that hangs in the system (a sound driver, a disk), and may hang the event loop with it; so a thread waits here that
needs nobody else.
"""

import queue
import threading
from collections.abc import Callable

STOP_SECONDS = 4.5
"""A machine that shuts down does not wait longer for anybody."""


class Ending:
    """Of one process, through all openings of its robot."""

    def __init__(self, at_worst: Callable[[bool], None], seconds: float = STOP_SECONDS) -> None:
        """`at_worst(stopped)` is called from the thread and ends the process; `stopped`: for good, else another is to follow."""
        self._at_worst, self._seconds = at_worst, seconds
        self._told: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.stopped = False
        """A signal has come, and no other robot is to follow this one."""
        threading.Thread(target=self._wait, name="ending", daemon=True).start()

    def stop(self) -> None:
        """May be called in a signal's handler and as often as anybody likes: takes no lock, starts no thread."""
        self.stopped = True
        self._told.put(None)

    def close(self) -> None:
        """It is closed for good, so that another process may follow."""
        self._told.put(None)

    def _wait(self) -> None:
        self._told.get()
        threading.Event().wait(self._seconds)
        self._at_worst(self.stopped)
