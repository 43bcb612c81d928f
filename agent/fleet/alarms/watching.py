"""Looks at the robot at intervals and tells what is to be told: an event in the outbox, a line in the journal, a file that remembers."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from agent.clock import Clock
from agent.contract import wire
from agent.contract.fleet import alarm
from agent.errors import VoxmeterError
from agent.files import read_beginning, write_durably
from agent.fleet.alarms import Alarms, Look, looks
from agent.fleet.alarms.looks import Happened
from agent.metering.budget import Used
from agent.ports import Outbox

T = TypeVar("T")

LOOK_S: Final = 30.0
"""Between two looks: alarms are for people, and the longest of the looks reads the disk."""

HOUR_S: Final = 3600.0

ALARMS_FILE: Final = "alarms.json"

FILE_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the values come from; what is None nobody looks at. The first three are called in a thread, for they read the disk."""

    backlog: Callable[[], tuple[float | None, int]] | None = None
    """How long the oldest unacked record has waited, in seconds, and how many there are."""
    breaks: Callable[[], Sequence[Happened]] | None = None
    """Forks and gaps, oldest first."""
    used: Callable[[], Used | None] | None = None
    """Of the budget; None: there is none."""
    hearing: Callable[[], Mapping[str, Any] | None] | None = None
    """`{hearing, device, why}`; None: no microphone."""
    failing: Callable[[], Mapping[str, str]] | None = None
    """Engines that do not work: part -> why."""
    certificate: Callable[[], tuple[str, float | None]] | None = None
    """State (none, good, renew, expired, revoked) and days left."""
    refused: Callable[[], int] | None = None
    """Commands refused since the start."""
    twin: Callable[[], tuple[str, int, str]] | None = None
    """State (applied, trial, refused, failed, none), version, why."""


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on something is wrong, as the profile says."""

    backlog_s: float = 24 * HOUR_S
    silent_s: float = 300.0


class Watching:
    """One for a robot."""

    def __init__(
        self,
        device: str,
        state: Path,
        sources: Sources,
        outbox: Outbox,
        clock: Clock,
        *,
        say: Callable[[str], None],
        limits: Limits = Limits(),
    ) -> None:
        """`device`: `{tenant}/{device}`; `state`: the folder this process owns."""
        self._path = state / ALARMS_FILE
        self._alarms = Alarms(device, _remembered(self._path))
        self._sources, self._outbox, self._clock, self._say, self._limits = sources, outbox, clock, say, limits
        self._refused: deque[tuple[float, int]] = deque()
        self._trouble: dict[str, str] = {}

    @property
    def raised(self) -> list[str]:
        """Names of the alarms that stand."""
        return self._alarms.raised()

    async def run(self) -> None:
        """Until cancelled. A source that fails is said once, and its alarm stays as it is."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_S)

    async def look(self) -> None:
        """Once: tells each edge. What the disk refuses is told with the next look."""
        found = await self._looks()
        for told, look in self._alarms.edges(found, self._clock.monotonic(), self._clock.utc()):
            try:
                await self._outbox.post(wire.ALARM, alarm.written(told))
                self._alarms.took(told, look)
                await asyncio.to_thread(write_durably, self._path, orjson.dumps(self._alarms.told()))
            except (VoxmeterError, OSError) as error:
                self._said("alarms", f"alarm {told.name} can't be kept: {error}")
            else:
                self._say(f"alarm: {told.name} {told.state}: {told.message}")

    async def _looks(self) -> list[Look]:
        sources, limits = self._sources, self._limits
        waits = await self._asked("backlog", sources.backlog, disk=True)
        breaks = await self._asked("breaks", sources.breaks, disk=True)
        used = await self._asked("used", sources.used, disk=True)
        hearing, failing = await self._asked("hearing", sources.hearing), await self._asked("failing", sources.failing)
        certificate, twin = await self._asked("certificate", sources.certificate), await self._asked("twin", sources.twin)
        refused = await self._asked("refused", sources.refused)
        found = [looks.backlog(*one, limits.backlog_s) for one in waits]
        found += [look for one in breaks for look in (looks.happened("fork", one), looks.happened("gap", one))]
        found += [looks.budget(one) for one in used]
        found += [looks.microphone(one, limits.silent_s) for one in hearing]
        found += [looks.engine(one) for one in failing]
        found += [looks.certificate(*one) for one in certificate]
        found += [looks.twin(*one) for one in twin]
        return found + [looks.refused(self._last_hour(one)) for one in refused]

    async def _asked(self, name: str, source: Callable[[], T] | None, *, disk: bool = False) -> list[T]:
        """Its value; nothing where nobody can tell."""
        if source is None:
            return []
        try:
            value = await asyncio.to_thread(source) if disk else source()
        except Exception as error:  # noqa: BLE001  whatever one of them is about, the others are looked at
            self._said(name, f"the alarms can't look at {name}: {error}")
            return []
        self._trouble.pop(name, None)
        return [value]

    def _last_hour(self, total: int) -> int:
        now = self._clock.monotonic()
        if not self._refused:
            self._refused.append((now, 0))  # the count begins at 0 with the process
        self._refused.append((now, total))
        while len(self._refused) > 1 and self._refused[1][0] <= now - HOUR_S:
            self._refused.popleft()
        return total - self._refused[0][1]

    def _said(self, name: str, line: str) -> None:
        """Once for each trouble."""
        if self._trouble.get(name) != line:
            self._say(line)
        self._trouble[name] = line


def _remembered(path: Path) -> Mapping[str, Any]:
    """What stood before a restart; a file that can't be read is as good as none."""
    try:
        found = read_beginning(path, FILE_BYTES_MAX)
        told = orjson.loads(found[0]) if found else {}
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
