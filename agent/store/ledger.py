"""The ledger: appends records so that what `append` returned for is durable, chained and on the odometer.

One transaction per append gives sequence, hash and odometer together and is the commit point; nothing waits in memory before
it. The writing connection lives in one thread, so the event loop never waits for a disk.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from agent.clock import Clock
from agent.contract.canonical import canonical, genesis, link
from agent.contract.record import SEQUENCE_DIGITS, source_of, type_name
from agent.errors import BadInput, LedgerDamaged
from agent.ports import Appended, Draft
from agent.store.db import DAMAGE, LEDGER_FILE, Lock, open_writer, refused

TIMED_QUALITIES = ("ntp", "signed")
"""Clock qualities that may put a wall time on a record."""

ADVANCE = """
INSERT INTO odometer (stage, model, placement, class, quantity) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (stage, model, placement, class) DO UPDATE SET quantity = quantity + excluded.quantity
"""


class SqliteLedger:
    """The books of one device in one state folder."""

    def __init__(self, state: Path, *, tenant: str, device: str, account: str, clock: Clock) -> None:
        """Takes the folder's lock and opens or begins the epoch. Raises LedgerBusy, LedgerDamaged or BadInput."""
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = Lock(state)
        self._clock = clock
        self._account = account
        self._names = (tenant, device)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        try:
            self._connection = open_writer(state / LEDGER_FILE)
            self._begin()
        except DAMAGE as error:
            self._lock.release()
            raise refused(state / LEDGER_FILE, error) from error
        except BaseException:
            self._lock.release()
            raise

    async def append(self, drafts: Sequence[Draft]) -> list[Appended]:
        """See the port. Raises LedgerDamaged if the disk refuses; then nothing of these drafts is on the books."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._append, list(drafts))

    async def aclose(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()
        self._lock.release()

    def _begin(self) -> None:
        held = dict(self._connection.execute("SELECT name, value FROM meta"))
        ours = "/".join(self._names)
        if held.get("device", ours) != ours:
            raise BadInput(f"the ledger is of robot {held['device']}, the profile is of {ours}", "use another --state-dir")
        self.epoch: str = held.get("epoch") or self._new_epoch(ours)
        row = self._connection.execute("SELECT sequence, hash FROM record ORDER BY sequence DESC LIMIT 1").fetchone()
        self._sequence: int
        self._head: bytes
        self._sequence, self._head = row or (0, genesis(self.epoch))
        if not self._sequence:
            self._append([Draft("epoch", {"reason": "first"})])

    def _new_epoch(self, device: str) -> str:
        epoch = self._clock.new_epoch()
        self._connection.execute("INSERT INTO meta (name, value) VALUES ('epoch', ?), ('device', ?)", (epoch, device))
        return epoch

    def _append(self, drafts: list[Draft]) -> list[Appended]:
        sequence, head = self._sequence, self._head
        stamp = self._stamp()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for draft in drafts:
                sequence += 1
                body = canonical(self._envelope(draft, sequence) | stamp)
                head = link(head, body)
                row = (sequence, type_name(draft.type), head, body)
                self._connection.execute("INSERT INTO record (sequence, type, hash, body) VALUES (?, ?, ?, ?)", row)
                self._connection.executemany(ADVANCE, [(*key, quantity) for key, quantity in draft.quantities.items()])
            self._connection.execute("COMMIT")
        except DAMAGE as error:
            self._undo()
            raise LedgerDamaged(f"the ledger took no record: {error}", "check the disk: voxmeter doctor") from error
        except BaseException:
            self._undo()
            raise
        first = self._sequence + 1
        self._sequence, self._head = sequence, head
        return [Appended(self.epoch, number) for number in range(first, sequence + 1)]

    def _undo(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # what failed first is what gets told
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _envelope(self, draft: Draft, sequence: int) -> dict[str, Any]:
        number = f"{sequence:0{SEQUENCE_DIGITS}d}"
        return {
            "specversion": "1.0",
            "type": type_name(draft.type),
            "source": source_of(*self._names, self.epoch),
            "id": f"{self.epoch}:{number}",
            "subject": self._account,
            "sequence": number,
            "data": draft.data,
        }

    def _stamp(self) -> dict[str, str]:
        """When, as far as it is known: boot time always, wall time only from a clock that can be trusted."""
        quality = self._clock.quality()
        stamp = {"bootid": self._clock.boot_id(), "boottimems": str(self._clock.boottime_ms()), "clockquality": quality}
        if quality in TIMED_QUALITIES:
            stamp["time"] = self._clock.utc().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return stamp
