"""Posts linked records: bills them, and does what they say of other epochs and of keys."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from sqlalchemy import Connection

from agent.billing.ingest.bill import Attempt, Bill, Due, Known, Near, Place, Target, bill, doubtful, seen
from agent.billing.ingest.books import rows
from agent.billing.ingest.dating import Dated, Receipt
from agent.billing.ingest.judge import ADJUST, EPOCH, KEY, ROLLUP, USAGE, Judged, digest, judged
from agent.billing.ledger import devices, totals
from agent.billing.ledger.devices import Device
from agent.billing.ledger.tables import State
from agent.contract.signing import check_key_record, decode, key_id_of

WAITING: Final = "adjusts-nothing"
"""The finding of a correction that came before what it is about."""

WAITING_MAX: Final = 256
"""Such corrections of one device that are looked at with each batch; whatever is beyond stays unresolved until a person looks."""


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
        self._take_up(due, done)
        return done.states

    def find(self, epoch: str, sequence: int, kind: str, told: Mapping[str, Any]) -> None:
        """Notes what somebody should look at."""
        rows.find(self.connection, self.device.id, (epoch, sequence), kind, json.dumps(told), self.receipt.text)

    def _note(self, row: rows.EpochRow, done: Bill) -> None:
        shared = {"device_id": self.device.id, "epoch": row.epoch, "time": self.receipt.text}
        told = [shared | {"sequence": at, "why": why, "told": json.dumps(what)} for at, why, what in done.unresolved]
        rows.put_unresolved(self.connection, told)
        for sequence, (epoch, at) in done.waiting.items():
            self.find(row.epoch, sequence, WAITING, {"epoch": epoch, "sequence": at})
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
        return Known(attempts, digests, twice, self._target, self._billed)

    def _billed_singly(self, told: Mapping[str, Any]) -> bool:
        row = rows.find_epoch(self.connection, self.device.id, told["epoch"])
        return row is not None and rows.billed_between(self.connection, row.id, told["first"], told["last"])

    def _target(self, place: Place) -> Target | None:
        found = rows.find_record(self.connection, self.device.id, *place)
        if found is None or found.state == State.HELD:
            found = rows.find_reissued(self.connection, self.device.id, *place)
        return _target_of(found)

    def _billed(self, attempt: Attempt) -> Target | None:
        return _target_of(rows.find_billed(self.connection, self.device.id, attempt))

    def _take_up(self, due: list[Due], done: Bill) -> None:
        """Bills corrections that came before what they are about. Their odometer was taken over from the robot when they came."""
        usage = [one for one in due if one.judged.type == USAGE and not one.judged.problem]
        waiting = rows.findings(self.connection, self.device.id, WAITING, WAITING_MAX) if usage else []
        if not waiting:
            return
        near = Near()
        for one in usage:
            near.put(one, done.states[one.judged.sequence])
        for epoch, sequence, told in waiting:
            target = near.find((told["epoch"], told["sequence"]), Known(billed=self._billed))
            if target is not None:
                self._bill_late(epoch, sequence, target)

    def _bill_late(self, epoch: str, sequence: int, target: Target) -> None:
        row = rows.find_epoch(self.connection, self.device.id, epoch)
        found = rows.find_record(self.connection, self.device.id, epoch, sequence)
        if row is None or found is None:
            return
        one = judged(sequence, found.hash, found.body)
        digests = rows.billed_digests(self.connection, self.device.id, row.id, [digest(one.data)])
        done = bill([Due(one, Dated(found.time, exact=True))], Known(digests=digests, target=lambda _: target), self.receipt, closed=False)
        totals.add(self.connection, self.device.id, done.lines)
        rows.set_states(self.connection, row.id, done.states)
        rows.forget(self.connection, self.device.id, (epoch, sequence), WAITING)
        self._note(row, done)

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


def _target_of(found: Any) -> Target | None:
    if found is None or found.state == State.HELD:
        return None
    return Target(orjson.loads(found.body), Dated(found.time, exact=True), State(found.state))
