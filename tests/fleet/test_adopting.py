"""The trial of a twin on a robot with a real folder: good, taken back, cut off at every step, and what a hostile broker sends."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.contract.fleet import command
from agent.contract.fleet import twin as contract
from agent.contract.fleet.command import Command
from agent.errors import BadInput, VoxmeterError
from agent.fleet.twin.adopting import HEALTHY_S, TRIAL_S_MAX
from agent.ports.twin import Standing
from agent.store.remote import TWIN_FILE, Remote
from tests.fleet.twins import AUDIENCE, BACKEND, OTHER, Robot, desired, keys

QUIET: dict[str, dict[str, Any]] = {"llm": {"max_tokens": 20}}
LOUD: dict[str, dict[str, Any]] = {"llm": {"max_tokens": 40}}
MISSING: dict[str, dict[str, Any]] = {"llm": {"model": "missing"}}
SICK: dict[str, dict[str, Any]] = {"llm": {"model": "sick"}}


class PowerCut(Exception):
    """The process is gone."""


class Cut(Remote):
    """A book whose process dies at its nth write, before it or after it; or whose disk refuses it."""

    def __init__(self, state: Path, say: Callable[[str], None], at: int, how: str) -> None:
        super().__init__(state, say)
        self.left, self._how = at, how

    def put(self, standing: Standing) -> None:
        self.left -= 1
        if self.left >= 0:
            super().put(standing)
        elif self._how == "refused":
            raise BadInput("no space left on the disk")
        elif self._how == "after":
            super().put(standing)
        if self.left == -1 and self._how != "refused":
            raise PowerCut


def test_a_twin_that_holds_is_in_force_and_told_at_every_step(tmp_path: Path) -> None:
    async def whole() -> None:
        robot = Robot(tmp_path)
        await robot.live()
        assert (robot.open_with, robot.told.state, robot.reports) == ({}, "none", [])
        assert await robot.wanted(1, QUIET, groups=["lobby"])
        assert (robot.told.state, robot.told.in_force) == ("trial", 0)
        assert len(robot.reopenings) == 1
        begun = robot.clock.monotonic()
        await robot.live()
        assert HEALTHY_S <= robot.clock.monotonic() - begun < HEALTHY_S + 5
        assert robot.open_with == QUIET | {"fleet": {"groups": ["lobby"]}}
        assert (robot.told.state, robot.told.version, robot.told.in_force, robot.told.settings) == ("applied", 1, 1, robot.open_with)
        assert [one.state for one in robot.reports] == ["trial", "trial", "applied"]
        assert Robot(tmp_path).told == robot.told

    asyncio.run(whole())


def test_a_model_that_is_not_there_is_taken_back_at_the_opening(tmp_path: Path) -> None:
    async def whole() -> None:
        robot = Robot(tmp_path)
        await robot.wanted(1, QUIET)
        await robot.live()
        await robot.wanted(2, MISSING | {"words": {"keep": True}})
        await robot.live()
        assert robot.open_with == QUIET
        assert (robot.told.version, robot.told.state, robot.told.in_force, robot.told.settings) == (2, "failed", 1, QUIET)
        assert robot.told.why == "missing is not on this robot"
        assert await robot.wanted(2, MISSING)
        assert robot.reopenings == []

    asyncio.run(whole())


def test_a_robot_that_is_not_well_goes_back(tmp_path: Path) -> None:
    async def whole() -> None:
        robot = Robot(tmp_path)
        await robot.wanted(1, SICK)
        await robot.live()
        assert robot.clock.monotonic() >= TRIAL_S_MAX
        assert (robot.open_with, robot.told.state, robot.told.why) == ({}, "failed", "the voice does not answer")

    asyncio.run(whole())


@pytest.mark.parametrize("was_connected", [True, False])
def test_the_broker_must_be_back_if_it_was_there(tmp_path: Path, was_connected: bool) -> None:
    async def whole() -> None:
        robot = Robot(tmp_path, connected=was_connected)
        await robot.wanted(1, QUIET)
        robot.connected = False
        await robot.live()
        assert robot.told.state == ("failed" if was_connected else "applied")
        assert ("broker" in robot.told.why) == was_connected

    asyncio.run(whole())


def test_a_broker_that_comes_back_late_but_in_time_is_enough(tmp_path: Path) -> None:
    async def whole() -> None:
        robot = Robot(tmp_path)
        await robot.wanted(1, QUIET)
        robot.connected = False
        await robot.open()
        running = asyncio.create_task(robot.adopting.run())
        while robot.clock.monotonic() < TRIAL_S_MAX / 2:
            await asyncio.sleep(0)
        assert robot.told.in_force == 0
        robot.connected = True
        await running
        assert robot.told.in_force == 1

    asyncio.run(whole())


def test_a_crash_on_trial_is_tried_once_more_and_then_taken_back(tmp_path: Path) -> None:
    async def whole() -> None:
        await Robot(tmp_path).wanted(1, QUIET)
        for _ in range(2):
            robot = Robot(tmp_path)
            await robot.open()
            assert robot.open_with == QUIET
        robot = Robot(tmp_path)
        await robot.live()
        assert (robot.open_with, robot.told.state) == ({}, "failed")
        assert "ended 2 times" in robot.told.why
        assert any("taken back" in line for line in robot.lines)

    asyncio.run(whole())


def test_a_failure_while_running_on_trial_goes_back_and_one_later_is_not_the_twins(tmp_path: Path) -> None:
    async def whole() -> None:
        robot = Robot(tmp_path)
        await robot.open()
        assert not await robot.adopting.fell("the microphone is gone")
        await robot.wanted(1, QUIET)
        assert not await robot.adopting.fell("not yet open with it")
        await robot.open()
        assert await robot.adopting.fell("the voice broke")
        await robot.live()
        assert (robot.open_with, robot.told.why) == ({}, "the voice broke")
        await robot.wanted(2, QUIET)
        await robot.live()
        assert not await robot.adopting.fell("the microphone is gone")
        assert robot.told.state == "applied"

    asyncio.run(whole())


def test_an_older_twin_is_counted_and_the_same_again_is_not(tmp_path: Path) -> None:
    async def whole() -> None:
        robot = Robot(tmp_path)
        await robot.wanted(2, QUIET)
        await robot.live()
        assert await robot.wanted(2, QUIET)
        assert not robot.adopting.refused
        assert await robot.wanted(1, LOUD)
        assert robot.adopting.refused == {"older": 1}
        assert (robot.told.version, robot.told.state) == (2, "applied")

    asyncio.run(whole())


def test_a_newer_twin_ends_the_watch_over_the_older_one(tmp_path: Path) -> None:
    async def whole() -> None:
        robot = Robot(tmp_path)
        await robot.wanted(1, QUIET)
        await robot.open()
        await robot.wanted(2, LOUD)
        await robot.adopting.run()
        assert (robot.told.state, robot.told.in_force) == ("trial", 0)
        assert await robot.adopting.fell("the older one broke it")
        await robot.live()
        assert (robot.open_with, robot.told.state, robot.told.in_force) == (LOUD, "applied", 2)

    asyncio.run(whole())


def test_whom_to_believe_changes_only_with_a_twin_in_force(tmp_path: Path) -> None:
    async def whole() -> None:
        robot = Robot(tmp_path)
        await robot.wanted(1, MISSING, trust=keys(BACKEND, OTHER))
        await robot.live()
        assert not robot.trusted_file.exists()
        await robot.wanted(2, QUIET, trust=keys(BACKEND, OTHER))
        await robot.open()
        assert not robot.trusted_file.exists()
        await robot.live()
        assert set(robot.trusted()) == {BACKEND.key_id, OTHER.key_id}
        assert await robot.comes(contract.signed(desired(3, LOUD, trust=keys(OTHER)), OTHER))
        await robot.live()
        assert set(robot.trusted()) == {OTHER.key_id}
        await robot.wanted(4, QUIET)
        assert (robot.told.version, robot.adopting.refused) == (3, {"bad-signature": 1})

    asyncio.run(whole())


@pytest.mark.parametrize("new", [False, True])
def test_a_robot_that_is_not_well_learns_whom_to_believe_without_a_trial(tmp_path: Path, new: bool) -> None:
    async def whole() -> None:
        robot = Robot(tmp_path)
        await robot.live()
        robot.ailing = "the microphone is gone"
        assert await robot.wanted(1, trust=keys(BACKEND, OTHER) if new else keys(BACKEND))
        assert (robot.told.state, robot.told.version, robot.told.in_force) == ("applied", 1, 1)
        assert robot.trusted_file.exists()
        assert (OTHER.key_id in robot.trusted()) == new
        assert robot.reopenings == (["whom to believe has changed"] if new else [])
        assert not robot.book.standing.owed
        assert Robot(tmp_path).told == robot.told

    asyncio.run(whole())


def test_where_the_disk_refuses_whom_to_believe_it_stays_owed_and_is_paid_at_the_next_opening(tmp_path: Path) -> None:
    async def whole() -> None:
        robot = Robot(tmp_path, lambda state, say: Cut(state, say, 1, "refused"))
        await robot.live()
        assert await robot.wanted(1, trust=keys(BACKEND, OTHER))
        assert robot.reopenings == ["whom to believe is still to be written down"]
        again = Robot(tmp_path)
        assert again.book.standing.owed
        await again.live()
        assert (again.book.standing.owed, OTHER.key_id in again.trusted()) == ({}, True)

    asyncio.run(whole())


def test_a_twin_that_says_again_whom_to_believe_opens_the_robot_once(tmp_path: Path) -> None:
    async def whole() -> None:
        robot = Robot(tmp_path)
        await robot.wanted(1, QUIET, trust=keys(BACKEND))
        assert len(robot.reopenings) == 1
        await robot.open()
        await robot.adopting.run()
        assert (robot.reopenings, robot.told.state) == ([], "applied")
        await robot.wanted(2, LOUD, trust=keys(BACKEND, OTHER))
        await robot.open()
        await robot.adopting.run()
        assert robot.reopenings == ["whom to believe has changed"]

    asyncio.run(whole())


def forged() -> dict[str, bytes]:
    """What a broker can send without the backend's key, and what the backend never signed as a twin for this robot."""
    good = contract.signed(desired(9, QUIET), BACKEND)
    header, body, signature = good.split(b".")
    other = contract.signed(desired(9, QUIET, aud="demo/sim-0002"), BACKEND)
    told = Command(cmd_id="0190aaaa-0000-7000-8000-000000000000", aud=AUDIENCE, seq=1, op="ping", iat=1, exp=2)
    return {
        "another key": contract.signed(desired(9, QUIET), OTHER),
        "altered": b".".join([header, body[:-4] + b"AAAA", signature]),
        "another robot": other,
        "a command": command.signed(told, BACKEND),
        "cut": good[: len(good) // 2],
        "empty": b"",
        "garbage": b"\x00\xff" * 50,
        "long": b"A" * 1_000_000,
    }


@pytest.mark.parametrize("kind", forged())
def test_what_the_backend_did_not_sign_for_this_robot_changes_nothing(tmp_path: Path, kind: str) -> None:
    async def whole() -> None:
        robot = Robot(tmp_path)
        await robot.wanted(2, LOUD)
        await robot.live()
        before = (tmp_path / TWIN_FILE).read_bytes()
        assert await robot.comes(forged()[kind])
        assert (tmp_path / TWIN_FILE).read_bytes() == before
        assert sum(robot.adopting.refused.values()) == 1
        assert sum("is not taken" in line for line in robot.lines) == 1
        assert robot.reopenings == []

    asyncio.run(whole())


@given(st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_garbage_is_confirmed_and_forgotten(tmp_path: Path, content: bytes) -> None:
    robot = Robot(tmp_path)
    assert asyncio.run(robot.comes(content))
    assert robot.book.standing == Standing()


def test_a_flood_of_garbage_does_not_fill_the_journal(tmp_path: Path) -> None:
    async def whole() -> None:
        robot = Robot(tmp_path)
        for _ in range(1000):
            await robot.comes(b"x")
        assert robot.adopting.refused == {"bad-signature": 1000}
        assert len(robot.lines) <= 20

    asyncio.run(whole())


def test_old_versions_and_signed_nonsense(tmp_path: Path) -> None:
    async def whole() -> None:
        robot = Robot(tmp_path)
        await robot.wanted(5, QUIET)
        await robot.live()
        for version in (1, 5):
            assert await robot.wanted(version, LOUD)
        assert (robot.told.in_force, robot.told.settings, robot.reopenings) == (5, QUIET, [])
        assert await robot.wanted(6, {"llm": {"threads": "two"}})
        assert (robot.told.version, robot.told.state, robot.told.in_force) == (6, "refused", 5)
        assert robot.told.why.startswith("settings from afar: llm.threads: ")

    asyncio.run(whole())


def test_a_twin_that_can_not_be_written_down_comes_again(tmp_path: Path) -> None:
    async def whole() -> None:
        robot = Robot(tmp_path, lambda state, say: Cut(state, say, 0, "refused"))
        assert not await robot.wanted(1, QUIET)
        assert (robot.told.state, robot.reopenings) == ("none", [])
        with pytest.raises(VoxmeterError, match="no space"):
            await robot.adopting.apply(QUIET)

    asyncio.run(whole())


@pytest.mark.parametrize("writes", [1, 2])
def test_a_disk_that_refuses_later_keeps_the_robot_on_what_it_had(tmp_path: Path, writes: int) -> None:
    """One write: the try can't be counted, so it is not tried. Two: it can't be said to be good, and is not."""

    async def whole() -> None:
        robot = Robot(tmp_path, lambda state, say: Cut(state, say, writes, "refused"))
        await robot.wanted(1, QUIET)
        await robot.live()
        assert robot.open_with == {}
        assert any("no space" in line for line in robot.lines)

    asyncio.run(whole())


async def life(robot: Robot, wished: dict[str, dict[str, Any]]) -> None:
    """A twin in force, then another with keys that comes and is tried."""
    await robot.live()
    await robot.wanted(1, QUIET)
    await robot.live()
    await robot.wanted(2, wished, trust=keys(BACKEND, OTHER))
    await robot.live()


@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize("wished", [LOUD, MISSING, SICK], ids=["good", "missing", "sick"])
def test_a_power_cut_at_every_write(tmp_path: Path, wished: dict[str, dict[str, Any]], how: str) -> None:
    """Wherever it is cut, the robot starts with one of the three, whole; and where the broker keeps the twin, it ends the same."""
    cuts = 0
    for at in range(20):
        folder = tmp_path / str(at)
        folder.mkdir()
        robot = Robot(folder, lambda state, say, at=at: Cut(state, say, at, how))  # type: ignore[misc]
        try:
            asyncio.run(life(robot, wished))
            break
        except PowerCut:
            cuts += 1
        again = Robot(folder)
        assert again.told.settings in ({}, QUIET, LOUD)
        assert not again.trusted_file.exists() or again.told.in_force == 2
        asyncio.run(life(again, wished))
        good = wished is LOUD
        assert (again.told.version, again.told.state, again.open_with) == (2, "applied" if good else "failed", LOUD if good else QUIET)
        assert again.trusted_file.exists() == good
    assert cuts >= 6


def test_settings_of_a_command_are_tried_like_a_twin(tmp_path: Path) -> None:
    async def whole() -> None:
        robot = Robot(tmp_path)
        await robot.wanted(1, QUIET)
        await robot.live()
        assert await robot.adopting.apply({"llm": {"threads": 1}}) == {"in_force": 1, "state": "trial", "why": "config.apply: on trial"}
        assert (await robot.adopting.apply({"llm": {"threads": 1}}))["state"] == "trial"
        with pytest.raises(BadInput, match="on trial just now"):
            await robot.adopting.apply(LOUD)
        await robot.live()
        assert robot.open_with == {"llm": {"max_tokens": 20, "threads": 1}}
        assert (await robot.adopting.apply({"llm": {"threads": 1}}))["state"] == "applied"
        assert robot.reopenings == []
        await robot.adopting.apply({"llm": {"model": "missing"}})
        await robot.live()
        assert (robot.open_with, robot.told.state) == ({"llm": {"max_tokens": 20, "threads": 1}}, "failed")
        assert robot.told.why == "config.apply: missing is not on this robot"
        with pytest.raises(BadInput, match="is not set from afar"):
            await robot.adopting.apply({"device": {"id": "x"}})
        await robot.wanted(2, LOUD)
        await robot.live()
        assert robot.open_with == LOUD

    asyncio.run(whole())


def test_a_robot_that_is_closed_in_the_middle_of_a_write_has_written_it(tmp_path: Path) -> None:
    async def whole() -> None:
        robot = Robot(tmp_path)
        taking = asyncio.create_task(robot.wanted(1, QUIET))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        await robot.live()
        assert robot.open_with in ({}, QUIET)
        assert Robot(tmp_path).told == robot.told

    asyncio.run(whole())
