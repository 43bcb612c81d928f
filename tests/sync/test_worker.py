"""The worker: every record is acknowledged over whatever links there are, at once where nothing is on its way, else in full batches."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.contract.wire import INFLIGHT_MAX
from agent.errors import LedgerFull
from agent.ports import Refused, Retry
from agent.sim.world.loop import RobotClock, run
from agent.sync.worker import Worker
from tests.sync.helpers import TRUSTED, Backend, Books, PlayedBacklog, PlayedLink, batch_of, epoch_of
from tests.sync.robot import ONE, Robot, played


def test_an_idle_record_leaves_at_once_and_costs_one_batch() -> None:
    async def test(robot: Robot) -> None:
        await asyncio.sleep(60)
        for _ in range(3):
            robot.backlog.append()
            assert await robot.acked() < 0.05
            await asyncio.sleep(20)
        assert robot.links[0].marks == 1
        assert robot.worker.status()["problem"] == ""

    assert len(played(test).links[0].sent) == 3


def test_records_that_come_while_one_is_on_its_way_share_the_next_batch() -> None:
    async def test(robot: Robot) -> None:
        await asyncio.sleep(60)
        for _ in range(3):
            robot.backlog.append()
            await asyncio.sleep(0.005)
        await robot.acked()
        assert robot.links[0].sent == [batch_of(ONE, 1, 1).content, batch_of(ONE, 2, 3).content]

    played(test)


@pytest.mark.parametrize("window", [1, 5, 12])
def test_a_backlog_fills_the_window_and_no_more(window: int) -> None:
    async def test(robot: Robot) -> None:
        robot.backend.window = window
        robot.backlog.append(200)
        await robot.acked()
        assert robot.links[0].in_flight_max == min(window, INFLIGHT_MAX)
        assert len(robot.links[0].sent) == 67

    played(test)


def test_acks_that_arrive_together_are_taken_once() -> None:
    async def test(robot: Robot) -> None:
        robot.backlog.append(24)
        await robot.acked()

    assert len(played(test).backlog.books.took) < 7


def test_no_answer_is_a_resend_of_the_same_bytes() -> None:
    async def test(robot: Robot) -> None:
        robot.links[0].fates = ["good", "unheard", "lost"]
        robot.backlog.append(2)
        await robot.acked(120)
        assert robot.links[0].sent == [batch_of(ONE, 1, 2).content] * 3

    played(test)


def test_after_three_failures_https_serves_until_the_first_link_is_good_again() -> None:
    async def test(robot: Robot) -> None:
        first, second = robot.links
        await asyncio.sleep(60)
        first.always = Retry("no route to host")
        robot.backlog.append(9)
        assert await robot.acked(120) < 30
        assert (len(first.sent), second.marks) == (5, 1)  # three together, then one at a time
        robot.backlog.append()
        await robot.acked(1)
        await asyncio.sleep(600)
        assert robot.worker.status()["link"] == "https"
        assert 2 <= first.marks <= 8
        first.always = "good"
        await robot.until(lambda: robot.worker.status()["link"] == "mqtt", 600)
        robot.backlog.append()
        await robot.acked(1)
        assert robot.said == ["sync goes on over https: mqtt: no route to host", "sync goes on over mqtt"]

    played(test)


def test_a_link_that_stays_down_gives_way_after_two_minutes_and_serves_again_when_it_connects() -> None:
    async def test(robot: Robot) -> None:
        robot.links[0].cut()
        robot.links[1].cut()
        robot.backlog.append(30)
        await asyncio.sleep(100)
        assert not robot.backlog.books.batches
        robot.links[1].connect()
        assert 15 < await robot.acked(60) < 30
        robot.links[0].connect()
        await robot.until(lambda: robot.worker.status()["link"] == "mqtt", 60)

    played(test, up=False)


def test_while_nobody_answers_nothing_new_is_batched() -> None:
    async def test(robot: Robot) -> None:
        await asyncio.sleep(1)
        robot.links[0].always = "unheard"
        for _ in range(200):
            robot.backlog.append()
            await asyncio.sleep(30)
        assert len(robot.backlog.books.batches[ONE]) <= INFLIGHT_MAX
        assert len(robot.links[0].sent) < 300
        robot.links[0].always = "good"
        await robot.acked(120)

    played(test, "mqtt")


def test_epochs_are_not_looked_up_for_each_record() -> None:
    async def test(robot: Robot) -> None:
        for _ in range(300):
            robot.backlog.append()
            await asyncio.sleep(0.1)
        await robot.acked()
        assert robot.backlog.listings < 6

    played(test)


def test_an_earlier_epoch_that_comes_up_later_is_found_even_if_the_first_look_fails() -> None:
    async def test(robot: Robot) -> None:
        await asyncio.sleep(20)
        robot.backlog.trouble["epochs"] = LedgerFull("the disk is full")
        robot.backlog.books.names.insert(0, epoch_of(9))
        robot.backlog.books.add(3, epoch_of(9))
        robot.backlog.append()
        await robot.acked(30)

    played(test)


def test_who_begins_again_notices_a_link_that_connects() -> None:
    async def test(robot: Robot) -> None:
        await asyncio.sleep(1)
        robot.running.cancel()
        await asyncio.gather(robot.running, return_exceptions=True)
        robot.running = asyncio.ensure_future(robot.worker.run())
        robot.backlog.append()
        await asyncio.sleep(1)
        robot.links[0].connect()
        await robot.acked(1)

    played(test, up=False)


def test_each_connection_begins_with_a_mark() -> None:
    async def test(robot: Robot) -> None:
        for marks in range(1, 5):
            await robot.until(lambda expected=marks: robot.links[0].marks == expected, 60)  # type: ignore[misc]
            robot.links[0].connect()

    played(test)


def test_a_restored_backend_gets_again_what_it_has_lost_also_of_an_earlier_epoch() -> None:
    async def test(robot: Robot) -> None:
        robot.backlog.append(4)
        await robot.acked()
        kept = {epoch: dict(held) for epoch, held in robot.backend.held.items()}
        del kept[ONE][3], kept[ONE][4]
        robot.backlog.append(5)
        await robot.acked()
        robot.backlog.books.names.append(epoch_of(2))
        robot.backlog.append(5)
        await robot.acked()
        robot.backend.restore(kept, "b2")
        await asyncio.sleep(60)
        robot.backlog.append()
        await robot.until(lambda: robot.backend.cum(ONE) == 9 and robot.backend.cum(epoch_of(2)) == 6, 60)

    played(test)


def test_the_backend_may_ask_for_patience() -> None:
    async def test(robot: Robot) -> None:
        robot.links[0].fates = ["good", Retry("busy", 60_000)]
        robot.backlog.append(30)
        assert 60 <= await robot.acked(200) < 80
        assert robot.worker.status()["link"] == "mqtt"

    played(test)


def test_an_ack_may_ask_for_a_rest_before_the_next_batch() -> None:
    async def test(robot: Robot) -> None:
        robot.backend.not_before_ms = 10_000
        robot.backlog.append(30)
        assert 20 <= await robot.acked(60) < 50

    played(test)


def test_a_window_of_none_is_waited_for_with_marks() -> None:
    async def test(robot: Robot) -> None:
        robot.backend.window = 0
        robot.backlog.append(3)
        await asyncio.sleep(100)
        assert robot.links[0].sent == []
        assert 10 <= robot.links[0].marks <= 21
        robot.backend.window = 2
        await robot.acked(20)

    played(test)


def test_an_earlier_epoch_travels_first_and_under_its_own_name() -> None:
    async def test(robot: Robot) -> None:
        robot.backlog.append(2)
        robot.backlog.books.names.append(epoch_of(2))
        robot.backlog.append(1)
        await robot.acked()
        assert robot.links[0].sent == [batch_of(ONE, 1, 2).content, batch_of(epoch_of(2), 1, 1).content]

    played(test)


def test_records_beyond_a_gap_wait_without_being_sent_again_until_a_mark_says_that_they_are_linked() -> None:
    async def test(robot: Robot) -> None:
        books = robot.backlog.books
        books.last[ONE], books.batches[ONE] = 6, [batch_of(ONE, 5, 6)]
        books.names.append(epoch_of(2))
        robot.backlog.append(3)
        await asyncio.sleep(3600)
        assert books.cursor[epoch_of(2)] == 3
        assert len(robot.links[0].sent) == 2
        assert robot.links[0].marks < 25
        robot.backend.receive(batch_of(ONE, 1, 4).content)
        await robot.acked(3600)

    played(test)


def test_a_fleet_does_not_speak_all_at_once_after_a_start() -> None:
    async def main() -> list[float]:
        spoke = []
        for seed in range(20):
            backend = Backend()
            link, clock = PlayedLink("mqtt", backend), RobotClock(seed)
            worker = Worker(PlayedBacklog(Books()), [link], lambda: TRUSTED, clock, lambda _: None)
            began, running = clock.monotonic(), asyncio.ensure_future(worker.run())
            while not link.marks:
                await asyncio.sleep(0.01)
            spoke.append(clock.monotonic() - began)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return spoke

    spoke = run(main())
    assert max(spoke) <= 10.1
    assert max(spoke) - min(spoke) > 5


FATES = st.sampled_from(
    ["good", "good", "good", "lost", "unheard", "forged", Retry("cut"), Retry("busy", 3000), Refused("unknown-key", "?")]
)


@settings(max_examples=60)
@given(
    appended=st.lists(st.tuples(st.integers(1, 12), st.sampled_from([0.0, 0.01, 1.0, 50.0])), min_size=1, max_size=8),
    fates=st.tuples(st.lists(FATES, max_size=25), st.lists(FATES, max_size=10)),
    lost_at=st.integers(0, 7),
    delays_s=st.lists(st.sampled_from([0.0, 0.01, 0.3, 20.0]), min_size=1),
)
def test_whatever_links_do_all_is_acked_once_they_are_good(
    appended: list[tuple[int, float]], fates: tuple[list[Any], list[Any]], lost_at: int, delays_s: list[float]
) -> None:
    async def test(robot: Robot) -> None:
        delays = iter(delays_s * 40)
        for link, own in zip(robot.links, fates, strict=True):
            link.fates = list(own)
            link.delay = lambda: next(delays, 0.01)
        for number, (records, seconds) in enumerate(appended):
            if number == lost_at:
                robot.backend.restore({}, "b2")
                robot.links[0].connect()
            robot.backlog.append(records)
            await asyncio.sleep(seconds)
        total = sum(records for records, _ in appended)
        await robot.until(lambda: robot.cursor == robot.backend.cum(ONE) == total, 6 * 3600)

    played(test)
