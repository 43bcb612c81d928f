"""Holds how far one epoch has come: what of it waits, what is on its way, what the backend holds beyond a gap.

    fetched -> waiting -> on its way -> acknowledged, or held in a range: forgotten here
                  ^            |
                  +-- neither -+

Nothing of an epoch is sent before a mark has told what the backend has of it.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field

from agent.contract.ack import Ack
from agent.contract.batch import BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Batch
from agent.ports import BATCHES_MAX

FULL_BYTES = BATCH_BYTES_MAX // 2
"""A batch of more was closed because it was full: its next record, with its raw usage, takes up to half a batch."""

NEVER = datetime.datetime.min.replace(tzinfo=datetime.UTC)


@dataclass(slots=True, eq=False)
class Parcel:
    """A batch that is not acknowledged, until it is."""

    epoch: str
    batch: Batch
    failures: int = 0
    """Sendings that came to nothing."""
    not_before: float = 0.0
    """Seconds."""


@dataclass(slots=True)
class Progress:
    """One epoch. Sequences are as in the chain, times seconds of whoever asks."""

    epoch: str
    listed: bool = True
    """The backlog says there may be something to send."""
    acked: int = 0
    """The highest sequence both sides hold alike."""
    top: int = 0
    """The last sequence of all batches seen."""
    ranges: Sequence[tuple[int, int]] = ()
    """What the backend holds beyond a gap."""
    told: datetime.datetime = NEVER
    """The backend's time at the newest ack."""
    mark_due: bool = True
    mark_at: float = 0.0
    """The mark is not asked before."""
    marks_missed: int = 0
    """Marks in a row that were not answered."""
    stuck_at: float = 0.0
    """The mark is not asked before, if it is for being stuck."""
    stuck_marks: int = 0
    """Marks in a row that moved nothing."""
    again: bool = False
    """Batches that have left are to be fetched once more."""
    after: int = 0
    """Of them, those above this sequence are still to be fetched."""
    dry: bool = False
    """Nothing that never left is there."""
    full: bool = True
    """The last new batch was full, so there is probably another one."""
    fetched_at: float = float("-inf")
    waiting: list[Parcel] = field(default_factory=list)
    flying: list[Parcel] = field(default_factory=list)

    @property
    def stuck(self) -> bool:
        """All has been sent and not all is linked: only a mark can tell what is missing."""
        return self.acked < self.top and self.dry and not (self.again or self.waiting or self.flying)

    @property
    def working(self) -> bool:
        """Something is to be sent, to be asked or to be waited for."""
        if not self.listed:
            return self.mark_due or self.again or bool(self.waiting or self.flying)
        return self.mark_due or self.again or not self.dry or bool(self.waiting or self.flying) or self.stuck

    def add(self, batches: Sequence[Batch]) -> None:
        """Batches to send; what is known, or held by the backend, is not taken twice."""
        known = {parcel.batch.first for parcel in (*self.waiting, *self.flying)}
        for batch in batches:
            self.top = max(self.top, batch.last)
            if batch.first not in known and not self.settled(batch):
                self.waiting.append(Parcel(self.epoch, batch))
        self.waiting.sort(key=_place)

    def brought(self, batches: Sequence[Batch], now: float, *, again: bool, asked: int = 1) -> None:
        """What a fetch has brought: a piece of those that have left, or as many as are there of the `asked` next that never left."""
        if again:
            self.again = len(batches) >= BATCHES_MAX
            self.after = batches[-1].last if batches else self.after
        else:
            self.dry = len(batches) < asked
            self.full = not self.dry and all(is_full(batch) for batch in batches)
            self.fetched_at = now
        self.add(batches)

    def learn(self, ack: Ack, *, mark: bool) -> None:
        """An ack that agrees, or a mark that went back; an ack that was overtaken says nothing of ranges."""
        moved = ack.cum_ack > self.acked
        self.acked = ack.cum_ack
        self.top = max(self.top, self.acked)
        at = datetime.datetime.fromisoformat(ack.server_time)
        if mark or at >= self.told:
            self.ranges = [(held.first, held.last) for held in ack.ranges]
            self.told = at
        self.waiting = [parcel for parcel in self.waiting if not self.settled(parcel.batch)]
        self.stuck_marks = 0 if moved else self.stuck_marks + mark

    def compared(self, ack: Ack) -> tuple[bool, bool]:
        """Whether an ack is newer, and whether it is older, than the newest heard; of two at one time nobody knows."""
        at = datetime.datetime.fromisoformat(ack.server_time)
        return at > self.told, at < self.told

    def settled(self, batch: Batch) -> bool:
        """The backend has all of it."""
        return batch.last <= self.acked or any(first <= batch.first and batch.last <= last for first, last in self.ranges)

    def landed(self, parcel: Parcel) -> bool:
        """It is no longer on its way. True if it must be sent again."""
        self.flying.remove(parcel)
        if self.settled(parcel.batch):
            return False
        parcel.failures += 1
        self.waiting.append(parcel)
        self.waiting.sort(key=_place)
        return True


def is_full(batch: Batch) -> bool:
    return len(batch.content) >= FULL_BYTES or batch.last - batch.first + 1 >= BATCH_RECORDS_MAX


def _place(parcel: Parcel) -> int:
    return parcel.batch.first
