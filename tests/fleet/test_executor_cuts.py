"""Power goes at every step of every command: none is run twice that must not be, none is lost, and each is told its end."""

import asyncio
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from agent.contract.fleet.command import FINAL, Command
from agent.fleet.commands import COMMANDS, spec
from agent.fleet.running.left import STARTS_MAX
from agent.fleet.scripted import ScriptedSteerable
from agent.sim.world.loop import run
from agent.store.ledger import SqliteLedger
from tests.fleet.steered import DONE_AS, OPERATOR, Bench, cmd_id

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Moment:
    """What there was at one moment: the state folder, what the broker had confirmed, what the robot had done."""

    state: Path
    confirmed: list[str]
    done: Counter[str]


class Photographed(SqliteLedger):
    """A ledger that tells before and after each transaction."""

    shutter: Callable[[], None] = staticmethod(lambda: None)

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self.shutter()
        done = await super()._do(work)
        self.shutter()
        return done


async def life(state: Path, album: Path, send: Callable[[Bench], list[Command]]) -> tuple[list[Command], list[Moment]]:
    """A life in which nothing happens, and a picture of each step of it."""
    moments: list[Moment] = []
    bench = Bench(state, ledger=Photographed)

    def shutter(*_: str) -> None:
        to = album / f"{len(moments):04d}"
        shutil.copytree(state, to)
        moments.append(Moment(to, [str(one) for one in bench.confirmed], Counter(bench.robot.done)))

    bench.book.shutter = shutter  # type: ignore[attr-defined]
    bench.robot._did = shutter
    async with bench:
        commands = send(bench)
        await bench.clock.sleep(120)
    return commands, moments


async def goes_on(moment: Moment, commands: list[Command], *, all_again: bool) -> Counter[str]:
    """The next life, begun from that picture; the broker sends what was not confirmed, or all of it. Returns what was done in both."""
    robot = ScriptedSteerable()
    robot.done += moment.done
    async with Bench(moment.state, robot=robot) as bench:
        for command in commands:
            if all_again or command.cmd_id not in moment.confirmed:
                bench.send(command)
        await bench.clock.sleep(120)
        assert await bench.book.open() == []
        told = {one.cmd_id: one.state for one in await bench.results()}
        for command in commands:
            known = await bench.book.find(command.cmd_id)
            assert known is not None, "it is lost"
            assert known.state in FINAL
            assert told[command.cmd_id] == known.state, "its end is not told"
            done = robot.done[DONE_AS[command.op]] if command.op != "ping" else 1
            if known.state == "succeeded" and command.op != "agent.restart":
                assert done >= 1, "it was not done"
            if known.state not in ("succeeded", "unknown"):
                raise AssertionError(f"{command.op} ended {known.state}: {known.result!r}")
    return robot.done


@pytest.mark.parametrize("all_again", [False, True])
@pytest.mark.parametrize("op", COMMANDS)
def test_a_cut_at_every_step_of_a_command(tmp_path: Path, op: str, all_again: bool) -> None:
    commands, moments = run(life(tmp_path / "first", tmp_path / "album", lambda bench: sent(bench, [op])))
    assert len(moments) >= 8
    for moment in moments:
        done = run(goes_on(moment, commands, all_again=all_again))
        if not spec(op).idempotent:
            assert done[DONE_AS[op]] <= 1, "it was done twice"


def sent(bench: Bench, ops: list[str]) -> list[Command]:
    commands = [bench.command(op, number) for number, op in enumerate(ops, 1)]
    for command in commands:
        bench.send(command)
    return commands


def test_a_cut_at_every_step_of_several_at_once(tmp_path: Path) -> None:
    ops = ["usage.flush", "say", "ping", "mode.set", "privacy.forget", "agent.restart", "diagnostics.collect"]
    commands, moments = run(life(tmp_path / "first", tmp_path / "album", lambda bench: sent(bench, ops)))
    assert len(moments) > 60
    unknown = 0
    for moment in moments:
        done = run(goes_on(moment, commands, all_again=False))
        assert done["speak"] <= 1
        assert done["restart"] <= 1
        unknown += done["speak"] == 0
    assert unknown < len(moments) / 2


def test_what_never_ends_and_takes_the_robot_down_is_given_up(tmp_path: Path) -> None:
    async def main() -> None:
        robot = ScriptedSteerable()
        robot.hangs.add("apply")
        for start in range(STARTS_MAX + 2):
            async with Bench(tmp_path, robot=robot) as bench:
                if start == 0:
                    bench.send(bench.command("config.apply"))
                await bench.idle()  # and down it goes, while it runs
        assert robot.done["apply"] == STARTS_MAX
        async with Bench(tmp_path, robot=robot) as bench:
            (result,) = await bench.results()
            assert (result.state, result.code) == ("unknown", "gave-up")

    run(main())


async def cut_off_in_an_audit(state: Path) -> ScriptedSteerable:
    robot = ScriptedSteerable()
    robot.hangs.add("audit")
    async with Bench(state, robot=robot) as bench:
        bench.send(bench.command("usage.audit"))
        await bench.idle()
    return robot


def test_what_was_accepted_by_a_robot_that_has_forgotten_the_op_ends_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        robot = await cut_off_in_an_audit(tmp_path)
        spec.cache_clear()
        monkeypatch.delitem(COMMANDS, "usage.audit")
        async with Bench(tmp_path, robot=robot) as bench:
            await bench.idle()
            (result,) = await bench.results()
            assert (result.state, result.code) == ("unknown", "cut-off")
        assert robot.done["audit"] == 1

    run(main())


ALTERED: dict[str, tuple[str, object]] = {
    "another id": ("cmd_id", cmd_id(77)),
    "no id": ("cmd_id", "what is this?"),
    "bytes for an id": ("cmd_id", b"\xff"),
    "another op": ("op", "privacy.forget"),
    "no op": ("op", ""),
    "another seq": ("seq", 2**50),
    "no seq": ("seq", "x"),
    "starts": ("starts", "x"),
}


@pytest.mark.parametrize(("column", "value"), ALTERED.values(), ids=ALTERED)
def test_a_row_that_was_altered_is_dropped_and_said_and_what_follows_is_done(tmp_path: Path, column: str, value: object) -> None:
    async def main() -> None:
        robot = await cut_off_in_an_audit(tmp_path)
        with sqlite3.connect(tmp_path / "ledger.db") as held:
            assert held.execute(f"UPDATE command SET {column} = ?", (value,)).rowcount == 1
        held.close()
        async with Bench(tmp_path, robot=robot) as bench:
            assert (await bench.result(bench.command("ping", 2))).state == "succeeded"
            assert await bench.book.open() == []
            assert [line for line in bench.said if "altered" in line] == bench.said
            assert len(bench.said) == 1
            assert await bench.book.highest(OPERATOR.key_id) == 2
        assert robot.done["audit"] == 1

    run(main())


def test_an_executor_that_is_begun_again_does_what_waited_once(tmp_path: Path) -> None:
    async def main() -> None:
        robot = ScriptedSteerable()
        robot.hangs.add("audit")
        async with Bench(tmp_path, robot=robot) as bench:
            for op, number in (("usage.audit", 1), ("usage.flush", 2)):
                bench.send(bench.command(op, number))
            await bench.idle()
            assert bench._task is not None
            bench._task.cancel()
            await asyncio.wait({bench._task})
            robot.hangs.clear()
            bench._task = asyncio.create_task(bench.executor.run())
            await bench.clock.sleep(120)
            assert (robot.done["audit"], robot.done["flush"]) == (2, 1)

    run(main())
