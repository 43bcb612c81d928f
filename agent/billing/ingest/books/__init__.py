"""One batch in one transaction: what `decide` and `bill` say of it becomes rows, or nothing does."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final

import orjson
from sqlalchemy import Connection

from agent.billing.ingest.bill import Due
from agent.billing.ingest.books import rows
from agent.billing.ingest.books.posting import Posting
from agent.billing.ingest.books.rows import hole_of
from agent.billing.ingest.dating import Dated, Receipt, anchor_of, dated
from agent.billing.ingest.decide import Books, Hole, Linked, Placed, Range, Rec, advance, place, segments
from agent.billing.ingest.judge import GAP, KEY, ROLLUP, USAGE, Judged, about, judged
from agent.billing.ingest.lines import advanced
from agent.billing.ledger import devices
from agent.billing.ledger.devices import Device
from agent.billing.ledger.tables import State
from agent.contract.batch import BatchContent
from agent.contract.record import KeyData
from agent.errors import BadInput, LedgerDamaged
from agent.metering.when import Anchor

RANGES_MAX: Final = 4096
"""Of one epoch: each is read and written with every batch. More than a badly damaged ledger leaves."""

TOGETHER_MAX: Final = 500
"""Records billed at a time when a filled hole links many: bounds memory, not the transaction."""


class TooManyRanges(BadInput):
    """Nothing more can be stored in the air: what is missing below must come first."""

    code = "too-many-ranges"


@dataclass(frozen=True, slots=True)
class Arrived:
    """A batch that was checked: who sent it, when, and its records judged."""

    device: Device
    key_id: str
    batch: BatchContent
    judged: Sequence[Judged]
    receipt: Receipt
    first_use: bool = False
    """The key has not signed a batch before."""
    watched: bool = False


@dataclass(slots=True)
class Taken:
    """How the epoch stands after the commit, and what the batch came to."""

    books: Books
    durable: int
    forked: list[int] = field(default_factory=list)
    """Sequences of the batch that contradict what is held."""
    stored: int = 0
    duplicates: int = 0
    keys_changed: bool = False
    seen: list[dict[str, Any]] = field(default_factory=list)


def commit(connection: Connection, arrived: Arrived) -> Taken:
    """Raises TooManyRanges."""
    return _Commit(connection, arrived).run()


class _Commit:
    """The batch on its way into the books; lives as long as one transaction."""

    def __init__(self, connection: Connection, arrived: Arrived) -> None:
        self._connection = connection
        self._arrived = arrived
        self._device = arrived.device
        self._now = arrived.receipt.text
        self._row = rows.epoch_row(connection, arrived.device.id, arrived.batch.epoch, self._now)
        self._fresh: dict[int, Due] = {}
        """Records of the batch that are new, until they have their row."""
        self._taken = Taken(self._row.books, self._row.durable)
        self._posting = Posting(connection, arrived.device, arrived.receipt, arrived.watched)

    def run(self) -> Taken:
        placed = self._place()
        if len(placed.books.ranges) > RANGES_MAX:
            raise TooManyRanges(f"epoch {self._row.epoch} has {RANGES_MAX} gaps", "send what is missing, or the records that declare it")
        new = [*placed.stored, *placed.late]
        self._fresh = {one.judged.sequence: one for one in self._dated({one.sequence for one in new})}
        self._put_aside([one.sequence for one in placed.forked])
        self._beside()
        others = self._account()
        if placed.late:
            self._find("late", placed.late[0].sequence, {"records": len(placed.late)})
            self._post(self._row, [self._fresh[one.sequence] for one in placed.late])
        self._row.books = placed.books
        self._advance(self._row)
        self._put([(one, State.HELD) for one in self._fresh.values()])
        self._compare_odometers()
        rows.save_epoch(self._connection, self._row)
        for name in others:
            other = rows.epoch_row(self._connection, self._device.id, name, self._now)
            self._advance(other)
            rows.save_epoch(self._connection, other)
        self._taken.books, self._taken.stored, self._taken.duplicates = self._row.books, len(new), placed.duplicates
        self._taken.keys_changed |= self._posting.keys_changed
        self._taken.seen = self._posting.seen
        return self._taken

    def _place(self) -> Placed:
        """Most batches go on where the last one ended, and nothing has to be looked up for them."""
        books, batch = self._row.books, self._arrived.batch
        cut = segments(batch, [Rec(one.sequence, one.hash) for one in self._arrived.judged])
        plain = len(cut) == 1 and not books.ranges and not self._row.holes and batch.first == books.cum + 1
        if plain and cut[0].h_before == books.head:
            return place(books, cut, {})
        held = rows.hashes(self._connection, self._row.id, batch.first - 1, batch.last)
        holes = rows.holes(self._connection, self._row.id, batch.first, batch.last) if self._row.holes else {}
        return place(books, cut, held, list(holes))

    def _dated(self, new: set[int]) -> Iterator[Due]:
        """The new records with their times; those that make no sense get the time of receipt."""
        receipt, fresh = self._arrived.receipt, [one for one in self._arrived.judged if one.sequence in new]
        sound = [one for one in fresh if not one.problem]
        times = dict(zip((one.sequence for one in sound), dated([one.record for one in sound], self._anchors(sound), receipt), strict=True))
        odd = [one.sequence for one in sound if "time" in one.record and not receipt.plausible(one.record["time"])]
        if odd:
            self._find("time", odd[0], {"records": len(odd)})
        for one in fresh:
            yield Due(one, times.get(one.sequence, Dated(receipt.text, exact=False)))

    def _anchors(self, sound: Sequence[Judged]) -> list[Anchor]:
        """Of the batch and of earlier ones, where a record needs them."""
        boots = {one.record["bootid"] for one in sound if "time" not in one.record}
        if not boots:
            return []
        told = [(one.bootid, one.boottimems, one.time, one.quality) for one in self._arrived.batch.anchors]
        found = rows.anchors(self._connection, self._device.id, boots)
        return [anchor for one in (*told, *found) if (anchor := anchor_of(*one)) is not None]

    def _beside(self) -> None:
        """What travels beside the records: raw usage, anchors; and that the key is in use."""
        batch = self._arrived.batch
        rows.put_raw(self._connection, self._row.id, [(one.sequence, one.body) for one in batch.raw if one.sequence in self._fresh])
        if self._fresh:
            told = [anchor_of(one.bootid, one.boottimems, one.time, one.quality) and one for one in batch.anchors]
            kept = [(one.bootid, int(one.boottimems), one.time, one.quality) for one in told if one]
            rows.put_anchors(self._connection, self._device.id, kept)
        if self._arrived.first_use:
            devices.used(self._connection, self._arrived.key_id, self._now)
            self._taken.keys_changed = True

    def _account(self) -> list[str]:
        """Takes from the new records what counts as soon as they are stored: new keys and holes. Returns which other epochs have those."""
        others: dict[str, None] = {}
        for one in [due.judged for due in self._fresh.values() if not due.judged.problem]:
            if one.type in (GAP, ROLLUP):
                row = self._row
                if one.data["epoch"] != row.epoch:
                    row = rows.epoch_row(self._connection, self._device.id, one.data["epoch"], self._now)
                    others[row.epoch] = None
                rows.put_hole(self._connection, row.id, hole_of(one), (self._row.id, one.sequence))
                row.holes += 1
            elif one.type == KEY:
                self._add_key(one)
        return list(others)

    def _add_key(self, one: Judged) -> None:
        told = KeyData.model_validate(one.data)
        try:
            devices.add_key(self._connection, self._device.id, told, self._now, epoch=self._row.epoch)
            self._taken.keys_changed = True
        except BadInput as error:
            self._find("key", one.sequence, {"problem": str(error)})

    def _advance(self, row: rows.EpochRow) -> None:
        """Links what can be linked and bills it."""
        done = advance(row.books)
        ways: dict[Hole, tuple[int, int]] = {}
        if done.books.ranges and row.holes:
            ways = rows.holes(self._connection, row.id, row.books.cum + 1)
            done = advance(row.books, ways)
        row.books = done.books
        self._tell(row, done, ways)
        for part in done.forked:
            self._unlink(row, part)
        for part in done.linked:
            for due in self._due(row, part):
                self._post(row, due)

    def _post(self, row: rows.EpochRow, due: list[Due]) -> None:
        """Bills linked records; those of the batch get their rows, those stored before their states."""
        states = self._posting.post(row, due)
        fresh = [one for one in due if row is self._row and one.judged.sequence in self._fresh]
        self._put([(one, states.pop(one.judged.sequence)) for one in fresh])
        rows.set_states(self._connection, row.id, states)
        for one in fresh:
            del self._fresh[one.judged.sequence]

    def _tell(self, row: rows.EpochRow, done: Linked, ways: Mapping[Hole, tuple[int, int]]) -> None:
        """Findings of a way over holes, and what its roll-ups put on the odometer."""
        for way in done.crossed:
            if not way.proven:
                self._find("unproven", way.last + 1, {"first": way.first, "last": way.last}, row.epoch)
            for hole in way.holes:
                row.odometer.update(advanced(orjson.loads(self._body(*ways[hole]))["data"].get("totals", [])))
                if hole.kind == "gap":
                    self._find("gap", hole.first, {"last": hole.last}, row.epoch)
        for hole in done.strange:
            self._find("strange-hole", hole.first, {"last": hole.last}, row.epoch)

    def _body(self, epoch_id: int, sequence: int) -> bytes:
        if epoch_id == self._row.id and sequence in self._fresh:
            return self._fresh[sequence].judged.body
        return rows.body_of(self._connection, epoch_id, sequence)

    def _due(self, row: rows.EpochRow, part: Range) -> Iterator[list[Due]]:
        """The records of a linked range, in order: of this batch, or stored before."""
        ours = self._fresh if row is self._row else {}
        at = part.first
        while at <= part.last:
            if at in ours:
                places = takewhile(ours.__contains__, range(at, min(part.last + 1, at + TOGETHER_MAX)))
                found = [ours[place] for place in places]
            else:
                held = rows.stored(self._connection, row.id, at, part.last, TOGETHER_MAX)
                next_ones = takewhile(lambda pair: pair[0] == pair[1].sequence, enumerate(held, at))
                found = [Due(judged(one.sequence, one.hash, one.body), Dated(one.time, bool(one.exact))) for _, one in next_ones]
            if not found:
                raise LedgerDamaged(f"record {at} of epoch {row.epoch} is not in the books", "restore a backup")
            yield found
            at += len(found)

    def _put_aside(self, forked: Sequence[int]) -> None:
        """Records of the batch that contradict."""
        if forked:
            gone = set(forked)
            told = [(one.sequence, one.hash, one.body) for one in self._arrived.judged if one.sequence in gone]
            rows.put_in_quarantine(self._connection, self._device.id, self._row.epoch, told, self._now)
            self._find("fork", forked[0], {"last": forked[-1], "records": len(forked)})
            self._taken.forked += forked

    def _unlink(self, row: rows.EpochRow, part: Range) -> None:
        """A range that hangs on another story: it is held no longer."""
        if row is self._row:
            ours = [at for at in self._fresh if part.first <= at <= part.last]
            self._put_aside(sorted(ours))
            for at in ours:
                del self._fresh[at]
        held = rows.stored(self._connection, row.id, part.first, part.last, rows.QUARANTINED_MAX)
        rows.put_in_quarantine(
            self._connection, self._device.id, row.epoch, ((one.sequence, one.hash, one.body) for one in held), self._now
        )
        rows.drop_records(self._connection, row.id, part.first, part.last)
        self._drop_holes(row, part)
        self._find("fork", part.first, {"last": part.last, "records": part.last - part.first + 1}, row.epoch)

    def _drop_holes(self, row: rows.EpochRow, part: Range) -> None:
        """What only the dropped records accounted for is accounted for no more; a hole has room for one record that does."""
        dropped = rows.drop_holes(self._connection, row.id, part.first, part.last)
        if not dropped:
            return
        again = [(self._row.id, one.judged) for one in self._fresh.values() if not one.judged.problem]
        again += [(of, judged(one.sequence, one.hash, one.body)) for of, one in rows.gaps(self._connection, self._device.id, dropped)]
        for of, one in again:
            if one.type in (GAP, ROLLUP):
                target = rows.epoch_row(self._connection, self._device.id, one.data["epoch"], self._now)
                rows.put_hole(self._connection, target.id, hole_of(one), (of, one.sequence))

    def _compare_odometers(self) -> None:
        """The robot's own at the end of the batch against ours; it goes on from the robot's, so that one difference is told once."""
        batch = self._arrived.batch
        if batch.last != self._row.books.cum or self._taken.forked:
            return
        theirs = {(one.stage, one.model, one.placement, one.class_): one.quantity for one in batch.odometer if one.quantity}
        ours = {place: quantity for place, quantity in self._row.odometer.items() if quantity}
        if theirs != ours:
            apart = sorted(place for place in theirs.keys() | ours.keys() if theirs.get(place) != ours.get(place))
            lines = [{"line": place, "ours": ours.get(place, 0), "theirs": theirs.get(place, 0)} for place in apart]
            self._find("odometer", batch.last, {"lines": lines})
            self._row.odometer.clear()
            self._row.odometer.update(theirs)

    def _find(self, kind: str, sequence: int, told: Mapping[str, Any], epoch: str = "") -> None:
        self._posting.find(epoch or self._row.epoch, sequence, kind, told)

    def _put(self, new: Sequence[tuple[Due, State]]) -> None:
        rows.put_records(self._connection, [self._record(one, state) for one, state in new])

    def _record(self, one: Due, state: State) -> tuple[Any, ...]:
        it = one.judged
        sound = not it.problem
        turn = (it.data["turn_id"], it.data["stage"], it.data["attempt"]) if sound and it.type == USAGE else (None, None, None)
        when = (self._now, one.dated.time, int(one.dated.exact))
        return (self._row.id, it.sequence, it.hash, it.type, it.body, *when, *turn, about(it), int(state))
