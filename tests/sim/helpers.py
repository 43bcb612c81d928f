"""A state folder as a turn leaves it, made without models."""

import asyncio
from pathlib import Path

from agent.clock import SystemClock
from agent.store.ledger import SqliteLedger
from tests.store.test_ledger import usage


def asked_once(state: Path) -> Path:
    async def main() -> None:
        books = SqliteLedger(state, tenant="demo", device="sim-1", account="hotel", clock=SystemClock())
        for _ in range(3):
            await books.append([usage()])
        await books.aclose()

    asyncio.run(main())
    return state
