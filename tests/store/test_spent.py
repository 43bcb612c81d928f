"""Breaks in the books and what was spent, read while the ledger is open: only what is new, and over restarts and pruning."""

import asyncio
import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest

from agent.errors import BadInput
from agent.metering.budget import Limit
from agent.ports import Draft
from agent.sim.clock import SimulatedClock
from agent.store.ledger import SqliteLedger
from agent.store.reading import RARE, breaks
from agent.store.spent import SPENT_FILE, Spent
from tests.billing.helpers import usage
from tests.store.ledger.world import ROBOT

LIMIT = Limit(Decimal(10), "month", "CNY")


def spent(state: Path, clock: SimulatedClock, held: Spent | None = None) -> str:
    return str((held or Spent(state, "Asia/Shanghai")).used(LIMIT, clock.utc()).spent)


def remove(state: Path, names: str) -> None:
    for path in state.glob(names):
        path.unlink()


async def turn(ledger: SqliteLedger, number: int) -> None:
    await ledger.append([Draft("usage", usage(f"t{number}", "asr") | {"amount": "0.5", "currency": "CNY"})])


def test_only_what_is_new_is_read_and_sums_outlive_everything(tmp_path: Path) -> None:
    async def story() -> None:
        clock = SimulatedClock(seed=5)
        assert spent(tmp_path, clock) == "0"
        ledger = SqliteLedger(tmp_path, ROBOT, clock)
        held = Spent(tmp_path, "Asia/Shanghai")
        assert spent(tmp_path, clock, held) == "0"
        for number in range(3):
            await turn(ledger, number)
        assert spent(tmp_path, clock, held) == "1.5"
        assert spent(tmp_path, clock) == "1.5"
        await ledger.begin_epoch("different")
        await turn(ledger, 4)
        assert (spent(tmp_path, clock, held), spent(tmp_path, clock)) == ("2.0", "2.0")
        await ledger.aclose()
        remove(tmp_path, "ledger*")
        assert spent(tmp_path, clock) == "2.0"
        clock.advance(40 * 24 * 3600)
        assert spent(tmp_path, clock) == "0"

    asyncio.run(story())


@pytest.mark.parametrize("content", [b"", b"[]", b"no json", b'{"days": 5}'])
def test_sums_that_are_damaged_are_added_up_again(tmp_path: Path, content: bytes) -> None:
    async def story() -> None:
        clock = SimulatedClock(seed=5)
        ledger = SqliteLedger(tmp_path, ROBOT, clock)
        await turn(ledger, 1)
        assert spent(tmp_path, clock) == "0.5"
        (tmp_path / SPENT_FILE).write_bytes(content)
        assert spent(tmp_path, clock) == "0.5"
        await ledger.aclose()

    asyncio.run(story())


def test_a_fork_and_what_is_lost_are_told_oldest_first(tmp_path: Path) -> None:
    async def story() -> None:
        ledger = SqliteLedger(tmp_path, ROBOT, SimulatedClock(seed=5))
        assert breaks(tmp_path) == []
        for reason in ("different", "damaged", "ahead", "lost"):
            await ledger.begin_epoch(reason)
        await ledger.append([Draft("gap", {"epoch": "a" * 32, "first": 1, "last": 2, "reason": "damaged"})])
        assert [(one.kind, one.sequence, one.reason) for one in breaks(tmp_path)] == [
            ("fork", 1, "different"),
            ("fork", 1, "ahead"),
            ("gap", 1, "a ledger is gone"),
            ("gap", 2, "damaged"),
        ]
        assert breaks(tmp_path)[-1].epoch == ledger.epoch
        await ledger.aclose()

    asyncio.run(story())


def test_without_a_ledger_nobody_can_tell(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        breaks(tmp_path)


def test_a_million_ordinary_records_are_not_walked(tmp_path: Path) -> None:
    async def story() -> None:
        ledger = SqliteLedger(tmp_path, ROBOT, SimulatedClock(seed=5))
        await ledger.aclose()
        connection = sqlite3.connect(tmp_path / "ledger.db")
        plan = " ".join(str(row) for row in connection.execute(f"EXPLAIN QUERY PLAN {RARE}"))
        connection.close()
        assert "record_rare" in plan

    asyncio.run(story())
