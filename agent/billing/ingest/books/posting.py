"""Posts linked records: bills them, and does what they say of other epochs and of keys."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection

from agent.billing.ingest.bill import Bill, Due, Known, Target, bill, doubtful, seen
from agent.billing.ingest.books import rows
from agent.billing.ingest.dating import Dated, Receipt
from agent.billing.ingest.judge import ADJUST, EPOCH, KEY, ROLLUP, USAGE, Judged, digest
from agent.billing.ledger import devices, totals
from agent.billing.ledger.devices import Device
from agent.billing.ledger.tables import State
from agent.contract.signing import check_key_record, decode, key_id_of


@dataclass(slots=True)
class Posting:
    """Of one device, in one transaction."""

    connection: Connection
    device: Device
    receipt: Receipt
    watched: bool = False
    keys_changed: bool = False
    seen: list[dict[str, Any]] = field(default_factory=list)
    """What was billed, if somebody watches."""

    def post(self, row: rows.EpochRow, due: list[Due]) -> dict[int, State]:
        """Bills records of one epoch that are linked now; the state each has from now on, by sequence."""
        self._follow(row, [one.judged for one in due if not one.judged.problem])
        closed = row.closed_by is not None
        done = bill(due, self._known(row, due, closed=closed), self.receipt, closed=closed)
        totals.add(self.connection, self.device.id, done.lines)
        row.odometer.update(done.odometer)
        self._note(row, done)
        return done.states

    def find(self, epoch: str, sequence: int, kind: str, told: Mapping[str, Any]) -> None:
        """Notes what somebody should look at."""
        rows.find(self.connection, self.device.id, (epoch, sequence), kind, json.dumps(told), self.receipt.text)

    def _note(self, row: rows.EpochRow, done: Bill) -> None:
        shared = {"device_id": self.device.id, "epoch": row.epoch, "time": self.receipt.text}
        told = [shared | {"sequence": at, "why": why, "told": json.dumps(what)} for at, why, what in done.unresolved]
        rows.put_unresolved(self.connection, told)
        if self.watched:
            named = {"tenant": self.device.tenant, "device": self.device.name, "epoch": row.epoch}
            self.seen += [named | seen(one) for one in done.billed]

    def _known(self, row: rows.EpochRow, due: list[Due], *, closed: bool) -> Known:
        turns = doubtful(due, closed=closed)
        attempts = rows.billed_attempts(self.connection, self.device.id, turns) if turns else ()
        odd = [one.judged for one in due if one.judged.type in (ADJUST, ROLLUP) and not one.judged.problem]
        if not odd:
            return Known(attempts)
        digests = rows.billed_digests(self.connection, self.device.id, row.id, [digest(one.data) for one in odd])
        twice = [one.sequence for one in odd if one.type == ROLLUP and self._billed_singly(one.data)]
        return Known(attempts, digests, twice, self._target)

    def _billed_singly(self, told: Mapping[str, Any]) -> bool:
        row = rows.find_epoch(self.connection, self.device.id, told["epoch"])
        return row is not None and rows.billed_between(self.connection, row.id, told["first"], told["last"])

    def _target(self, epoch: str, sequence: int) -> Target | None:
        found = rows.find_record(self.connection, self.device.id, epoch, sequence)
        if found is None or found.state == State.HELD:
            return None
        return Target(orjson.loads(found.body), Dated(found.time, exact=True), State(found.state))

    def _follow(self, row: rows.EpochRow, linked: list[Judged]) -> None:
        for again in {one.data["replaces"]["epoch"] for one in linked if one.type == USAGE and "replaces" in one.data}:
            self._close(row, again)
        for one in linked:
            if one.type == EPOCH:
                self._begin(row, one)
            elif one.type == KEY and check_key_record(row.epoch, one.data):
                old, new = (key_id_of(decode(one.data[name])) for name in ("old", "new"))
                devices.retire(self.connection, old, new, self.receipt.text)
                self.keys_changed = True

    def _begin(self, row: rows.EpochRow, one: Judged) -> None:
        previous = one.data.get("previous")
        if previous is None:
            if row.closed_by is None and rows.others(self.connection, self.device.id, row.epoch):
                self.find(row.epoch, one.sequence, "begins-anew", {"reason": one.data["reason"]})
        elif (by := self._close(row, previous)) != row.epoch:
            self.find(row.epoch, one.sequence, "followed-twice", {"previous": previous, "other": by})

    def _close(self, row: rows.EpochRow, previous: str) -> str:
        """Returns which epoch follows that one."""
        if previous == row.epoch:
            return row.epoch
        rows.epoch_row(self.connection, self.device.id, previous, self.receipt.text)
        return rows.close(self.connection, self.device.id, previous, row.epoch)
