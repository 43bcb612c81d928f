"""Ledgers of earlier epochs that still have something to send: under their old identity, or issued again in the present epoch.

They are issued again where the old identity leads nowhere: the backend has something else in its place, or records are missing in
the middle, so that nobody can say any more what the next one was linked to. What is issued again names what it replaces, and of
the two only one is billed.
"""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from agent.contract.ack import Ack, Standing
from agent.contract.batch import Batch
from agent.contract.record import RecordType, type_name
from agent.metering.record import odometer_of_data
from agent.metering.rollup import odometer_of_totals
from agent.ports import Draft
from agent.store.db import DAMAGE, meta, open_writer, put_meta
from agent.store.ledger import epochs
from agent.store.ledger.leaving import asked, backlog

T = TypeVar("T")

CLOSED = "closed"
"""In `meta` of an earlier ledger: all of it that had to be is issued again, nothing more is sent of it."""

EPOCHS_MAX = 20
"""Earlier epochs that are sent and asked about at a time: each keeps a file open."""

AGAIN_AT_ONCE = 100
"""Records issued again in one transaction."""

SHORT: Final[dict[str, RecordType]] = {
    type_name("usage"): "usage",
    type_name("adjust"): "adjust",
    type_name("rollup"): "rollup",
    type_name("gap"): "gap",
}
"""What is issued again. An intent only announces, a key's change and an epoch's begin are of their own epoch."""

AGAIN = f"""
SELECT sequence, type, record.body, raw.body FROM record LEFT JOIN raw USING (sequence)
WHERE sequence > ? AND type IN ({", ".join("?" * len(SHORT))}) ORDER BY sequence LIMIT ?
"""  # noqa: S608  question marks only


class Earlier:
    """The earlier ledgers of one state folder. Its methods run in one thread, beside the one that writes the present ledger."""

    def __init__(self, state: Path, device: str) -> None:
        self._state, self._device = state, device
        self._open: dict[str, sqlite3.Connection] = {}

    def waiting(self) -> tuple[list[str], list[str]]:
        """Epochs to send as they are, oldest first; and names of ledgers whose rest must be issued again.

        One that is acked stays among them: the backend may lose it, and only who is asked can say so.
        """
        send: list[tuple[bool, str]] = []
        again = []
        for path in sorted(epochs.aside(self._state), key=epochs.changed):
            epoch = path.name[7:39]
            with suppress(*DAMAGE, OSError):  # one that can't be read waits for the next full check
                held = meta(self._ledger(path.name))
                if CLOSED in held:
                    self.release(path.name)
                elif path.name != named(epoch) or asked.has_hole(self._ledger(path.name), epoch):
                    again.append(path.name)
                else:
                    send.append((asked.waits(self._ledger(path.name)), epoch))
        chosen = _chosen(send)
        for _, epoch in send:
            if epoch not in chosen:
                self.release(named(epoch))
        return chosen, again

    def next_batch(self, epoch: str) -> Batch | None:
        return self._commit(epoch, lambda connection: backlog.next_batch(connection, epoch, self._device))

    def unacked(self, epoch: str, after: int, most: int) -> list[Batch]:
        return backlog.unacked(self._ledger(named(epoch)), epoch, self._device, after, most)

    def take(self, ack: Ack, *, mark: bool) -> tuple[Standing, dict[str, Any]]:
        """As `backlog.take`, and the gap that a mark asks for; an epoch that isn't here agrees with everything."""
        if not (self._state / named(ack.epoch)).exists():
            return "agreed", {}
        standing, _ = self._commit(ack.epoch, lambda connection: backlog.take(connection, ack, mark=mark))
        told = mark and standing in ("agreed", "behind")
        return standing, asked.lost(self._ledger(named(ack.epoch)), ack) if told else {}

    def again(self, name: str, after: int) -> list[tuple[int, Draft]]:
        """The next records to issue again, above a sequence and above what is acked."""
        connection, epoch = self._ledger(name), name[7:39]
        begin = max(after, backlog.cursor(connection).acked)
        rows = connection.execute(AGAIN, (begin, *SHORT, AGAIN_AT_ONCE)).fetchall()
        return [(row[0], _draft(epoch, *row)) for row in rows]

    def close_for_good(self, name: str) -> None:
        with suppress(*DAMAGE):
            put_meta(self._ledger(name), **{CLOSED: "issued again"})
        self.release(name)

    def release(self, name: str) -> None:
        """Closes a ledger that is to be moved, or has nothing to send."""
        if held := self._open.pop(name, None):
            held.close()

    def aclose(self) -> None:
        for name in list(self._open):
            self.release(name)

    def _ledger(self, name: str) -> sqlite3.Connection:
        if name not in self._open:
            self._open[name] = open_writer(self._state / name)
        return self._open[name]

    def _commit(self, epoch: str, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._ledger(named(epoch))
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result


def _chosen(send: list[tuple[bool, str]]) -> list[str]:
    """The oldest that have something to send; where there is room left, the latest that are only asked about."""
    waiting = [epoch for waits, epoch in send if waits][:EPOCHS_MAX]
    resting = [epoch for waits, epoch in send if not waits]
    kept = {*waiting, *resting[max(0, len(resting) - (EPOCHS_MAX - len(waiting))) :]}
    return [epoch for _, epoch in send if epoch in kept]


def named(epoch: str) -> str:
    """The file of an earlier epoch."""
    return f"ledger-{epoch}.db"


def _draft(epoch: str, sequence: int, type_: str, body: bytes, raw: bytes | None) -> Draft:
    """A record once more. Usage says what it replaces; the others are known again by what they say."""
    told = orjson.loads(body)["data"]
    if SHORT[type_] == "usage":
        replaced = {"epoch": epoch, "sequence": sequence}
        return Draft("usage", told | {"replaces": replaced}, odometer_of_data(told), raw or b"")
    quantities = odometer_of_totals(told["totals"]) if SHORT[type_] == "rollup" else {}
    return Draft(SHORT[type_], told, quantities)
