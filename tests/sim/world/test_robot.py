"""A played robot keeps real books: its turns, and what a power cut in the middle of one leaves."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from agent.ports import Acked, Answer, Link, Retry
from agent.sim.power.life import IDENTITY, ack_of
from agent.sim.world import loop
from agent.sim.world.inline import InlineWriter
from agent.sim.world.loop import RobotClock
from agent.sim.world.robot import Robot
from agent.sim.world.witnessed import before_pruning
from agent.store.reading import LedgerReader
from agent.store.verify import verify_books


class Nowhere:
    """A link that never is up."""

    name, connections, up = "nowhere", 0, False

    async def ready(self) -> None:
        await asyncio.sleep(1e9)

    async def send(self, content: bytes, marks: Mapping[str, str]) -> Answer:
        del content, marks
        return Retry("nowhere")

    async def mark(self, epoch: str, nonce: str) -> Answer:
        del epoch, nonce
        return Retry("nowhere")

    async def aclose(self) -> None:
        """Nothing is open."""


def links(_: Callable[[Acked], None]) -> Sequence[Link]:
    return [Nowhere()]


def played(state: Path, main: Callable[[Robot, RobotClock], Awaitable[None]]) -> Robot:
    async def outer() -> Robot:
        clock = RobotClock(1)
        robot = Robot("r1", state, IDENTITY, clock, seed=1, links=links, trusted=dict, writer=InlineWriter)
        await robot.start()
        try:
            await main(robot, clock)
        finally:
            await robot.stop()
        return robot

    return loop.run(outer())


def types(state: Path) -> Counter[str]:
    reader = LedgerReader(state)
    try:
        return Counter(record["type"].split(".")[1] for record in reader.records())
    finally:
        reader.close()


def test_turns_are_on_the_books_and_the_books_are_whole(tmp_path: Path) -> None:
    async def main(robot: Robot, clock: RobotClock) -> None:
        for _ in range(20):
            await robot.turn()
        assert clock.monotonic() > 5
        assert await robot.backlog() == sum(types(robot.state).values())

    robot = played(tmp_path / "r1", main)
    held = types(robot.state)
    assert robot.turns == held["intent"] == 20
    assert 40 <= held["usage"] <= 60
    assert verify_books(robot.state).whole


def test_a_power_cut_in_the_middle_of_a_turn_leaves_its_call_to_the_next_start(tmp_path: Path) -> None:
    async def main(robot: Robot, clock: RobotClock) -> None:
        for _ in range(10):
            turn = asyncio.ensure_future(robot.turn())
            await asyncio.sleep(0.1)
            await robot.cut_power()
            assert robot.dark
            await turn
            assert await robot.backlog() == 1
            clock.reboot()
            await robot.start()

    robot = played(tmp_path / "r1", main)
    reader = LedgerReader(robot.state)
    outcomes = Counter(record["data"]["outcome"] for record in reader.records("usage"))
    reader.close()
    assert robot.turns < 10
    assert outcomes["cut_off"] >= 5
    assert verify_books(robot.state).whole


def test_a_robot_whose_card_is_nearly_full_lets_go_what_is_acked_and_in_a_backup_and_folds_nothing(tmp_path: Path) -> None:
    async def main(robot: Robot, _: RobotClock) -> None:
        for _turn in range(8):
            await robot.turn()
        batch = await robot.ledger.next_batch()
        assert batch is not None
        await robot.turn()
        await robot.prune()
        assert sum(types(robot.state).values()) > batch.last  # nothing is acked
        await robot.ledger.take(ack_of(robot.ledger.epoch, batch.last, batch.h_last.hex(), durable=True))
        await robot.prune()

    robot = played(tmp_path / "r1", main)
    held, (first, before) = types(robot.state), before_pruning(robot.state)
    assert types(before) == types(first)
    assert 0 < sum(held.values()) < sum(types(before).values())
    assert held["rollup"] == 0
    assert verify_books(robot.state).whole


def test_a_dark_robot_takes_no_turn(tmp_path: Path) -> None:
    async def main(robot: Robot, _: RobotClock) -> None:
        await robot.cut_power()
        await robot.cut_power()
        await robot.turn()
        await robot.prune()

    assert played(tmp_path / "r1", main).turns == 0
