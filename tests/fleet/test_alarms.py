"""Alarms: one at each edge, whatever flaps, restarts or fails; each look with its limit and where it is well again."""

import asyncio
import datetime
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from agent.contract.fleet import alarm
from agent.errors import LedgerFull
from agent.fleet.alarms import REPEAT_S, Alarms, Look, looks
from agent.fleet.alarms.watching import ALARMS_FILE, Limits, Sources, Watching
from agent.metering.budget import Limit, Used
from agent.sim.clock import SimulatedClock
from agent.store.reading import Break

NOON = datetime.datetime(2026, 11, 27, 12, tzinfo=datetime.UTC)
WRONG = Look("backlog", wrong=True, well=False, message="it waits")
WELL = Look("backlog", wrong=False, well=True)
BETWEEN = Look("backlog", wrong=False, well=False)


class Story:
    """Alarms and the time they are looked at."""

    def __init__(self) -> None:
        self.alarms = Alarms("demo/r1")
        self.now_s = 0.0

    def look(self, look: Look, after_s: float = 1.0, *, fails: bool = False) -> list[str]:
        self.now_s += after_s
        edges = self.alarms.edges([look], self.now_s, NOON + datetime.timedelta(seconds=self.now_s))
        for told, seen in edges:
            if not fails:
                self.alarms.took(told, seen)
        return [told.state for told, _ in edges]

    def restart(self) -> None:
        self.alarms = Alarms("demo/r1", orjson.loads(orjson.dumps(self.alarms.told())))


def test_an_alarm_is_told_at_its_edges_alone() -> None:
    story = Story()
    assert [story.look(one) for one in (WELL, WRONG, WRONG, BETWEEN, WRONG, WELL, WELL)] == [[], ["raised"], [], [], [], ["cleared"], []]


def test_what_flaps_is_told_once_an_hour() -> None:
    story = Story()
    told = [state for _ in range(20) for one in (WRONG, WELL) for state in story.look(one)]
    assert told == ["raised", "cleared"]
    assert story.look(WRONG, REPEAT_S) == ["raised"]


def test_what_is_wrong_in_another_way_is_told_at_once() -> None:
    story = Story()
    told = [story.look(Look("budget", wrong=True, well=False, key=key)) for key in ("most", "most", "all")]
    assert told == [["raised"], [], ["raised"]]


def test_a_restart_repeats_nothing_and_forgets_nothing() -> None:
    story = Story()
    assert story.look(WRONG) == ["raised"]
    story.restart()
    assert story.alarms.raised() == ["backlog"]
    assert story.look(WRONG) == []
    assert story.look(WELL) == ["cleared"]
    story.restart()
    assert story.look(WRONG) == []
    assert story.look(WRONG, REPEAT_S) == ["raised"]


def test_it_must_be_wrong_for_as_long_as_it_holds() -> None:
    story = Story()
    short = Look("microphone", wrong=True, well=False, hold_s=300)
    assert story.look(short) == []
    assert story.look(short, 299) == []
    assert story.look(Look("microphone", wrong=False, well=True)) == []
    assert story.look(short) == []
    assert story.look(short, 300) == ["raised"]


def test_what_happened_once_is_cleared_after_a_day_and_not_raised_again() -> None:
    story = Story()
    first, second = ([Break("fork", "e" * 32, number, "different") for number in range(1, count)] for count in (2, 3))
    assert story.look(looks.happened("fork", [])) == []
    assert story.look(looks.happened("fork", first)) == ["raised"]
    assert story.look(looks.happened("fork", first), looks.HAPPENED_S + 1) == ["cleared"]
    assert story.look(looks.happened("fork", first), 10 * looks.HAPPENED_S) == []
    story.restart()
    assert story.look(looks.happened("fork", first)) == []
    assert story.look(looks.happened("fork", second)) == ["raised"]
    assert story.look(looks.happened("gap", second)) == []


def test_an_edge_that_could_not_be_told_is_found_again() -> None:
    story = Story()
    assert story.look(WRONG, fails=True) == ["raised"]
    assert story.look(WRONG) == ["raised"]


@pytest.mark.parametrize(
    "remembered", [{"backlog": 5}, {"backlog": {"raised": "perhaps"}}, {"backlog": {"raised": True, "raised_at": "?"}}]
)
def test_what_was_remembered_wrongly_makes_no_alarm_fail(remembered: dict[str, Any]) -> None:
    story = Story()
    story.alarms = Alarms("demo/r1", remembered)
    assert story.look(Look("backlog", wrong=True, well=False, key="x")) == ["raised"]


def used(spent: str) -> Used:
    return Used(Limit(Decimal(10), "month", "CNY"), Decimal(spent), "2026-11")


