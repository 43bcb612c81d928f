"""What the backend says: acks of all kinds, refusals, forks; and what the ledger makes of them."""

import asyncio
from typing import Any

import pytest

from agent.contract.ack import Reject
from agent.contract.signing import signed
from agent.errors import LedgerDamaged, LedgerFull
from agent.ports import Acked, Refused
from agent.sync.answers import Genuine, needed
from agent.sync.worker import LEDGER_WAIT_S
from tests.sync.helpers import KEY, Backend, acked, batch_of, epoch_of
from tests.sync.robot import ONE, Robot, played


@pytest.mark.parametrize("standing", ["ahead", "different"])
def test_a_backend_that_has_something_else_makes_a_new_epoch_begin(standing: str) -> None:
    async def test(robot: Robot) -> None:
        content = batch_of(ONE, 1, 9 if standing == "ahead" else 2, "" if standing == "ahead" else "other").content
        robot.backend.receive(content)
        robot.backlog.append(4)
        await robot.until(lambda: robot.backlog.epoch == epoch_of(2))
        await robot.acked(60)
        assert robot.backlog.differed == [(ONE, standing)]
        assert robot.links[0].sent == [batch_of(epoch_of(2), 1, 3).content, batch_of(epoch_of(2), 4, 4).content]

    played(test)


def fork(sequence: int, *, final: bool = False) -> Reject:
    return Reject(sequence=sequence, code="fork", final=final)


def test_a_fork_beyond_a_gap_makes_a_new_epoch_begin() -> None:
    async def test(robot: Robot) -> None:
        robot.links[0].fates = ["good", "unheard"]
        robot.backlog.append(6)
        await robot.until(lambda: len(robot.links[0].sent) == 2)
        robot.backend.rejects = [fork(4)]
        await robot.until(lambda: robot.backlog.epoch == epoch_of(2), 5)
        await robot.acked(120)

    played(test)


@pytest.mark.parametrize("reject", [fork(1), fork(4), fork(9, final=True)])
def test_a_fork_that_another_robot_made_is_none_of_ours(reject: Reject) -> None:
    async def test(robot: Robot) -> None:
        robot.backlog.append(2)
        await robot.acked()
        robot.backend.rejects = [reject]
        robot.backlog.append(3)
        await robot.acked()
        robot.backend.rejects = [fork(9)]
        robot.worker.heard(acked(robot.backend.ack(ONE)))
        await asyncio.sleep(60)
        assert robot.backlog.differed == []

    played(test)


def test_of_acks_that_come_together_every_one_that_rejects_is_taken() -> None:
    backend = Backend()
    acks = []
    for number in range(1, 7):
        backend.rejects = [fork(number, final=True)] if number % 3 == 0 else []
        acks.append(Genuine(backend.receive(batch_of(ONE, number, number).content), None))
    assert [one.ack.cum_ack for one in needed(acks[::-1])] == [3, 6]
    acks.append(Genuine(backend.ack(ONE, cum_ack=2), None))
    assert [one.ack.cum_ack for one in needed(acks)] == [3, 6, 2]


def test_acks_that_come_together_begin_one_new_epoch() -> None:
    async def test(robot: Robot) -> None:
        await asyncio.sleep(1)
        robot.backend.receive(batch_of(ONE, 1, 9, "other").content)
        for number in (1, 2):
            robot.backend.rejects = [fork(number)]
            robot.worker.heard(acked(robot.backend.ack(ONE)))
        await asyncio.sleep(60)
        assert robot.backlog.differed == [(ONE, "ahead")]

    played(test)


def test_a_refused_fork_makes_a_new_epoch_begin() -> None:
    async def test(robot: Robot) -> None:
        robot.links[0].fates = ["good", Refused("fork", "another record 1")]
        robot.backlog.append(2)
        await robot.acked(120)
        assert robot.backlog.differed == [(ONE, "different")]

    played(test)


def bad_acks(robot: Robot) -> dict[str, Any]:
    backend = robot.backend
    return {
        "another robot": acked(backend.ack(ONE, device="sim-0002")),
        "another epoch": acked(backend.ack(epoch_of(7))),
        "another question": acked(backend.ack(ONE, "not-asked")),
        "isn't known here": "forged",
        "is not JSON": Acked(b"{", signed(b"{", KEY)),
    }


