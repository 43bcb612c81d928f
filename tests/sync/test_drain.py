"""`drain`: ends when nothing is left, or says why something is."""

import asyncio
from typing import Any

import pytest

from agent.ports import Refused, Retry
from tests.sync.robot import Robot, played


def test_drain_says_whether_nothing_is_left() -> None:
    async def test(robot: Robot) -> None:
        robot.backlog.append(9)
        assert (await robot.worker.drain(10)).complete
        assert robot.cursor == 9
        robot.running.cancel()
        await asyncio.gather(robot.running, return_exceptions=True)
        robot.backlog.append(9)
        for _ in range(2):
            assert (await robot.worker.drain(10)).complete
            assert robot.cursor == 18
        robot.running = asyncio.ensure_future(robot.worker.run())
        robot.backlog.append(9)
        await robot.acked()

    played(test)


@pytest.mark.parametrize("always", [Retry("no route to host"), Refused("unknown-device", "register it"), "unheard"])
@pytest.mark.parametrize("links", [["mqtt"], ["mqtt", "https"]])
def test_drain_says_why_something_is_left(links: list[str], always: Any) -> None:
    async def test(robot: Robot) -> None:
        for link in robot.links:
            link.always = always
        robot.backlog.append(1)
        drained = await robot.worker.drain(600)
        assert not drained.complete
        assert "no" in drained.why or "register it" in drained.why
        assert robot.clock.monotonic() < (300 if always == "unheard" else 30)
        assert "not done within" in (await robot.worker.drain(0.005)).why or always != "unheard"

    played(test, *links)


def test_drain_without_any_connection_ends_soon_and_says_so() -> None:
    async def test(robot: Robot) -> None:
        for link in robot.links:
            link.cut()
        drained = await robot.worker.drain(600)
        assert drained.why == "no link to the backend is up"
        assert robot.clock.monotonic() < 60

    played(test, "mqtt", up=False)


def test_two_drains_beside_each_other_both_end() -> None:
    async def test(robot: Robot) -> None:
        robot.running.cancel()
        robot.backlog.append(9)
        assert all(done.complete for done in await asyncio.gather(robot.worker.drain(20), robot.worker.drain(20)))

    async def nobody(robot: Robot) -> None:
        robot.running = asyncio.ensure_future(asyncio.sleep(0))
        await test(robot)

    played(nobody)


def test_drain_counts_a_record_that_came_while_it_was_looked_what_there_is() -> None:
    async def test(robot: Robot) -> None:
        robot.backlog.listing_s = 1
        await asyncio.sleep(20)
        robot.backlog.append()
        await asyncio.sleep(5)
        robot.backlog.append()
        at = robot.backlog.listings
        await robot.until(lambda: robot.backlog.listings > at)
        robot.backlog.append()
        assert (await robot.worker.drain(20)).complete
        assert robot.cursor == 3

    played(test)


def test_drains_that_end_in_the_middle_leave_nothing_behind_that_matters() -> None:
    async def test(robot: Robot) -> None:
        robot.running.cancel()
        for number in range(60):
            robot.backlog.append()
            await robot.worker.drain(number / 1000)
        assert (await robot.worker.drain(20)).complete
        assert robot.cursor == 60

    async def nobody(robot: Robot) -> None:
        robot.running.cancel()
        await asyncio.gather(robot.running, return_exceptions=True)
        robot.running = asyncio.ensure_future(asyncio.sleep(0))
        await test(robot)

    played(nobody)
