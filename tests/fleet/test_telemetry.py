"""What is measured is what it says, what can't be measured is absent, and nothing of it stops a robot."""

import asyncio
import itertools
import math
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent import processes
from agent.contract import wire
from agent.contract.fleet.presence import Telemetry, read_telemetry, written
from agent.errors import LedgerDamaged
from agent.fleet.telemetry import INTERVAL_SECONDS, JITTER, TURNS_MAX, Gauges, Rtf, Telemeter, free_mb, hottest_c
from agent.ports import Refused, Retry
from agent.sim.clock import SimulatedClock
from agent.tasks import kept
from agent.values import Outcome, Stage, StageResult, StageTimes, StageUsage, Turn
from tests.fleet.scripted_link import ScriptedLink

HEALTH = {"hearing": True, "device": "USB", "rate": 31.25, "level": -40.5, "why": "", "speaker": {"device": "HDMI"}, "floor": "listening"}


def gauges(state: Path, **others: Any) -> Gauges:
    plain: dict[str, Any] = {
        "rtf": lambda: {"tts": 0.3},
        "microphone": lambda: HEALTH,
        "backlog": lambda: (5, 61.9),
        "link": lambda: "mqtt",
    }
    return Gauges(device="demo/r1", state=state, **(plain | others))


def measured(state: Path, **others: Any) -> Telemetry:
    return asyncio.run(Telemeter(gauges(state, **others), SimulatedClock()).measured())


def stage(name: Stage, took_ms: int, outcome: Outcome = "completed", **usage: int) -> StageResult:
    return StageResult(name, "scripted", "m", outcome, StageUsage(**usage), StageTimes(0, 0, took_ms))  # type: ignore[arg-type]


def turn(*stages: StageResult) -> Turn:
    return Turn("t", "s", "", "", stages, None)


def test_all_of_it_is_told_and_can_be_read_again(tmp_path: Path) -> None:
    told = measured(tmp_path)
    assert (told.device, told.rtf, told.link, told.waiting_records, told.waiting_oldest_s) == ("demo/r1", {"tts": 0.3}, "mqtt", 5, 61)
    assert told.microphone == {"hearing": True, "device": "USB", "rate": 31.25, "level": -40.5, "why": ""}
    assert told.memory_mb is not None
    assert told.memory_mb > 10
    assert told.disk_free_mb is not None
    assert told.cpu_percent is None  # of what time?
    assert read_telemetry(written(told)) == told


@pytest.mark.parametrize("error", [LedgerDamaged("x"), OSError("x"), ValueError("x"), KeyError("x")])
def test_what_can_not_be_measured_is_absent_and_said_once(tmp_path: Path, error: Exception) -> None:
    def fails() -> Any:
        raise error

    async def story() -> None:
        said: list[str] = []
        telemeter = Telemeter(
            gauges(tmp_path / "gone", rtf=fails, microphone=fails, backlog=fails, link=fails), SimulatedClock(), said.append
        )
        for _ in range(2):
            told = await telemeter.measured()
            assert set(told.model_dump(exclude_none=True, exclude_defaults=True)) <= {
                "device", "uptime_s", "memory_mb", "temperature_c"
            }  # fmt: skip
        assert len(said) == 4

    asyncio.run(story())


@pytest.mark.parametrize(
    ("health", "told"),
    [
        ({"device": None, "hearing": False, "level": None}, {"hearing": False}),
        ({"level": -math.inf, "rate": math.nan}, {}),
        ({"why": "x" * 5000, "device": object()}, {"why": "x" * 200}),
        ({}, {}),
    ],
)
def test_of_a_microphone_only_what_is_known_is_told(tmp_path: Path, health: Mapping[str, Any], told: dict[str, Any]) -> None:
    assert measured(tmp_path, microphone=lambda: health).microphone == told


@pytest.mark.parametrize("backlog", [(0, None), (3, -5.0)])
def test_a_clock_that_went_back_makes_no_negative_age(tmp_path: Path, backlog: tuple[int, float | None]) -> None:
    told = measured(tmp_path, backlog=lambda: backlog)
    assert (told.waiting_records, told.waiting_oldest_s) == (backlog[0], None if backlog[1] is None else 0)


def test_real_time_factors_are_of_the_last_turns_that_ended_well() -> None:
    rtf = Rtf()
    assert rtf.told() == {}
    rtf.take(turn(stage("asr", 500, audio_in_ms=2000), stage("llm", 300), stage("tts", 600, audio_out_ms=3000)))
    assert rtf.told() == {"asr": 0.25, "llm": 0.1, "tts": 0.2}
    rtf.take(turn(stage("asr", 1500, audio_in_ms=2000), stage("llm", 900, "failed"), stage("tts", 60, "interrupted", audio_out_ms=9)))
    rtf.take(turn(stage("llm", 900), stage("asr", 7), stage("tts", 0, audio_out_ms=100)))
    assert rtf.told() == {"asr": 0.5, "llm": round(1200 / 3100, 3), "tts": 0.2}
    for _ in range(TURNS_MAX):
        rtf.take(turn(stage("asr", 100, audio_in_ms=1000)))
    assert rtf.told() == {"asr": 0.1}


