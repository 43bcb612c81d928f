"""Judges what is on a disk after a power cut: the real code opens it, settles what was open, and everything promised must be there.

On an honest disk nothing promised may be missing. On a disk that lied about its syncs, what had left the robot may only be missing if
that is declared by a new epoch; what never left may be rolled back unnoticed, and is counted.
"""

import asyncio
import traceback
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from agent.dialog.books import Books
from agent.ports import Draft
from agent.sim.clock import SimulatedClock
from agent.sim.power.life import IDENTITY, TIGHT, ack_of, shipped_cards
from agent.sim.power.promises import Promised
from agent.store.db import LEDGER_FILE
from agent.store.keys import Keys
from agent.store.ledger import SqliteLedger
from agent.store.ledger.leaving import side
from agent.store.reading import EpochReader, LedgerReader
from agent.store.verify import verify_books
from agent.values import STAGES

EPOCHS_MAX = 8
"""Ledgers that may be found damaged one after the other."""


@dataclass(slots=True)
class Found:
    """What one image came to."""

    broken: list[str] = field(default_factory=list)
    """Promises that were not kept."""
    declared: bool = False
    """The robot began a new epoch because of it, and says why."""
    rolled_back: int = 0
    """Records that are gone although they were promised, and that never left: only a disk that lies does that."""


