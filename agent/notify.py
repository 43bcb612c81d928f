"""Tells systemd how its unit is: ready, alive, stopping, and one line of status, over the socket it names in $NOTIFY_SOCKET.

Ours, for the packages that do this read the wall clock, raise where nobody listens, or know no STOPPING=1.
"""

import contextlib
import os
import socket
from collections.abc import Mapping

STATUS_CHARACTERS_MAX = 200
"""One line of `systemctl status`."""


class Notifier:
    """The socket of one unit. Where there is none, every call does nothing."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        known = os.environ if environment is None else environment
        self._address = known.get("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(known)
        """The unit's WatchdogSec; 0 where nobody watches this process."""

    @property
    def on(self) -> bool:
        return bool(self._address)

    def ready(self) -> None:
        self._send("READY=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Feeds the watchdog."""
        self._send("WATCHDOG=1")

    def status(self, line: str) -> None:
        self._send(f"STATUS={' '.join(line.split())[:STATUS_CHARACTERS_MAX]}")

    def extend(self, seconds: float) -> None:
        """A start or a stop takes longer than its limit, from now at most so long."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def _send(self, told: str) -> None:
        """Never waits and never raises: the robot goes on whether systemd listens or not; who is not heard is restarted, which is right."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaking:
            speaking.setblocking(False)
            speaking.sendto(told.encode(), address)


def _watchdog_s(known: Mapping[str, str]) -> float:
    """Of this process: systemd names whom it watches."""
    told, whom = known.get("WATCHDOG_USEC", ""), known.get("WATCHDOG_PID", "")
    return int(told) / 1e6 if told.isdigit() and whom in ("", str(os.getpid())) else 0.0
