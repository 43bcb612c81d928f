"""What a robot was promised, in the order it was: each line stands in the trace where the call that promised it had returned.

A line is JSON with `did`: `append` (epoch, sequence, hash: the end of the chain; journal: calls and how far they are; odometer: the
sum of all quantities), `batch` (epoch, first, last, id), `ack` (epoch, sequence, hash), `key` (its id, and whether it is the one in use).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from agent.contract.ack import Ack, Standing
from agent.contract.batch import Batch
from agent.ports import Appended, Draft, Entry
from agent.sim.disk.trace import Mark, Trace
from agent.store.ledger import SqliteLedger

Say = Callable[[str], None]

Call = tuple[str, str, int]
"""(turn, stage, attempt)."""


class WitnessedLedger(SqliteLedger):
    """A real ledger that says what it has promised, when it has."""

    say: Say = staticmethod(lambda _: None)
    told = 0

    async def append(self, drafts: Sequence[Draft], journal: Sequence[Entry] = ()) -> list[Appended]:
        done = await super().append(drafts, journal)
        self.told += sum(sum(draft.quantities.values()) for draft in drafts)
        calls = [[entry.call.turn_id, entry.call.stage, entry.call.attempt, entry.state] for entry in journal]
        self._promise(did="append", journal=calls, records=[list(one) for one in done], odometer=self.told)
        return done

    async def begin_epoch(self, reason: str, *, follows: str = "", damaged: bool = False) -> str:
        epoch = await super().begin_epoch(reason, follows=follows, damaged=damaged)
        self.told = 0
        self._promise(did="append", journal=[], records=[[epoch, 1]], odometer=0)
        return epoch

    async def next_batch(self, epoch: str = "") -> Batch | None:
        batch = await super().next_batch(epoch)
        if batch is not None:
            self._promise(did="batch", epoch=self.epoch, first=batch.first, last=batch.last, id=batch.batch_id)
        return batch

    async def take(self, ack: Ack, *, mark: bool = False) -> Standing:
        standing = await super().take(ack, mark=mark)
        self._promise(did="ack", epoch=ack.epoch, sequence=ack.cum_ack, hash=ack.head_hash)
        return standing

    def promise_key(self, key_id: str, *, used: bool) -> None:
        self._promise(did="key", id=key_id, used=used)

    def _promise(self, **told: Any) -> None:
        self.say(orjson.dumps(told).decode())


@dataclass(slots=True)
class Promised:
    """All that was promised up to a moment."""

    records: dict[str, int] = field(default_factory=dict)
    """By epoch, the last sequence that `append` returned for."""
    odometer: dict[str, int] = field(default_factory=dict)
    calls: dict[Call, str] = field(default_factory=dict)
    """How far each call is."""
    batches: dict[tuple[str, int], str] = field(default_factory=dict)
    """By epoch and last sequence, the batch that left."""
    acked: dict[str, tuple[int, str]] = field(default_factory=dict)
    """By epoch, what the backend has said it holds."""
    last_acked: tuple[str, int] | None = None
    """Epoch and sequence."""
    key: str = ""
    """The usage key whose public half left last."""
    key_used: bool = False
    """It is the one that signs."""

    @classmethod
    def of(cls, trace: Trace) -> "Promised":
        """All that a whole trace tells of."""
        promised = cls()
        for op in trace.ops:
            if isinstance(op, Mark):
                promised.take(op.text)
        return promised

    def take(self, line: str) -> None:
        told = orjson.loads(line)
        match told["did"]:
            case "append":
                for epoch, sequence in told["records"]:
                    self.records[epoch] = max(sequence, self.records.get(epoch, 0))
                    self.odometer[epoch] = told["odometer"]
                for turn, stage, attempt, state in told["journal"]:
                    self.calls[turn, stage, attempt] = state
            case "batch":
                self.batches[told["epoch"], told["last"]] = told["id"]
            case "ack":
                self.acked[told["epoch"]] = (told["sequence"], told["hash"])
                self.last_acked = (told["epoch"], told["sequence"])
            case "key":
                self.key, self.key_used = told["id"], told["used"]
