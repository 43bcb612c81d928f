"""What waits in the outbox survives a restart and a change of epoch, in order, until it is delivered."""

import asyncio
from pathlib import Path

import pytest

from agent.sim.clock import SimulatedClock
from agent.store.ledger import SqliteLedger, outbox
from tests.store.ledger.world import ROBOT


def open_(state: Path) -> SqliteLedger:
    return SqliteLedger(state, ROBOT, SimulatedClock(seed=5))


async def bodies(ledger: SqliteLedger) -> list[bytes]:
    return [one.body for one in await ledger.posted()]


def test_what_was_posted_waits_in_order_until_it_is_delivered(tmp_path: Path) -> None:
    async def main() -> None:
        ledger = open_(tmp_path)
        for number in range(3):
            await ledger.post("event/handoff", b"%d" % number)
        await asyncio.wait_for(ledger.posting(), 5)
        await ledger.aclose()
        again = open_(tmp_path)
        waiting = await again.posted()
        assert [(one.topic, one.body) for one in waiting] == [("event/handoff", b"%d" % number) for number in range(3)]
        await again.delivered([waiting[0].id])
        assert await bodies(again) == [b"1", b"2"]
        await again.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("damaged", [False, True])
def test_a_change_of_epoch_takes_it_along(tmp_path: Path, damaged: bool) -> None:
    async def main() -> None:
        ledger = open_(tmp_path)
        await ledger.post("event/handoff", b"first")
        await ledger.begin_epoch("different", damaged=damaged)
        await ledger.post("event/handoff", b"second")
        assert await bodies(ledger) == [b"first", b"second"]
        await ledger.aclose()

    asyncio.run(main())


def test_the_newest_stay_when_nobody_takes_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "WAITING_MAX", 4)

    async def main() -> None:
        ledger = open_(tmp_path)
        for number in range(9):
            await ledger.post("event/handoff", b"%d" % number)
        assert await bodies(ledger) == [b"5", b"6", b"7", b"8"]
        await ledger.aclose()

    asyncio.run(main())