class Judge:
    """Opens images one after the other."""

    def __init__(self, scratch: Path) -> None:
        self.folder = scratch
        self._cards = shipped_cards()
        self._number = 0

    def judge(self, promised: Promised, *, lying: bool = False) -> Found:
        """The image is in `folder` as the power cut left it; it is changed by looking."""
        self._number += 1
        try:
            return asyncio.run(self._judge(promised, lying))
        except Exception as error:  # noqa: BLE001  whatever the real code raises on such a disk, it is what must not happen
            place = traceback.extract_tb(error.__traceback__)[-1]
            return Found([f"it does not open: {type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"])

    async def _judge(self, promised: Promised, lying: bool) -> Found:
        clock = SimulatedClock(1_000_000 + self._number)
        ledger = SqliteLedger(self.folder, IDENTITY, clock, TIGHT)
        found = Found()
        try:
            books = Books(ledger, self._cards, "UTC", dict.fromkeys(STAGES, "w@1"), clock)
            await self._settle(ledger, books)
            if lying:
                await self._ask_backend(ledger, books, promised)
            left = await ledger.left_open()
            if left:
                found.broken.append(f"{len(left)} calls are still open")
            if not lying:
                await self._same_batches(ledger, promised, found)
            await ledger.append([Draft("intent", {"turn_id": "next", "session_id": "s", "calls": []})])
        finally:
            await ledger.aclose()
        self._read(promised, found, lying)
        if not lying:
            self._keys(promised, clock, found)
            self._side_file(promised, found)
        return found

    async def _settle(self, ledger: SqliteLedger, books: Books) -> None:
        """What every start does, and the full check that the service does when it is idle."""
        await books.recover()
        await ledger.salvage(books.cut_off)
        for _ in range(EPOCHS_MAX):
            verdict = verify_books(self.folder)
            if verdict.whole or not verdict.salvageable:
                return
            await ledger.doubt(verdict.epoch)
            await ledger.salvage(books.cut_off)
            await books.recover()

    async def _ask_backend(self, ledger: SqliteLedger, books: Books, promised: Promised) -> None:
        """The mark: the backend says what it holds of this robot, of each epoch that is here and of those the robot no longer knows."""
        known = {epoch.epoch for epoch in LedgerReader(self.folder).epochs}
        known |= {told["data"].get("previous", "") for told in LedgerReader(self.folder).records("epoch")}
        for epoch in promised.acked.keys() - known:
            await ledger.begin_epoch("lost", follows=epoch)
        for epoch in await ledger.epochs():
            sequence, head = promised.acked.get(epoch, (0, ""))
            standing = await ledger.take(ack_of(epoch, sequence, head), mark=True) if sequence else "agreed"
            if standing in ("ahead", "different"):
                await ledger.differs(epoch, standing)
                await books.recover()

    async def _same_batches(self, ledger: SqliteLedger, promised: Promised, found: Found) -> None:
        """What left and was not acknowledged leaves again byte for byte the same."""
        again = {(ledger.epoch, batch.last): batch.batch_id for batch in await ledger.unacked()}
        acked = promised.acked.get(ledger.epoch, (0, ""))[0]
        for (epoch, last), batch_id in promised.batches.items():
            if epoch == ledger.epoch and last > acked and (epoch, last) in again and again[epoch, last] != batch_id:
                found.broken.append(f"batch up to {last} is not the same again")
            if epoch == ledger.epoch and last > acked and (epoch, last) not in again and self._not_acked(last):
                found.broken.append(f"batch up to {last} can't be sent again")

    def _not_acked(self, last: int) -> bool:
        """An ack whose `take` had not returned may have been taken."""
        with closing(EpochReader(self.folder / LEDGER_FILE)) as reader:
            return int(reader.meta.get("acked", "0")) < last

    def _read(self, promised: Promised, found: Found, lying: bool) -> None:
        verdict = verify_books(self.folder)
        if not verdict.whole and lying:
            found.declared = True  # what a lying disk has done is found, and said
        elif not verdict.whole:
            found.broken.append(f"the books: epoch {verdict.epoch} sequence {verdict.sequence}: {verdict.problem}")
        reader = LedgerReader(self.folder)
        try:
            found.declared |= any(told["data"]["reason"] not in ("first", "different") for told in reader.records("epoch"))
            if found.declared and not lying:
                found.broken.append("an honest disk was called a liar")
            self._records(reader, promised, found, lying)
            self._calls(reader, promised, found, lying)
        finally:
            reader.close()

    def _records(self, reader: LedgerReader, promised: Promised, found: Found, lying: bool) -> None:
        """Whether each epoch goes at least as far as `append` returned, and its odometer with it."""
        held = {epoch.epoch: epoch for epoch in reader.epochs}
        gaps = {told["data"]["epoch"] for told in reader.records("gap")}
        for epoch, last in promised.records.items():
            at = next(held[epoch].rows("SELECT max(sequence) FROM record"))[0] if epoch in held else 0
            total = sum(held[epoch].odometer().values()) if epoch in held else 0
            if at >= last and total >= promised.odometer[epoch]:
                continue
            acked = promised.acked.get(epoch, (0, ""))[0]
            if not lying:
                found.broken.append(f"epoch {epoch} ends at {at} with {total}, promised were {last} with {promised.odometer[epoch]}")
            elif at < acked and not (found.declared or epoch in gaps):
                found.broken.append(f"epoch {epoch} ends at {at}, {acked} had left, and nobody says so")
            elif not found.declared:
                found.rolled_back += last - at

    def _calls(self, reader: LedgerReader, promised: Promised, found: Found, lying: bool) -> None:
        """Whether each call that was begun ended once. What was folded or pruned is not looked at again."""
        ended = Counter(
            (told["data"]["turn_id"], told["data"]["stage"], told["data"]["attempt"])
            for told in reader.records("usage")
            if "replaces" not in told["data"]
        )
        for call, times in ended.items():
            if times > 1 and not lying:  # the backend bills one of the records of a call, whichever epoch it is of
                found.broken.append(f"{call} ended {times} times")
        for call, state in promised.calls.items():
            if state == "started" and not ended[call] and not lying:
                found.broken.append(f"{call} began and has no record")

    def _side_file(self, promised: Promised, found: Found) -> None:
        """It goes at least as far as the last ack that was taken."""
        if promised.last_acked:
            told = side.read(self.folder)
            epoch, sequence = promised.last_acked
            if not told or (told["epoch"] == epoch and told["sequence"] < sequence):
                found.broken.append(f"the side file does not know that {sequence} of epoch {epoch} was acknowledged")

    def _keys(self, promised: Promised, clock: SimulatedClock, found: Found) -> None:
        """The key whose public half left last is there, and in use once it was promised to be."""
        if promised.key:
            keys = Keys(self.folder, clock)
            there = {keys.current.key_id} | ({keys.pending.key_id} if keys.pending and not promised.key_used else set())
            if promised.key not in there:
                found.broken.append("the usage key that was registered is gone, or another one is used")
