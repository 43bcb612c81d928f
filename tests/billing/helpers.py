"""A robot that lives in memory, a backend around it, and words for what tests do to both."""

import asyncio
import datetime
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import orjson
from sqlalchemy import Connection, Table, select

from agent.billing.ingest import Answered, Ingest
from agent.billing.ingest.books.rows import find_epoch
from agent.billing.ingest.window import Window
from agent.billing.ledger import Store, devices
from agent.billing.ledger.tables import State, finding, record
from agent.billing.ledger.totals import usage_totals
from agent.contract import ack
from agent.contract.ack import Ack
from agent.contract.batch import Batch, Hole, OdometerKey, Row, build, sign
from agent.contract.canonical import genesis, link
from agent.contract.record import SEQUENCE_DIGITS, source_of
from agent.contract.signing import SigningKey
from agent.metering import cards
from agent.metering.record import odometer_of_data, usage_data
from agent.metering.rollup import fold
from agent.shipped import shipped
from agent.sim.clock import SimulatedClock
from agent.values import Stage, StageResult, StageTimes, StageUsage

T = TypeVar("T")

TENANT, NAME, ACCOUNT = "demo", "sim-1", "hotel"
EPOCH = "0123456789abcdef0123456789abcdef"
NEXT = "fedcba9876543210fedcba9876543210"
NOW = "2026-11-22T12:00:00.000Z"
CARD = cards.read(shipped("device_profiles") / "rate_cards" / "standard-cny.toml").versions[-1]
BACKEND_KEY = SigningKey.from_seed(b"b" * 32)
KEY = SigningKey.from_seed(b"k" * 32)

USED: dict[Stage, StageUsage] = {
    "asr": StageUsage(output_tokens=50, audio_in_ms=4500),
    "llm": StageUsage(input_tokens=150, cached_tokens=60, output_tokens=30),
    "tts": StageUsage(input_tokens=30, characters=120, audio_out_ms=2400),
}


def usage(turn: str = "t1", stage: Stage = "llm", used: StageUsage | None = None, **changes: Any) -> dict[str, Any]:
    """The data of a usage record as a turn makes it."""
    result = StageResult(stage, f"{stage}_scripted", "script", "completed", used or USED[stage], StageTimes(0, None, 1))
    return usage_data(result, turn_id=turn, session_id="s1", card=CARD, tokenizer="w@1") | changes


class Robot:
    """What one epoch of a robot has on its books, and the batches it makes of it."""

    def __init__(self, epoch: str = EPOCH, name: str = NAME, key: SigningKey = KEY) -> None:
        self.epoch, self.name, self.key = epoch, name, key
        self.hashes = [genesis(epoch)]
        self.bodies: dict[int, bytes] = {}
        self.records: dict[int, dict[str, Any]] = {}
        self.folded: list[tuple[int, int, int]] = []
        """(first, last, sequence of the roll-up)."""

    @property
    def last(self) -> int:
        return len(self.hashes) - 1

    def append(self, type_: str, data: Mapping[str, Any], **changes: Any) -> int:
        """The sequence of a new record; `changes` are of the envelope, None takes a field out."""
        sequence = self.last + 1
        number = f"{sequence:0{SEQUENCE_DIGITS}d}"
        told = {
            "bootid": "ab" * 16,
            "boottimems": str(1000 * sequence),
            "clockquality": "ntp",
            "data": dict(data),
            "id": f"{self.epoch}:{number}",
            "sequence": number,
            "source": source_of(TENANT, self.name, self.epoch),
            "specversion": "1.0",
            "subject": ACCOUNT,
            "time": NOW,
            "type": f"voxmeter.{type_}.v1",
        } | changes
        self.records[sequence] = {name: value for name, value in told.items() if value is not None}
        self.bodies[sequence] = orjson.dumps(self.records[sequence], option=orjson.OPT_SORT_KEYS)
        self.hashes.append(link(self.hashes[-1], self.bodies[sequence]))
        return sequence

    def begin(self, reason: str = "first", **told: Any) -> "Robot":
        self.append("epoch", {"reason": reason} | told)
        return self

    def turns(self, count: int, prefix: str = "t") -> "Robot":
        """A usage record for each."""
        stages: list[Stage] = ["asr", "llm", "tts"]
        for index in range(count):
            self.append("usage", usage(f"{prefix}{self.last}", stages[index % 3]))
        return self

    def fold(self, first: int, last: int) -> int:
        """Folds records into a roll-up, as for want of room."""
        told = {"epoch": self.epoch, "first": first, "last": last, "reason": "disk full"}
        hashes = {"h_before": self.hashes[first - 1].hex(), "h_last": self.hashes[last].hex()}
        totals = fold([self.records[place] for place in range(first, last + 1)])
        sequence = self.append("rollup", told | hashes | {"totals": totals})
        self.folded.append((first, last, sequence))
        return sequence

    def gap(self, first: int, last: int, *, of: "Robot | None" = None, known: bool = True) -> int:
        """Declares records lost, of this epoch or another."""
        robot = of or self
        told: dict[str, Any] = {"epoch": robot.epoch, "first": first, "last": last, "reason": "damaged"}
        told |= {"h_before": robot.hashes[first - 1].hex()} | ({"h_last": robot.hashes[last].hex()} if known else {})
        return self.append("gap", told)

    def odometer(self, last: int) -> Counter[OdometerKey]:
        held: Counter[OdometerKey] = Counter()
        for sequence, one in self.records.items():
            if one["type"] == "voxmeter.usage.v1" and sequence <= last and "stage" in one["data"]:
                held.update(odometer_of_data(one["data"]))
        return held

    def batch(self, first: int = 1, last: int | None = None, *, without: Sequence[tuple[int, int]] = (), **changes: Any) -> Batch:
        """`without`: stretches inside that never leave, by first and last."""
        last = self.last if last is None else last
        gone = {place for low, high in without for place in range(low, high + 1)}
        held = [Row(place, self.hashes[place], self.bodies[place]) for place in range(first, last + 1) if place not in gone]
        holes = [Hole(low, high, self.hashes[low - 1].hex(), self.hashes[high].hex()) for low, high in without]
        told: dict[str, Any] = {"odometer": self.odometer(last), "anchors": [], "holes": holes, "h_before": self.hashes[first - 1]}
        return build(device=self.name, epoch=self.epoch, rows=held, **told | changes)


