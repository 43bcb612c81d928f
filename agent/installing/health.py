"""Decides whether a version that was just started holds: pure; and looks at it until that is known."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.clock import Clock
from agent.installing.layout import UNIT, Layout
from agent.installing.system import Systemd

HOLD_SECONDS: Final = 20.0
"""So long it must run: engines that can't load and microphones that can't be opened have been told by then."""

LOOK_SECONDS: Final = 1.0

STATUS_SECONDS_MAX: Final = 20.0
"""For `voxmeter status`; a robot that does not answer within that is no good."""


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
    if now.status is None or not now.status.get("running"):
        return "it does not answer: voxmeter status"
    stuck = now.status.get("stuck") or []
    return str(stuck[0]) if stuck else ""


def look(systemd: Systemd, ask: Callable[[], dict[str, Any] | None]) -> Look:
    told = systemd.show(UNIT, "ActiveState", "NRestarts", "InvocationID")
    return Look(told.get("ActiveState", ""), told.get("NRestarts", ""), told.get("InvocationID", ""), ask())


async def holds(systemd: Systemd, ask: Callable[[], dict[str, Any] | None], clock: Clock, seconds: float = HOLD_SECONDS) -> str:
    """Why the unit does not hold for so long; empty: it does."""
    first = look(systemd, ask)
    until, why = clock.monotonic() + seconds, verdict(first, first)
    while not why and clock.monotonic() < until:
        await clock.sleep(LOOK_SECONDS)
        why = verdict(first, look(systemd, ask))
    return f"{why}: {said}" if why and (said := systemd.said(first.invocation)) else why


def asked(layout: Layout, state: Path) -> dict[str, Any] | None:
    """What the current version's own `status` tells."""
    words = (str(layout.home / "current/bin/voxmeter"), "status", "--json", "--state-dir", str(state))
    try:
        done = subprocess.run(words, capture_output=True, check=False, timeout=STATUS_SECONDS_MAX)
        told: dict[str, Any] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return told
