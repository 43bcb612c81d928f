"""The outbox is emptied in order; what a broker does not take stays and is tried again."""

import asyncio
import contextlib
from pathlib import Path

from agent.sim.clock import SimulatedClock
from agent.store.ledger import SqliteLedger
from agent.sync.postman import Postman
from tests.store.ledger.world import ROBOT


class Broker:
    """Takes each message the second time it is offered."""

    def __init__(self) -> None:
        self.offered: list[bytes] = []
        self.taken: list[bytes] = []

    async def ready(self) -> None:
        await asyncio.sleep(0)

    async def post(self, topic: str, body: bytes, *, retained: bool = False) -> str:  # noqa: ARG002  the port has it
        assert topic == "event/handoff"
        self.offered.append(body)
        if self.offered.count(body) < 2:
            return "Quota exceeded"
        self.taken.append(body)
        return ""


def test_everything_is_delivered_once_and_in_order(tmp_path: Path) -> None:
    async def main() -> None:
        ledger, broker = SqliteLedger(tmp_path, ROBOT, SimulatedClock(seed=5)), Broker()
        postman = Postman(ledger, broker, SimulatedClock(seed=6))
        running = asyncio.create_task(postman.run())
        for number in range(5):
            await ledger.post("event/handoff", b"%d" % number)
        async with asyncio.timeout(20):
            while len(broker.taken) < 5 or await ledger.posted():
                await asyncio.sleep(0.01)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        assert broker.taken == [b"%d" % number for number in range(5)]
        assert postman.problem == ""
        await ledger.aclose()

    asyncio.run(main())
