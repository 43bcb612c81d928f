"""While the books have no room, commands that can't help are refused without a trace but their seq, and no flood costs a record."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from agent.clock import Clock
from agent.contract.fleet.command import COMMAND_BYTES_MAX, Command, Result
from agent.errors import LedgerFull
from agent.fleet.commands import COMMANDS, spec
from agent.ports import Known
from agent.sim.disk.faults import Faults
from agent.sim.disk.fuse import RecordedDisk, recorded
from agent.sim.world.inline import InlineWriter
from agent.sim.world.loop import RobotClock, run
from agent.store.ledger import SqliteLedger
from agent.store.ledger.chain import Identity
from agent.store.ledger.commands import SPARE_RESULTS
from agent.store.ledger.space import Limits
from agent.store.ledger.writer import Writer
from tests.fleet.steered import ROBOT, Bench, cmd_id
from tests.store.test_ledger import usage

KIBIBYTE = 1024

HELPING = {op for op in COMMANDS if spec(op).helps}


class Full(SqliteLedger):
    """Has room or not, as it is told."""

    has_room = False

    def room(self) -> bool:
        return self.has_room


def told_now(bench: Bench) -> list[Result]:
    """What was told at best effort since the last look."""
    told, bench.news[:] = list(bench.news), []
    return told


async def refused(bench: Bench, command: Command, code: str) -> None:
    before = len(bench.confirmed)
    bench.send(command)
    await bench.until(lambda: len(bench.confirmed) > before)
    await bench.idle()
    assert [(one.cmd_id, one.state, one.code) for one in told_now(bench)] == [(command.cmd_id, "rejected", code)]


def test_what_helps_is_taken_without_room_and_the_rest_leaves_nothing_but_its_seq(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path, ledger=Full) as bench:
            for number, op in enumerate(COMMANDS, 1):
                command = bench.command(op, number)
                if op in HELPING:
                    assert (await bench.result(command)).state == "succeeded"
                    bench.news.clear()
                    if spec(op).ends:
                        await bench.clock.sleep(100)
                    continue
                await refused(bench, command, "no-room")
                assert await bench.book.find(command.cmd_id) is None
                assert await bench.results() == []
                await refused(bench, command, "replayed")  # whoever brings it again, when there is room again
                assert await bench.book.find(command.cmd_id) is None
            assert sum(bench.robot.done.values()) == len(HELPING) - 1  # a ping does nothing
            assert {"say", "mode.set", "budget.set"} == set(COMMANDS) - HELPING
            assert {one.code for one in bench.refused} == {"no-room", "replayed"}

    run(main())


def test_with_room_again_all_is_taken_and_what_was_refused_is_not_done_after_all(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path, ledger=Full) as bench:
            before = bench.command("say", 1)
            await refused(bench, before, "no-room")
            Full.has_room = True
            try:
                assert (await bench.result(before)).code == "replayed"
                assert (await bench.result(bench.command("say", 2))).state == "succeeded"
            finally:
                Full.has_room = False
            assert bench.times("say") == 1

    run(main())


def test_a_broker_that_takes_no_results_gets_no_more_of_them_without_room(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path, ledger=Full) as bench:
            for number in range(1, SPARE_RESULTS + 1):
                bench.send(bench.command("ping", number))
            await bench.until(lambda: len(bench.confirmed) == SPARE_RESULTS)
            await bench.idle()
            await refused(bench, bench.command("ping", SPARE_RESULTS + 1), "no-room")
            assert len(await bench.results()) == SPARE_RESULTS
            assert (await bench.result(bench.command("ping", SPARE_RESULTS + 2))).state == "succeeded"

    run(main())


def test_what_waits_to_be_run_counts_among_what_may_wait(tmp_path: Path) -> None:
    """Commands that are open, and results: together no more than SPARE_RESULTS."""

    async def main() -> None:
        book = Full(tmp_path, ROBOT, RobotClock(seed=1), writer=InlineWriter)
        for number in range(1, SPARE_RESULTS + 1):
            assert await book.spare()
            known = Known(cmd_id(number), "k", number, "usage.flush", "accepted", b"{}", b"")
            await book.accept(known)
            if number % 3 == 0:
                await book.began(known.cmd_id)
            if number % 3 == 1:
                await book.settle(replace(known, state="succeeded", result=b"{}"), f"cmd/res/{known.cmd_id}")
        assert not await book.spare()
        await book.settle(replace(known, cmd_id=cmd_id(2), seq=2, state="succeeded", result=b"{}"), f"cmd/res/{cmd_id(2)}")
        assert not await book.spare()
        await book.delivered([cmd_id(1)])
        assert await book.spare()
        await book.aclose()

    run(main())


def test_an_old_answer_is_told_again_without_being_written_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path, ledger=Full) as bench:
            command = bench.command("ping")
            result = await bench.result(command)
            bench.send(command)
            await bench.until(lambda: len(bench.confirmed) == 2)
            await bench.idle()
            assert told_now(bench) == [result]
            assert await bench.results() == []

    run(main())


def test_new_results_take_the_place_of_old_ones_without_room(tmp_path: Path) -> None:
    async def main() -> None:
        book = (bench := Bench(tmp_path, ledger=Full)).book
        async with bench:
            Full.has_room = True
            try:
                for number in range(1, 101):
                    known = Known(cmd_id(number), "k", number, "ping", "succeeded", b"{}", b"r" * 100)
                    await book.settle(known, f"cmd/res/{known.cmd_id}")
            finally:
                Full.has_room = False
            for number in range(101, 301):
                known = Known(cmd_id(number), "k", number, "ping", "succeeded", b"{}", b"r" * 100)
                await book.settle(known, f"cmd/res/{known.cmd_id}")
            held = [number for number in range(1, 301) if await book.find(cmd_id(number)) is not None]
            assert held == list(range(201, 301))
            assert await book.highest("k") == 300

    run(main())


LIMITS = Limits(quota_bytes=2**40, free_bytes_min=256 * KIBIBYTE, reserve_bytes=8192 * KIBIBYTE)


class Small(SqliteLedger):
    """With a reserve of 8 MiB, half of a robot's: SQLite's log alone grows to 4."""

    def __init__(self, state: Path, robot: Identity, clock: Clock, limits: Limits | None = LIMITS, writer: type[Writer] = Writer) -> None:
        super().__init__(state, robot, clock, limits, writer)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[RecordedDisk]:
    (tmp_path / "disk").mkdir()
    with recorded(tmp_path / "disk") as mounted:
        yield mounted


def fill(disk: RecordedDisk) -> None:
    """Not a byte is left."""
    room = os.statvfs(disk.mount_point)
    disk.set(Faults(full_bytes=(room.f_blocks - room.f_bavail) * room.f_frsize))


async def records_left(bench: Bench) -> int:
    """Of usage, until the disk takes no more."""
    done = 0
    with suppress(LedgerFull):
        while done < 100_000:
            await bench.book.append([usage()])
            done += 1
    return done


@pytest.mark.long
@pytest.mark.parametrize("taken", [True, False])
def test_many_valid_commands_cost_next_to_no_record_of_usage(disk: RecordedDisk, taken: bool) -> None:
    """Large ones of all kinds, to a robot whose disk is full, by a broker that takes the results or does not."""

    async def main(flood: int, state: Path) -> int:
        async with Bench(state, ledger=Small) as bench:
            fill(disk)
            ops = [op for op in COMMANDS if op != "agent.restart"]
            for number in range(1, flood + 1):
                command = bench.command(ops[number % len(ops)], number).model_copy(update={"padding": "x" * (COMMAND_BYTES_MAX // 2)})
                before = len(bench.confirmed)
                bench.send(command)
                await bench.until(lambda before=before: len(bench.confirmed) > before)  # type: ignore[misc]
                if taken:
                    with suppress(LedgerFull):  # nothing was written for it yet that needed the reserve
                        await bench.results()
            assert {one.code for one in bench.refused} == ({"no-room"} if flood else set())
            return await records_left(bench)

    without = run(main(0, disk.mount_point / "one"))
    disk.set(Faults())
    flooded = run(main(400, disk.mount_point / "two"))
    assert without > 1_000
    assert flooded > 0.85 * without, (flooded, without)
