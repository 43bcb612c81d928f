"""Decides whether a version that was just started holds: pure; and looks at it until that is known.

The installer waits only until a start can be told from a crash. Whether a version hangs shows later: its parts may be silent for minutes
by design. So an upgrade stays on trial, and the gate asks `judged` when TRIAL_SECONDS have passed in one run.
"""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from agent.clock import Clock
from agent.installing.layout import UNIT, Layout
from agent.installing.system import Systemd

HOLD_SECONDS: Final = 20.0
"""So long it must run before the installer ends: engines that can't load have been told by then."""

TRIAL_SECONDS: Final = 180
"""So long one run must last before the gate judges it (its hold_s): the longest silence that is allowed to a part, the watchdog's own
30 s, and two looks."""

LOOK_SECONDS: Final = 1.0

JUDGED_LOOKS_MAX: Final = 5
"""A microphone may be plugged in anew just then."""

JUDGED_PAUSE_SECONDS: Final = 5.0

STATUS_SECONDS_MAX: Final = 20.0
"""For `voxmeter status`; a robot that does not answer within that is no good."""

Ask = Callable[[], dict[str, Any] | None]
"""What the running robot tells of itself; None where it tells nothing."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of the unit."""

    state: str
    """ActiveState."""
    restarts: str
    """NRestarts."""
    invocation: str
    """Another one: it was started anew."""
    status: dict[str, Any] | None
    """What `voxmeter status --json` tells; None where it told nothing."""


def verdict(first: Look, now: Look) -> str:
    """Why it does not hold; empty: it does, so far."""
    if now.state not in ("active", "reloading"):
        return "it has ended"
    if now.invocation != first.invocation or now.restarts != first.restarts:
        return "it has ended and was started again"
    return ailing(now.status)


def ailing(status: dict[str, Any] | None, *, heard: bool = False) -> str:
    """What a robot that runs tells against itself; empty: nothing. `heard`: the version before did, so this one must."""
    if status is None or not status.get("running"):
        return "it does not answer: voxmeter status"
    if stuck := status.get("stuck"):
        return str(stuck[0])
    if heard and not hears(status):
        why = (status.get("hearing") or {}).get("why") or "it has no microphone"
        return f"it does not hear, as the version before did: {why}"
    return ""


def hears(status: dict[str, Any] | None) -> bool:
    return bool(((status or {}).get("hearing") or {}).get("hearing"))


def look(systemd: Systemd, ask: Ask) -> Look:
    told = systemd.show(UNIT, "ActiveState", "NRestarts", "InvocationID")
    return Look(told.get("ActiveState", ""), told.get("NRestarts", ""), told.get("InvocationID", ""), ask())


async def holds(systemd: Systemd, ask: Ask, clock: Clock, seconds: float = HOLD_SECONDS) -> str:
    """Why the unit does not hold for so long; empty: it does."""
    first = look(systemd, ask)
    until, why = clock.monotonic() + seconds, verdict(first, first)
    while not why and clock.monotonic() < until:
        await clock.sleep(LOOK_SECONDS)
        why = verdict(first, look(systemd, ask))
    return f"{why}: {said}" if why and (said := systemd.said(first.invocation)) else why


async def judged(ask: Ask, clock: Clock, *, heard: bool) -> str:
    """Why a version that has run for TRIAL_SECONDS does not hold all the same; empty: it does. Looks again before it says so."""
    why = ailing(ask(), heard=heard)
    for _ in range(JUDGED_LOOKS_MAX - 1):
        if not why:
            break
        await clock.sleep(JUDGED_PAUSE_SECONDS)
        why = ailing(ask(), heard=heard)
    return why


def asked(layout: Layout) -> dict[str, Any] | None:
    """What the current version's own `status` tells; by the robot's command, for root opens nothing in the robot's state itself."""
    words = (str(layout.command), "status", "--json", "--profile", str(layout.profile))
    try:
        done = subprocess.run(words, capture_output=True, check=False, timeout=STATUS_SECONDS_MAX)
        told = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return told if isinstance(told, dict) else None