@pytest.mark.parametrize("why", ["another robot", "another epoch", "another question", "isn't known here", "is not JSON"])
def test_a_bad_ack_counts_as_none_and_is_said(why: str) -> None:
    async def test(robot: Robot) -> None:
        robot.backend.receive(batch_of(ONE, 1, 2).content)
        bad = bad_acks(robot)[why]
        robot.backend.held.clear()
        robot.links[0].fates = [bad, "good", bad]
        robot.backlog.append(2)
        await robot.acked(10)
        assert (robot.links[0].marks, len(robot.links[0].sent)) == (2, 2)
        assert any(why in line for line in robot.said)
        assert all(ack.nonce for ack, mark in robot.backlog.books.took if mark)

    played(test)


def test_acks_late_twice_and_out_of_order_do_no_harm() -> None:
    async def test(robot: Robot) -> None:
        delays = iter([0.02, 0.5, 0.4, 0.3, 0.2, 0.1] + [0.02] * 100)
        robot.links[0].delay = lambda: next(delays) / 2
        robot.backlog.append(15)
        await robot.acked()
        early = robot.backlog.books.took[1][0]
        for _ in range(3):
            robot.worker.heard(acked(early))
        robot.worker.heard(acked(robot.backend.ack(epoch_of(9))))
        await asyncio.sleep(60)
        assert robot.cursor == 15
        assert (robot.links[0].marks, len(robot.links[0].sent)) == (1, 5)

    played(test)


def test_an_ack_that_comes_late_saves_a_resend() -> None:
    async def test(robot: Robot) -> None:
        robot.links[0].fates = ["good", "lost"]
        robot.backlog.append(2)
        await robot.until(lambda: robot.backend.cum(ONE) == 2)
        robot.worker.heard(acked(robot.backend.ack(ONE)))
        await robot.acked(1)
        await asyncio.sleep(120)
        assert len(robot.links[0].sent) == 1

    played(test)


def test_a_newer_ack_that_says_less_asks_for_the_mark_and_only_that_goes_back() -> None:
    async def test(robot: Robot) -> None:
        robot.backlog.append(6)
        await robot.acked()
        del robot.backend.held[ONE][5]
        robot.worker.heard(acked(robot.backend.ack(ONE)))
        await robot.until(lambda: robot.backend.cum(ONE) == 6, 10)
        assert robot.links[0].marks == 2
        assert [mark for ack, mark in robot.backlog.books.took if ack.cum_ack == 4] == [False, True]

    played(test)


@pytest.mark.parametrize("code", ["unknown-key", "unknown-device", "unauthorized", "forbidden", "too-big", "bad-batch", "new-in-2031"])
def test_a_refused_batch_is_kept_said_and_tried_again_much_later(code: str) -> None:
    async def test(robot: Robot) -> None:
        robot.links[0].fates = ["good", *[Refused(code, "no")] * 5]
        robot.backlog.append(2)
        assert await robot.acked(4 * 3600) > 100
        assert any(code in line for line in robot.said)

    played(test, "mqtt")


def test_who_is_refused_on_one_link_tries_the_other() -> None:
    async def test(robot: Robot) -> None:
        robot.links[0].always = Refused("forbidden", "not this topic")
        robot.backlog.append(2)
        assert await robot.acked(60) < 5

    played(test)


@pytest.mark.parametrize("name", ["epochs", "next_batch", "unacked", "signed", "take", "differs"])
@pytest.mark.parametrize("error", [LedgerFull("the disk is full"), LedgerDamaged("bad sector")])
def test_what_the_ledger_refuses_is_said_and_tried_again(name: str, error: Any) -> None:
    async def test(robot: Robot) -> None:
        if name == "differs":
            robot.backend.receive(batch_of(ONE, 1, 3, "other").content)
        robot.backlog.trouble[name] = error
        robot.backlog.append(60)
        assert await robot.until(lambda: not robot.backlog.trouble and robot.backend.cum(robot.backlog.epoch) == 60, 60) >= LEDGER_WAIT_S
        assert str(error) in robot.said

    played(test)


def test_an_epoch_that_differed_is_left_alone_even_if_it_is_listed_still() -> None:
    async def test(robot: Robot) -> None:
        robot.backlog.forgets = False
        robot.backend.receive(batch_of(ONE, 1, 9).content)
        robot.backlog.append(4)
        await robot.until(lambda: robot.cursor == 4, 60)
        await asyncio.sleep(600)
        assert robot.backlog.differed == [(ONE, "ahead")]

    played(test)
