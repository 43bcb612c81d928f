"""Corrections go where what they are about was billed: in the same batch, issued again, or come later than its correction."""

from pathlib import Path

import pytest

from agent.billing.ledger.tables import State, unresolved
from tests.billing.helpers import EPOCH, NEXT, Backend, Robot, usage, with_backend

DELTAS = {"gen_ai.usage.output_tokens": -5}
FIRST = {"epoch": EPOCH, "sequence": 2}


def corrected(robot: Robot, place: dict[str, object] | None = None) -> int:
    """A correction of the first usage record of the first epoch."""
    return robot.append("adjust", {"adjusts": place or FIRST, "deltas": DELTAS, "reason": "late"})


async def output(backend: Backend) -> int:
    return sum(int(line["quantities"]["output"]) for line in await backend.totals(stage="llm"))


async def why(backend: Backend) -> list[str]:
    return sorted(why for (why,) in await backend.rows(unresolved, "why"))


def test_of_a_record_in_the_same_batch(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin()
        robot.append("usage", usage())
        corrected(robot)
        await backend.take(robot, robot.batch(odometer={}))
        assert (await output(backend), await why(backend)) == (25, ["adjust"])

    with_backend(tmp_path, run)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("held", [True, False])
def test_of_a_record_that_was_issued_again(tmp_path: Path, together: bool, held: bool) -> None:
    async def run(backend: Backend) -> None:
        old = Robot().begin()
        old.append("usage", usage())
        new = Robot(NEXT).begin("different", previous=EPOCH)
        new.append("usage", usage() | {"replaces": FIRST})
        if not together:
            await backend.take(new, new.batch(odometer={}))
        if held:
            await backend.take(old)  # ends as billed already where the other one came first
        corrected(new)
        await backend.take(new, new.batch(odometer={}))
        assert (await output(backend), await why(backend)) == (25, ["adjust"])

    with_backend(tmp_path, run)


@pytest.mark.parametrize("issued_again", [True, False])
def test_of_a_record_that_comes_later(tmp_path: Path, issued_again: bool) -> None:
    async def run(backend: Backend) -> None:
        new = Robot(NEXT).begin("different", previous=EPOCH)
        sequence = corrected(new)
        await backend.take(new, new.batch(odometer={}))
        assert (await why(backend), await backend.found()) == (["adjusts-nothing"], ["adjusts-nothing"])
        old = Robot().begin()
        old.append("usage", usage())
        if issued_again:
            new.append("usage", usage() | {"replaces": FIRST})
            await backend.take(new, new.batch(odometer={}))
        await backend.take(old)
        await backend.take(old)
        assert (await output(backend), await why(backend)) == (25, ["adjust"])
        assert (await backend.states(new))[sequence] == State.BILLED
        assert "adjusts-nothing" not in await backend.found()

    with_backend(tmp_path, run)


def test_one_that_was_issued_again_itself_counts_once_when_its_record_comes(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        for name in (NEXT, "e" * 32):
            robot = Robot(name).begin("different", previous=EPOCH)
            corrected(robot)
            await backend.take(robot, robot.batch(odometer={}))
        old = Robot().begin()
        old.append("usage", usage())
        await backend.take(old)
        assert await output(backend) == 25

    with_backend(tmp_path, run)