class Backend:
    """The books and the way into them, in a folder."""

    def __init__(self, folder: Path, clock: SimulatedClock | None = None, window: Window | None = None) -> None:
        self.clock = clock or SimulatedClock(1, datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC))
        self.store = Store(folder, self.clock)
        self.ingest = Ingest(self.store, BACKEND_KEY, self.clock, window)

    @classmethod
    def over(cls, store: Store) -> "Backend":
        """Around books that are open."""
        backend = cls.__new__(cls)
        backend.clock = SimulatedClock(2, datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC))
        backend.store = store
        backend.ingest = Ingest(store, BACKEND_KEY, backend.clock)
        return backend

    async def register(self, name: str = NAME, key: SigningKey = KEY) -> None:
        await self.store.write(lambda connection: devices.register(connection, TENANT, name, ACCOUNT, key.public, NOW))

    async def take(self, robot: Robot, batch: Batch | None = None, **changes: Any) -> Ack:
        answered = await self.offer(robot, batch, **changes)
        assert answered.refusal is None, answered.refusal
        return told(answered)

    async def offer(self, robot: Robot, batch: Batch | None = None, *, key: SigningKey | None = None) -> Answered:
        batch = batch or robot.batch()
        return await self.ingest.take(TENANT, robot.name, batch.content, sign(batch, key or robot.key))

    async def refused(self, robot: Robot, batch: Batch | None = None, **changes: Any) -> str:
        answered = await self.offer(robot, batch, **changes)
        assert answered.refusal is not None
        return answered.refusal.code

    async def rows(self, table: Table, *columns: str) -> list[Any]:
        names = columns or tuple(column.name for column in table.columns)
        return await self.store.read(lambda connection: _rows(connection, table, names))

    async def found(self) -> list[str]:
        return sorted(kind for (kind,) in await self.rows(finding, "kind"))

    async def states(self, robot: Robot) -> dict[int, State]:
        """By sequence, of one epoch."""
        row = await self.store.read(lambda connection: find_epoch(connection, 1, robot.epoch))
        assert row is not None
        held = await self.rows(record, "epoch_id", "sequence", "state")
        return {sequence: State(state) for epoch_id, sequence, state in held if epoch_id == row.id}

    async def totals(self, **wanted: Any) -> list[dict[str, Any]]:
        return await self.store.read(lambda connection: usage_totals(connection, **wanted))

    async def billed(self) -> int:
        """Records that are billed."""
        return sum(one["records"] for one in await self.totals(group_by=()))

    async def aclose(self) -> None:
        await self.store.aclose()


def _rows(connection: Connection, table: Table, names: Sequence[str]) -> list[Any]:
    return [tuple(row) for row in connection.execute(select(*(table.c[name] for name in names)).order_by(*table.primary_key))]


def told(answered: Answered) -> Ack:
    """The ack, its signature checked."""
    return ack.read(answered.content, answered.marks, {BACKEND_KEY.key_id: BACKEND_KEY.public})


def with_backend(folder: Path, run: Callable[[Backend], Awaitable[T]], **settings: Any) -> T:
    """Runs a test against a backend with one registered robot."""

    async def whole() -> T:
        backend = Backend(folder, **settings)
        try:
            await backend.register()
            return await run(backend)
        finally:
            await backend.aclose()

    return asyncio.run(whole())
