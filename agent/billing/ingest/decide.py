"""Decides what of a batch is new, what is held already and what contradicts, and how far the chain links: pure, no database.

Theory of operation. Of an epoch there is known: `cum`, the highest sequence linked to the beginning, the hash there, and ranges
stored beyond it that hang in the air. A batch comes as segments, each linked inside. `place` compares it with what is held:

    same hash                 a duplicate, nothing to do
    other hash                a fork: from there on the segment tells another story than the one held, all of it is quarantined
    not held, beyond cum      stored, as a range
    not held, below cum       it was declared lost and comes after all: stored if a gap was crossed there, else it contradicts
    inside a roll-up's hole   it was billed in the roll-up: it contradicts

`advance` then links ranges to `cum` as long as one follows: by its own `h_before`, which must be the hash at `cum`, or across
holes that a stored record accounts for. A hole is crossed only onto a range, never into the air, so that `cum` is always a record
the robot holds as well. Where nobody knows the hash after a hole, the range's own signed `h_before` is taken and flagged.
"""

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from agent.contract.batch import BatchContent
from agent.contract.canonical import genesis

Kind = Literal["gap", "rollup"]


class Range(NamedTuple):
    """Stored beyond a gap."""

    first: int
    last: int
    h_before: bytes
    h_last: bytes


class Hole(NamedTuple):
    """What a stored record accounts for; a hash that nobody knows is empty."""

    first: int
    last: int
    h_before: bytes
    h_last: bytes
    kind: Kind


class Rec(NamedTuple):
    """A record's place in the chain."""

    sequence: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Segment:
    """Records of a batch one after the other, linked inside."""

    h_before: bytes
    records: Sequence[Rec]


@dataclass(frozen=True, slots=True)
class Books:
    """How an epoch stands."""

    cum: int
    head: bytes
    """h(cum)."""
    ranges: tuple[Range, ...] = ()
    """By sequence, not overlapping, all above cum."""


def unknown(epoch: str) -> Books:
    """Of an epoch nobody has heard of."""
    return Books(0, genesis(epoch))


def segments(batch: BatchContent, records: Sequence[Rec]) -> list[Segment]:
    """The records of the batch, cut at its holes."""
    if not batch.holes:
        return [Segment(bytes.fromhex(batch.h_before), records)]
    found: list[Segment] = []
    before, current = bytes.fromhex(batch.h_before), list[Rec]()
    jumps = {hole.last + 1: bytes.fromhex(hole.h_last) for hole in batch.holes}
    for one in records:
        if current and one.sequence != current[-1].sequence + 1:
            found.append(Segment(before, current))
            before, current = jumps[one.sequence], []
        current.append(one)
    return [*found, Segment(before, current)]


@dataclass(slots=True)
class Placed:
    """What becomes of the records of a batch."""

    books: Books
    """With the new ranges."""
    stored: list[Rec] = field(default_factory=list)
    """New, beyond cum: held in a range until `advance` links them."""
    late: list[Rec] = field(default_factory=list)
    """New, below cum, where a gap had been declared: linked at once."""
    forked: list[Rec] = field(default_factory=list)
    """They contradict what is held."""
    duplicates: int = 0


def place(books: Books, batch: Sequence[Segment], held: Mapping[int, bytes], holes: Sequence[Hole] = ()) -> Placed:
    """`held`: hash of each stored record from the one before the batch to its last. `holes`: the epoch's that overlap the batch."""
    known = {books.cum: books.head, **held}
    done = Placed(books)
    ranges = list(books.ranges)
    for segment in batch:
        _place(segment, known, holes, done, ranges)
    done.books = replace(books, ranges=_merged(ranges))
    return done


