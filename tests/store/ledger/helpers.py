"""What tests of a ledger do to it in one word, and a model of all that was ever appended to it."""

import asyncio
import datetime
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import orjson

from agent.contract.ack import Ack, Standing
from agent.contract.batch import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Batch, BatchContent, read
from agent.contract.canonical import genesis, link
from agent.contract.record import type_name
from agent.metering.record import odometer_of_data
from agent.store.ledger import SqliteLedger
from agent.store.ledger.leaving import backlog
from agent.store.ledger.space import fold_once, prune
from agent.store.reading import Place

T = TypeVar("T")

DAY_0 = datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)

USAGE = type_name("usage")


def do(books: SqliteLedger, work: Callable[[sqlite3.Connection], T]) -> T:
    """In a transaction of the ledger's own thread."""

    async def run() -> T:
        return await books._do(work)

    return asyncio.run(run())


def next_batch(books: SqliteLedger) -> Batch:
    batch = asyncio.run(books.next_batch())
    assert batch is not None
    return batch


def unacked(books: SqliteLedger) -> list[Batch]:
    return asyncio.run(books.unacked())


def fold(books: SqliteLedger) -> bool:
    return do(books, lambda connection: fold_once(connection, books._chain))


def pruned(books: SqliteLedger) -> int:
    return do(books, lambda connection: prune(connection, books.epoch, books.keys))


def ack(books: SqliteLedger, sequence: int, head: bytes, day: float = 0, **changes: object) -> Ack:
    """As a backend would answer; `day`: of its own time."""
    told: dict[str, object] = {
        "device": "sim-1",
        "epoch": books.epoch,
        "cum_ack": sequence,
        "head_hash": head.hex(),
        "ranges": [],
        "rejects": [],
        "durable_through": 0,
        "backend_id": "b",
        "window_batches": 8,
        "not_before_ms": 0,
        "server_time": (DAY_0 + datetime.timedelta(days=day)).isoformat().replace("+00:00", "Z"),
    }
    return Ack.model_validate(told | changes)


def take(books: SqliteLedger, told: Ack, *, mark: bool = False) -> Standing:
    return asyncio.run(books.take(told, mark=mark))


def take_all(books: SqliteLedger, batch: Batch, **changes: Any) -> Standing:
    return take(books, ack(books, batch.last, batch.h_last, **changes))


def cursor(books: SqliteLedger) -> tuple[int, int]:
    at = do(books, backlog.cursor)
    return at.batched, at.acked


def killed(state: Path, to: Path) -> Path:
    """What a SIGKILL now would leave."""
    shutil.copytree(state, to)
    return to


class Model:
    """All bodies ever appended, and what they come to; kept by the test, never read back from where they were folded or pruned."""

    def __init__(self, books: SqliteLedger) -> None:
        self.bodies: dict[int, bytes] = {}
        self.hashes = {0: genesis(books.epoch)}
        self.learn(books)

    def learn(self, books: SqliteLedger) -> None:
        query = "SELECT sequence, body FROM record WHERE sequence > ? ORDER BY sequence"
        for sequence, body in do(books, lambda connection: connection.execute(query, (len(self.bodies),)).fetchall()):
            assert sequence == len(self.bodies) + 1
            self.bodies[sequence] = body
            self.hashes[sequence] = link(self.hashes[sequence - 1], body)

    def odometer(self, through: int) -> Counter[Place]:
        held: Counter[Place] = Counter()
        for sequence, body in self.bodies.items():
            record = orjson.loads(body)
            if record["type"] == USAGE and sequence <= through:
                held.update(odometer_of_data(record["data"]))
        return held

    def check(self, batch: Batch) -> BatchContent:
        """That a backend takes a batch, and that what it says is so."""
        assert len(batch.content) <= BATCH_BYTES_MAX
        content = read(batch.content)
        assert len(content.bodies) <= BATCH_RECORDS_MAX
        assert (content.device, content.first, content.last) == ("sim-1", batch.first, batch.last)
        assert (bytes.fromhex(content.h_before), bytes.fromhex(content.h_last)) == (self.hashes[batch.first - 1], self.hashes[batch.last])
        assert [(self.hashes[at], self.bodies[at]) for at, _, _ in content.records] == [row[1:] for row in content.records]
        assert odometer_in(content) == self.odometer(batch.last)
        return content


def odometer_in(content: BatchContent) -> Counter[Place]:
    return Counter({(line.stage, line.model, line.placement, line.class_): line.quantity for line in content.odometer})
