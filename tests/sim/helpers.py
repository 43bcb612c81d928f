"""A state folder as a turn leaves it, made without models."""

import asyncio
from pathlib import Path

from agent.clock import SystemClock
from agent.store.ledger import SqliteLedger
from agent.store.ledger.chain import Identity
from tests.store.test_ledger import usage


def asked_once(state: Path) -> Path:
    async def main() -> None:
        books = SqliteLedger(state, Identity("demo", "sim-1", "hotel"), SystemClock())
        for _ in range(3):
            await books.append([usage()])
        await books.aclose()

    asyncio.run(main())
    return state