def test_the_hottest_plausible_zone_is_told(tmp_path: Path) -> None:
    assert hottest_c(tmp_path / "nothing") is None
    for number, text in enumerate(["41200\n", "55000", "-273000", "", "hot", "999000"]):
        zone = tmp_path / f"thermal_zone{number}"
        zone.mkdir()
        (zone / "temp").write_text(text)
    (tmp_path / "thermal_zone9" / "temp").mkdir(parents=True)
    assert hottest_c(tmp_path) == 55.0


def test_a_disk_that_is_not_there_has_no_room_to_tell_of(tmp_path: Path) -> None:
    assert free_mb(tmp_path / "gone") is None
    assert (free_mb(tmp_path) or 0) > 0


BUSY = "import sys\nheld, n = b'x' * 100_000_000, 0\nwhile n < 30_000_000: n += 1\nprint('done', flush=True)\nsys.stdin.read()"


def test_a_childs_computing_and_memory_count_also_after_its_end(tmp_path: Path) -> None:
    clock = SimulatedClock()
    telemeter = Telemeter(gauges(tmp_path), clock)
    asyncio.run(telemeter.measured())
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"done\n"
        assert child.pid in processes.family(processes.own())
        used_s, own_s = processes.cpu_s([child.pid]), processes.cpu_s([processes.own()])
        assert used_s > 0.1
        clock.advance(10)
        after = asyncio.run(telemeter.measured())
        assert (after.cpu_percent or 0) >= int(10 * used_s)
        assert (after.memory_mb or 0) > processes.pss_mb([processes.own()]) + 80  # the tests' own process may shrink meanwhile
    assert child.pid not in processes.family(processes.own())
    assert (processes.cpu_s([child.pid]), processes.pss_mb([child.pid])) == (0, 0)
    assert processes.cpu_s([processes.own()]) >= own_s + used_s
    clock.advance(10)
    buried = asyncio.run(telemeter.measured())
    assert buried.cpu_percent is not None
    assert buried.cpu_percent < (after.cpu_percent or 0) / 4  # what it had used is not told twice


def told_until(link: ScriptedLink, telemeter: Telemeter, done: Callable[[], object], said: Callable[[str], None] = lambda _: None) -> None:
    """As who steers keeps it going."""

    async def story() -> None:
        task = asyncio.create_task(kept(partial(telemeter.run, link), SimulatedClock(), said))
        async with asyncio.timeout(20):
            while not done():
                await asyncio.sleep(0.001)
        assert not task.done()
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(story())


def test_it_is_told_at_intervals_by_chance_and_not_kept(tmp_path: Path) -> None:
    clock, link = SimulatedClock(), ScriptedLink()
    told_until(link, Telemeter(gauges(tmp_path), clock), lambda: len(link.sent) >= 5)
    assert {(one.topic, one.retained) for one in link.sent} == {(wire.TELEMETRY, False)}
    ups = [read_telemetry(one.body).uptime_s for one in link.sent]
    pauses = [later - earlier for earlier, later in itertools.pairwise(ups)]
    assert all(INTERVAL_SECONDS * (1 - JITTER) - 1 <= pause <= INTERVAL_SECONDS * (1 + JITTER) + 1 for pause in pauses)
    assert len(set(pauses)) > 1
    assert all(read_telemetry(one.body).cpu_percent is not None for one in link.sent[1:])


def test_while_the_link_is_away_nothing_is_measured_and_what_it_does_not_take_is_forgotten(tmp_path: Path) -> None:
    looked: list[bool] = []

    def backlog() -> tuple[int, None]:
        looked.append(True)
        return 0, None

    said: list[str] = []
    link = ScriptedLink([Retry("lost"), Refused("forbidden", "no right"), Refused("forbidden", "no right")])
    link.here.clear()

    def done() -> bool:
        if not link.here.is_set():
            assert not looked
            link.here.set()
        return len(link.sent) == 1

    told_until(link, Telemeter(gauges(tmp_path, backlog=backlog), SimulatedClock(), said.append), done)
    assert len(link.tries) == len(looked) >= 4
    assert said == ["telemetry: all: no right"]


def test_a_fault_of_ours_neither_ends_nor_hurries_it(tmp_path: Path) -> None:
    said: list[str] = []
    faults, at_s = [RuntimeError("a fault")] * 3, list[float]()
    clock, link = SimulatedClock(), ScriptedLink()

    def rtf() -> dict[str, float]:
        at_s.append(clock.monotonic())
        if faults:
            raise faults.pop()
        return {}

    told_until(link, Telemeter(gauges(tmp_path, rtf=rtf), clock), lambda: link.sent, said.append)
    assert said == ["RuntimeError: a fault"]
    assert all(later - earlier >= INTERVAL_SECONDS * (1 - JITTER) for earlier, later in itertools.pairwise(at_s[:4]))