def _place(segment: Segment, known: Mapping[int, bytes], holes: Sequence[Hole], done: Placed, ranges: list[Range]) -> None:
    before = segment.h_before
    good = known.get(segment.records[0].sequence - 1, before) == before
    run: list[Rec] = []
    run_before = before
    for one in segment.records:
        held = known.get(one.sequence)
        over = {hole.kind for hole in holes if hole.first <= one.sequence <= hole.last} if holes and held is None else ()
        good = good and held in (None, one.hash) and "rollup" not in over
        if held is not None or not good:
            _close(run, run_before, ranges)
            run = []
            if held == one.hash:
                done.duplicates += 1
            else:
                done.forked.append(one)
        elif one.sequence <= done.books.cum:
            (done.late if "gap" in over else done.forked).append(one)
        else:
            run_before = run_before if run else before
            run.append(one)
            done.stored.append(one)
        before = one.hash
    _close(run, run_before, ranges)


def _close(run: list[Rec], before: bytes, ranges: list[Range]) -> None:
    if run:
        ranges.append(Range(run[0].sequence, run[-1].sequence, before, run[-1].hash))


def _merged(ranges: list[Range]) -> tuple[Range, ...]:
    """By sequence; neighbours that agree become one."""
    found: list[Range] = []
    for one in sorted(ranges):
        if found and found[-1].last + 1 == one.first and found[-1].h_last == one.h_before:
            found[-1] = Range(found[-1].first, one.last, found[-1].h_before, one.h_last)
        else:
            found.append(one)
    return tuple(found)


class Crossed(NamedTuple):
    """A way over holes."""

    first: int
    last: int
    """What was passed over."""
    holes: tuple[Hole, ...]
    proven: bool
    """The hash after it is the one that the hole's record told; else the range's own word is all there is."""


@dataclass(slots=True)
class Linked:
    """How far an epoch came."""

    books: Books
    linked: list[Range] = field(default_factory=list)
    """Linked now, in order; their records are to be billed."""
    crossed: list[Crossed] = field(default_factory=list)
    forked: list[Range] = field(default_factory=list)
    """They hang on another story than the one that is linked, or stand where a roll-up says they were folded."""
    strange: list[Hole] = field(default_factory=list)
    """They don't follow from what is linked, so nothing crosses them."""


def advance(books: Books, holes: Iterable[Hole] = ()) -> Linked:
    """Links what can be linked. `holes`: those of the epoch that end above cum, or more."""
    done = Linked(books)
    waiting = list(books.ranges)
    ahead = sorted(hole for hole in holes if hole.last > books.cum)
    cum, head = books.cum, books.head
    while waiting:
        if waiting[0].first == cum + 1:
            found = waiting.pop(0)
            if found.h_before != head:
                done.forked.append(found)
                continue
            done.linked.append(found)
            cum, head = found.last, found.h_last
        else:
            way = _way(cum, head, waiting, ahead, done)
            if way is None:
                break
            done.crossed.append(way)
            cum, head = way.last, waiting[0].h_before
    done.books = Books(cum, head, tuple(waiting))
    return done


def _way(cum: int, head: bytes, waiting: list[Range], ahead: list[Hole], done: Linked) -> Crossed | None:
    """From cum over one hole or several to the next range; ranges that no way can lead to are taken out."""
    at, hash_, over = cum, head, list[Hole]()
    while waiting:
        target = waiting[0]
        if over and target.first <= at + 1:
            inside, told = target.first <= at, over[-1].h_last
            if (inside and over[-1].kind == "rollup") or (not inside and told and told != target.h_before):
                done.forked.append(waiting.pop(0))
                continue
            return Crossed(cum + 1, target.first - 1, tuple(over), proven=not inside and bool(told))
        step = _step(at, hash_, ahead, done)
        if step is None:
            return None
        over.append(step)
        at, hash_ = step.last, step.h_last
    return None


def _step(at: int, hash_: bytes, ahead: list[Hole], done: Linked) -> Hole | None:
    """The hole that begins at or before the next sequence and reaches beyond it, if it follows from what is before it."""
    end = bisect.bisect_right(ahead, at + 1, key=lambda hole: hole.first)
    for hole in sorted((one for one in ahead[:end] if one.last > at), key=lambda one: (one.kind == "gap", one.last)):
        if hole.first == at + 1 and hole.h_before and hash_ and hole.h_before != hash_:
            if hole not in done.strange:
                done.strange.append(hole)
        else:
            return hole
    return None
