"""A robot that folded and lost records, its batches in any order, twice, over kills of the backend: billed is what it had, once."""

import asyncio
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.contract.batch import Batch
from agent.contract.canonical import genesis
from agent.metering import report
from tests.billing.helpers import EPOCH, NEXT, Backend, Robot


class Life(NamedTuple):
    """What leaves a robot."""

    robots: list[Robot]
    """The first goes on in the second."""
    batches: list[tuple[int, Batch]]
    """Which robot's, in the order they arrive."""
    gone: set[int]
    """Sequences of the first that never leave; those of a roll-up are billed all the same."""
    kills: set[int]
    """After which arrivals the backend is killed."""

    def __repr__(self) -> str:
        holes = [one["data"] for robot in self.robots for one in robot.records.values() if one["type"].split(".")[1] in ("gap", "rollup")]
        told = [(hole["first"], hole["last"], "totals" in hole, "h_last" in hole) for hole in holes]
        return f"{told} {[(whose, batch.first, batch.last) for whose, batch in self.batches]} kills {self.kills}"


@st.composite
def lives(draw: st.DrawFn) -> Life:
    """The gaps of the first epoch stand in the second, as a salvage leaves them; its roll-ups stand in itself."""
    old, new = Robot().begin().turns(24), Robot(NEXT).begin("damaged", previous=EPOCH)
    cuts = sorted(draw(st.sets(st.integers(2, 24), max_size=6)) | {1, 25})
    kinds = st.sampled_from(["sent", "gap", "unknown", "rollup"])
    holes = [(low + 1, high, kind) for low, high in pairwise(cuts) if (kind := draw(kinds)) != "sent" and high < 25]
    for first, last, kind in holes:
        if kind == "rollup":
            old.fold(first, last)
        else:
            new.gap(first, last, of=old, known=kind == "gap")
    new.turns(2, "n")
    gone = {place for first, last, _ in holes for place in range(first, last + 1)}
    batches = [(0, batch) for batch in _cut(draw, old, gone)] + [(1, new.batch(1, new.last, odometer={}))]
    again = draw(st.lists(st.sampled_from(batches), max_size=3))
    order = draw(st.permutations([*batches, *again]))
    return Life([old, new], order, gone, draw(st.sets(st.integers(0, len(order)), max_size=2)))


def _cut(draw: st.DrawFn, robot: Robot, gone: set[int]) -> list[Batch]:
    """Batches of what is left, some of which pass over holes."""
    left = [place for place in range(1, robot.last + 1) if place not in gone]
    cuts = sorted(draw(st.sets(st.integers(1, len(left) - 1), max_size=4)) | {0, len(left)})
    batches = []
    for low, high in pairwise(cuts):
        part = left[low:high]
        jumps = [(before + 1, after - 1) for before, after in pairwise(part) if after > before + 1]
        batches.append(robot.batch(part[0], part[-1], without=jumps, odometer={}))
    return batches


@settings(max_examples=60)
@given(lives())
def test_what_is_billed_is_what_the_robot_had(life: Life) -> None:
    async def run(folder: Path) -> None:
        backend = Backend(folder)
        await backend.register()
        for index, (whose, batch) in enumerate(life.batches):
            await backend.take(life.robots[whose], batch)
            if index in life.kills:
                backend.store.abandon()
                backend = Backend(folder)
        old, new = life.robots
        assert (await backend.take(old, life.batches[[whose for whose, _ in life.batches].index(0)][1])).cum_ack == old.last
        assert set(await backend.found()) <= {"gap", "unproven", "odometer"}
        records = [record for place, record in old.records.items() if place not in life.gone] + list(new.records.values())
        wanted = {row["stage"]: (row["records"], row["billed_tokens"], row["amount"]) for row in report.totals(records)["stages"]}
        held = await backend.totals(group_by=("stage",))
        assert {row["stage"]: (row["records"], row["billed_tokens"], row["amount"]) for row in held} == wanted
        await backend.aclose()

    with TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


def test_a_batch_that_passes_over_two_holes_side_by_side_is_taken(tmp_path: Path) -> None:
    async def run() -> None:
        robot = Robot().begin().turns(8)
        robot.fold(3, 4)
        robot.fold(5, 6)
        backend = Backend(tmp_path)
        await backend.register()
        answer = await backend.take(robot, robot.batch(without=[(3, 4), (5, 6)]))
        assert (answer.cum_ack, answer.head_hash) == (11, robot.hashes[11].hex())
        assert (await backend.billed(), await backend.found()) == (8, [])
        assert genesis(EPOCH) != genesis(NEXT)
        await backend.aclose()

    asyncio.run(run())
