"""Measures how the robot is and tells it at intervals, straight to the link: what was measured yesterday helps nobody today."""

import asyncio
import math
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from agent import processes
from agent.clock import Clock, seeded
from agent.contract import wire
from agent.contract.fleet.presence import Telemetry, written
from agent.errors import VoxmeterError
from agent.ports import Poster, Refused
from agent.values import STAGES, Stage, StageResult, Turn

T = TypeVar("T")

INTERVAL_SECONDS = 60.0
"""A thousand robots make 17 messages a second of it; who watches one robot more closely sets another in its profile."""

JITTER = 0.2
"""Of the interval, by chance to both sides, so that a fleet that was started together does not speak in chorus."""

TURNS_MAX = 20
"""What a real-time factor is told of: the last conversation or two."""

HALL = ("hearing", "device", "rate", "level", "why")
"""What is told of the microphone."""

TEXT_MAX = 200
"""Of a text in telemetry, characters."""

THERMAL = Path("/sys/class/thermal")

PLAUSIBLE_C = (-60.0, 200.0)
"""A sensor that is not connected reads far outside."""

Say = Callable[[str], None]


class Rtf:
    """Real-time factors of the last turns, by stage.

    What a recogniser is told sound by sound takes it at least as long as it is spoken: live, its factor is not below 1. Of a language
    model it is the time it took by that of the reply as it was spoken.
    """

    def __init__(self) -> None:
        self._turns: deque[dict[Stage, tuple[int, int]]] = deque(maxlen=TURNS_MAX)

    def take(self, turn: Turn) -> None:
        """A turn that has ended."""
        self._turns.append({stage: times for stage in STAGES if all(times := _times(stage, turn))})

    def told(self) -> dict[str, float]:
        """Stages nothing is known of are absent."""
        sums: dict[Stage, tuple[int, int]] = {}
        for turn in self._turns:
            for stage, (took, sound) in turn.items():
                before = sums.get(stage, (0, 0))
                sums[stage] = (before[0] + took, before[1] + sound)
        return {stage: round(took / sound, 3) for stage, (took, sound) in sums.items()}


def _times(stage: Stage, turn: Turn) -> tuple[int, int]:
    """(it took, of sound), both in milliseconds, of the attempts that ended as they should; a 0 where one is not known."""
    done = [one for one in turn.stages if one.stage == stage and one.outcome == "completed"]
    sounding = done if stage != "llm" else [one for one in turn.stages if one.stage == "tts" and one.outcome == "completed"]
    return sum(one.times.duration_ms for one in done), sum(_sound_ms(one) for one in sounding)


def _sound_ms(result: StageResult) -> int:
    return (result.usage.audio_in_ms if result.stage == "asr" else result.usage.audio_out_ms) or 0


@dataclass(frozen=True, slots=True)
class Gauges:
    """Where the measures come from that this room can't read itself. One that raises is absent from what is told."""

    device: str
    """`{tenant}/{device}`."""
    state: Path
    """Its disk is the one that must not fill."""
    rtf: Callable[[], Mapping[str, float]]
    microphone: Callable[[], Mapping[str, Any]]
    """`{hearing, device, rate, level, why}`; more is not told."""
    backlog: Callable[[], tuple[int, float | None]]
    """Records that wait, and the age of the oldest in seconds, if it is known. Called in a thread."""
    link: Callable[[], str]
    """The name of the one that carries the books now; empty: none."""


class Telemeter:
    """Measures one robot."""

    def __init__(self, gauges: Gauges, clock: Clock, say: Say = lambda _: None, *, interval_s: float = INTERVAL_SECONDS) -> None:
        self._gauges, self._clock, self._say, self._interval_s = gauges, clock, say, interval_s
        self._chance = seeded(clock.seed())
        self._began = clock.monotonic()
        self._before: tuple[float, float] | None = None
        self._complained: set[str] = set()
        self._due = 0.0
        """The next measures; a fault of ours does not hurry them."""

    async def run(self, link: Poster) -> None:
        """Until cancelled. While the link is away nothing is measured; what it does not take is forgotten."""
        while True:
            await self._clock.sleep(max(0.0, self._due - self._clock.monotonic()))
            await link.ready()
            self._due = self._clock.monotonic() + self._interval_s * self._chance.uniform(1 - JITTER, 1 + JITTER)
            answer = await link.post(wire.TELEMETRY, written(await self.measured()))
            if isinstance(answer, Refused):
                self._complain("all", answer.why)

    async def measured(self) -> Telemetry:
        """How the robot is now."""
        gauges = self._gauges
        cpu_percent, memory_mb = await asyncio.to_thread(self._taken)
        waiting = await asyncio.to_thread(self._read, "the backlog", gauges.backlog)
        oldest_s = waiting[1] if waiting else None
        return Telemetry(
            device=gauges.device,
            uptime_s=int(self._clock.monotonic() - self._began),
            cpu_percent=cpu_percent,
            memory_mb=memory_mb,
            temperature_c=hottest_c(),
            disk_free_mb=free_mb(gauges.state),
            rtf=dict(self._read("the real-time factors", gauges.rtf) or {}),
            microphone=_plain(self._read("the microphone", gauges.microphone) or {}),
            waiting_records=waiting[0] if waiting else None,
            waiting_oldest_s=None if oldest_s is None else max(0, int(oldest_s)),
            link=self._read("the link", gauges.link) or None,
        )

    def _taken(self) -> tuple[float | None, float | None]:
        """Percent of one core since the last call, and megabytes now, of the agent and its children."""
        family = processes.family(processes.own())
        now = (self._clock.monotonic(), processes.cpu_s(family))
        before, self._before = self._before, now
        percent = None
        if before and now[0] > before[0]:
            percent = max(0.0, round(100 * (now[1] - before[1]) / (now[0] - before[0]), 1))
        return percent, round(processes.pss_mb(family), 1) or None

    def _read(self, what: str, gauge: Callable[[], T]) -> T | None:
        try:
            return gauge()
        except (VoxmeterError, OSError, ValueError, LookupError) as error:
            self._complain(what, str(error))
            return None

    def _complain(self, what: str, why: str) -> None:
        """Once: it would be said again every minute."""
        if what not in self._complained:
            self._complained.add(what)
            self._say(f"telemetry: {what}: {' '.join(why.split())}")


def hottest_c(thermal: Path = THERMAL) -> float | None:
    """Degrees of the hottest zone the kernel knows; None where it knows none."""
    found = []
    for path in thermal.glob("thermal_zone*/temp"):
        with suppress(OSError, ValueError):  # a zone may be there and not answer
            found.append(int(path.read_text()) / 1000)
    return max((round(one, 1) for one in found if PLAUSIBLE_C[0] < one < PLAUSIBLE_C[1]), default=None)


def free_mb(folder: Path) -> float | None:
    """Megabytes that are free on its disk."""
    try:
        return round(shutil.disk_usage(folder).free / 1e6, 1)
    except OSError:
        return None


def _plain(health: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON has words for; what is not known is absent."""
    told: dict[str, Any] = {}
    for name in HALL:
        value = health.get(name)
        if isinstance(value, str):
            told[name] = value[:TEXT_MAX]
        elif isinstance(value, int | float) and math.isfinite(value):
            told[name] = value
    return told