LOOKS: list[tuple[Look, bool, bool]] = [
    (looks.backlog(None, 0, 100), False, True),
    (looks.backlog(60, 5, 100), False, False),
    (looks.backlog(100, 5, 100), True, False),
    (looks.budget(None), False, True),
    (looks.budget(used("7.4")), False, True),
    (looks.budget(used("7.9")), False, False),
    (looks.budget(used("8")), True, False),
    (looks.microphone(None, 300), False, True),
    (looks.microphone({"hearing": True}, 300), False, True),
    (looks.microphone({"hearing": False, "why": "unplugged"}, 300), True, False),
    (looks.microphone({}, 300), True, False),
    (looks.engine({}), False, True),
    (looks.engine({"tts": "it crashed"}), True, False),
    (looks.certificate("good", 80), False, True),
    (looks.certificate("none", None), False, True),
    (looks.certificate("good", 3), False, True),
    (looks.certificate("renew", 30), False, False),
    (looks.certificate("renew", 3), True, False),
    (looks.certificate("expired", -1), True, False),
    (looks.certificate("revoked", 50), True, False),
    (looks.refused(0), False, True),
    (looks.refused(9), False, False),
    (looks.refused(10), True, False),
    (looks.twin("applied", 3, ""), False, True),
    (looks.twin("trial", 4, ""), False, False),
    (looks.twin("refused", 4, "it would lock the operator out"), True, False),
    (looks.twin("failed", 4, "no microphone"), True, False),
]


@pytest.mark.parametrize(("look", "wrong", "well"), LOOKS, ids=[f"{number}-{one[0].name}" for number, one in enumerate(LOOKS)])
def test_each_look_has_its_limit_and_where_it_is_well_again(look: Look, wrong: bool, well: bool) -> None:
    assert (look.wrong, look.well) == (wrong, well)
    assert not wrong or look.message


def test_a_budget_that_is_all_spent_is_another_alarm_than_most_of_it() -> None:
    assert looks.budget(used("8")).key != looks.budget(used("10")).key


class Out:
    """An outbox in memory that refuses when told to."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.full = False

    async def post(self, topic: str, body: bytes) -> None:
        if self.full:
            raise LedgerFull("the disk is full", "make room")
        assert topic == "event/alarm"
        self.told.append(orjson.loads(body))
        assert alarm.read(body).device == "demo/r1"

    async def posted(self, skipped: int = 0) -> list[Any]:
        assert skipped == 0
        return []

    async def delivered(self, ids: Any) -> None: ...

    async def posting(self) -> None: ...


class Robot:
    """Values that are looked at, and who watches."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock, self.out, self.said = folder, SimulatedClock(1), Out(), list[str]()
        self.age_s, self.refused, self.breaks = 0.0, 0, list[Break]()
        self.hearing: Callable[[], dict[str, Any]] = lambda: {"hearing": True}
        self.start()

    def start(self) -> None:
        sources = Sources(backlog=lambda: (self.age_s, 7), breaks=lambda: self.breaks, hearing=self._hear, refused=lambda: self.refused)
        limits = Limits(backlog_s=3600, silent_s=300)
        self.watching = Watching("demo/r1", self.folder, sources, self.out, self.clock, say=self.said.append, limits=limits)

    def _hear(self) -> dict[str, Any]:
        return self.hearing()

    async def look(self, after_s: float = 30) -> list[tuple[str, str]]:
        self.clock.advance(after_s)
        before = len(self.out.told)
        await self.watching.look()
        return [(one["name"], one["state"]) for one in self.out.told[before:]]


def test_what_is_wrong_is_posted_said_and_remembered_over_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        robot = Robot(tmp_path)
        assert await robot.look() == []
        robot.age_s = 3600
        assert await robot.look() == [("backlog", "raised")]
        assert robot.said == ["alarm: backlog raised: 7 records wait for the backend, the oldest for 1.0 hours"]
        assert robot.watching.raised == ["backlog"]
        robot.start()
        assert await robot.look() == []
        robot.age_s = 10
        assert await robot.look() == [("backlog", "cleared")]
        (tmp_path / ALARMS_FILE).write_bytes(b"not json")
        robot.start()
        assert await robot.look() == []

    asyncio.run(story())


def test_a_microphone_that_is_silent_a_fork_and_a_storm_of_refused_commands(tmp_path: Path) -> None:
    async def story() -> None:
        robot = Robot(tmp_path)
        robot.hearing = lambda: {"hearing": False, "why": "no frames"}
        robot.breaks = [Break("fork", "e" * 32, 1, "different")]
        assert await robot.look() == [("fork", "raised")]
        robot.refused = 10
        assert await robot.look(300) == [("microphone", "raised"), ("refused-commands", "raised")]
        assert await robot.look(3601) == [("refused-commands", "cleared")]

    asyncio.run(story())


def test_a_source_that_fails_is_said_once_and_leaves_its_alarm_alone(tmp_path: Path) -> None:
    async def story() -> None:
        robot = Robot(tmp_path)

        def broken() -> dict[str, Any]:
            raise OSError("gone")

        robot.hearing = broken
        robot.age_s = 3600
        assert await robot.look() == [("backlog", "raised")]
        assert await robot.look() == []
        assert robot.said.count("the alarms can't look at hearing: gone") == 1

    asyncio.run(story())


def test_a_disk_that_is_full_loses_no_alarm(tmp_path: Path) -> None:
    async def story() -> None:
        robot = Robot(tmp_path)
        robot.age_s, robot.out.full = 3600, True
        assert await robot.look() == []
        assert await robot.look() == []
        assert len(robot.said) == 1
        robot.out.full = False
        assert await robot.look() == [("backlog", "raised")]

    asyncio.run(story())
