"""Verifies the books: that every record is what was written, none is missing unaccounted, and the odometer is their sum.

An epoch is walked from its beginning, or from the signed checkpoint that says what was pruned. What was folded or lost is crossed
only where a roll-up or a gap record stands for it.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from agent.contract.canonical import genesis
from agent.contract.record import type_name
from agent.contract.signing import check_key_record, decode, verify
from agent.errors import BadInput, LedgerDamaged, VoxmeterError
from agent.metering.record import odometer_of_data
from agent.metering.rollup import odometer_of_totals
from agent.store.keys import FORMER_KEYS, publics
from agent.store.missing import Span, missing
from agent.store.reading import EPOCH_FILE, EpochReader, LedgerReader, Place, UnreadableEpoch, ledger_files

USAGE, ROLLUP, GAP, KEY = type_name("usage"), type_name("rollup"), type_name("gap"), type_name("key")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found."""

    records: int
    """Records whose place in the chain was checked and found good, all epochs together."""
    head: str
    """Hex of the last good hash."""
    sequence: int | None = None
    """The first bad record; None if there is none, or if what is bad is not a record."""
    problem: str = ""
    epoch: str = ""
    """Where the walk ended."""
    salvageable: bool = True
    """What is bad is in the ledger's file; else only its witness is, the key that signed what was pruned."""

    @property
    def whole(self) -> bool:
        return not self.problem


class Broken(Exception):
    """The walk can't go on."""

    def __init__(self, problem: str, sequence: int | None = None, *, salvageable: bool = True) -> None:
        super().__init__(problem)
        self.problem = problem
        self.sequence = sequence
        self.salvageable = salvageable


def verify_books(state: Path, progress: Callable[[int], None] = lambda _: None) -> Verdict:
    """Walks every epoch. `progress` is told now and then how many records of the present one were good so far.

    All of an epoch is read as of one moment: a robot that writes meanwhile changes nothing of what is compared.
    Raises BadInput if there is no ledger.
    """
    if unreadable := _unreadable(state):
        return unreadable
    reader = LedgerReader(state)
    good, head = 0, ""
    witness: Verdict | None = None
    try:
        accounted = _accounted(reader)
        for epoch in reader.epochs:
            walk = _Walk(epoch, accounted.get(epoch.epoch, {}), lambda: _trusted(state, reader), progress)
            problem = walk.run()
            good, head = good + walk.good, walk.head.hex()
            if problem:
                found = Verdict(good, head, problem.sequence, _at(problem.problem, epoch, reader), epoch.epoch, problem.salvageable)
                if found.salvageable:
                    return found
                witness = witness or found  # what can be salvaged is told first
        if witness:
            return witness
        beside = missing(state, reader, accounted) if good else "it holds no record"
        return Verdict(good, head, epoch=reader.epochs[-1].epoch, problem=beside, salvageable=not beside)
    except UnreadableEpoch as error:
        return Verdict(good, head, problem=error.message, epoch=error.epoch)
    finally:
        reader.close()


def _unreadable(state: Path) -> Verdict | None:
    """A ledger that can't even be opened, by the epoch its name or nobody tells."""
    for path in ledger_files(state):
        try:
            EpochReader(path).close()
        except UnreadableEpoch as error:
            return Verdict(0, "", problem=error.message, epoch=error.epoch)
    return None


def _at(problem: str, epoch: EpochReader, reader: LedgerReader) -> str:
    return problem if epoch is reader.epochs[-1] else f"epoch {epoch.epoch}: {problem}"


def _accounted(reader: LedgerReader) -> dict[str, dict[int, Span]]:
    """By epoch and first sequence, what roll-ups and gaps stand for. A gap may stand in a later epoch than what it tells of."""
    spans: dict[str, dict[int, Span]] = {}
    for epoch in reader.epochs:
        for type_ in (ROLLUP, GAP):
            for body in epoch.bodies(type_):
                try:
                    told = orjson.loads(body)["data"]
                    span = Span(told["last"], told.get("h_before", ""), bytes.fromhex(told.get("h_last", "")).hex())
                    if told["first"] <= span.last:
                        spans.setdefault(told["epoch"], {})[told["first"]] = span
                except (ValueError, KeyError, TypeError):
                    continue  # the walk names it when it gets there
    return spans


def _trusted(state: Path, reader: LedgerReader) -> set[bytes]:
    """The robot's usage keys: those it has, and each that named one of them as its successor. Raises BadInput for an unusable one."""
    changes = [change for epoch in reader.epochs for change in _key_changes(epoch)]
    trusted = publics(state)
    while earlier := {old for old, new in changes if new in trusted} - trusted:
        trusted |= earlier
    return trusted


def _key_changes(epoch: EpochReader) -> list[tuple[bytes, bytes]]:
    """(old, new) of the changes both keys signed, as far as they can be read."""
    told: list[Any] = []
    with suppress(ValueError, TypeError):
        told += orjson.loads(epoch.meta.get(FORMER_KEYS, "[]"))
    for body in epoch.bodies(KEY):
        with suppress(ValueError, KeyError, TypeError):
            told.append(orjson.loads(body)["data"])
    return [(decode(one["old"]), decode(one["new"])) for one in told if check_key_record(epoch.epoch, one)]


class _Walk:
    """One epoch from its base to its end."""

    def __init__(
        self, epoch: EpochReader, accounted: Mapping[int, Span], trusted: Callable[[], set[bytes]], progress: Callable[[int], None]
    ) -> None:
        """`trusted`: the robot's usage keys, asked for only where there is a checkpoint."""
        self._epoch = epoch
        self._accounted = accounted
        self._trusted = trusted
        self._progress = progress
        self.good = 0
        self.at = 0
        self.head = b""
        self._base = 0
        self._unwitnessed: Broken | None = None
        self._summed: Counter[Place] = Counter()

    def run(self) -> Broken | None:
        self._epoch.snapshot()
        try:
            self._begin()
            self._follow()
            self._compare()
        except Broken as broken:
            return broken
        except LedgerDamaged as error:
            return Broken(error.message, self.at + 1)
        return self._unwitnessed

    def _compare(self) -> None:
        """The sum also tells of records that were cut off at the end, which no chain can; SQLite, of what is not a record."""
        for (line,) in self._epoch.rows("PRAGMA quick_check(1)"):
            if line != "ok":
                raise Broken(f"its file is damaged: {' '.join(str(line).split())}")
        shown = {place: quantity for place, quantity in self._epoch.odometer().items() if quantity}
        if shown != {place: quantity for place, quantity in self._summed.items() if quantity}:
            raise Broken("the odometer is not the sum of the records: records were removed or it was changed")

    def _begin(self) -> None:
        if not EPOCH_FILE.fullmatch(f"ledger-{self._epoch.epoch}.db") or self._epoch.meta.get("epoch") != self._epoch.epoch:
            raise Broken("it does not say which epoch it holds")
        self.head = genesis(self._epoch.epoch)
        if "checkpoint" in self._epoch.meta:
            self._begin_at_checkpoint(self._epoch.meta)

    def _begin_at_checkpoint(self, held: Mapping[str, str]) -> None:
        """What was pruned is vouched for by the robot's own signature over sequence, hash and odometer."""
        content, public = held["checkpoint"].encode(), b""
        try:
            public = decode(held.get("checkpoint_key", ""))
            told = orjson.loads(content)
            signed = verify(public, content, decode(held.get("checkpoint_sig", ""))) and told["epoch"] == self._epoch.epoch
            self.at, self.head = int(told["sequence"]), bytes.fromhex(told["hash"])
            lines = [((line["stage"], line["model"], line["placement"], line["class"]), line["quantity"]) for line in told["odometer"]]
        except (ValueError, KeyError, TypeError, VoxmeterError):
            signed, lines = False, []
        if not signed:
            raise Broken("the checkpoint of what was pruned is not what was signed")
        self._unwitnessed = self._doubt_of(public)
        self._base = self.at
        self._summed = Counter(dict(lines))

    def _doubt_of(self, public: bytes) -> Broken | None:
        """Why nobody vouches for the checkpoint. The records after it are looked at all the same."""
        try:
            trusted = self._trusted()
        except BadInput as error:
            return Broken(f"nobody can say who signed the checkpoint of what was pruned: {error.message}", salvageable=False)
        if not trusted:
            return Broken("nobody can say who signed the checkpoint of what was pruned: no usage key is here to compare", salvageable=False)
        if public not in trusted:
            return Broken("the checkpoint of what was pruned is signed by a key that is not this robot's", salvageable=False)
        return None

    def _follow(self) -> None:
        sha256, loads = hashlib.sha256, orjson.loads
        names = f"{self._epoch.epoch}:"
        query = "SELECT sequence, type, hash, body FROM record WHERE sequence > ? ORDER BY sequence"
        for sequence, type_, hash_, body in self._epoch.rows(query, (self._base,)):
            if sequence != self.at + 1:
                self._cross(sequence)
            try:
                record = loads(body)
                agrees = record["id"] == f"{names}{sequence:020d}" and record["type"] == type_
            except (ValueError, KeyError, TypeError):
                raise Broken("its body is not a record", sequence) from None
            if not agrees:
                raise Broken("its type or place is not what its body says", sequence)
            if self.head and sha256(self.head + body).digest() != hash_:
                raise Broken("its hash is wrong", sequence)
            self.head, self.at = hash_, sequence
            self._add(type_, record, sequence)
            self.good += 1
            if not self.good % 50_000:
                self._progress(self.good)

    def _add(self, type_: str, record: Mapping[str, Any], sequence: int) -> None:
        """A roll-up counts unless the checkpoint holds what it stands for: a batch may end between the hole and its roll-up."""
        try:
            if type_ == USAGE:
                for place, quantity in odometer_of_data(record["data"]).items():
                    self._summed[place] += quantity
            elif type_ == ROLLUP and (record["data"]["epoch"] != self._epoch.epoch or record["data"]["last"] > self._base):
                self._summed.update(odometer_of_totals(record["data"]["totals"]))
        except (ValueError, KeyError, TypeError):
            raise Broken("its figures can't be read", sequence) from None

    def _cross(self, sequence: int) -> None:
        """Goes over what is missing before a record, if something stands for all of it."""
        while self.at + 1 < sequence:
            span = self._accounted.get(self.at + 1)
            if span is None or (span.h_before and self.head and span.h_before != self.head.hex()):
                raise Broken("it is missing", self.at + 1)
            self.at, self.head = span.last, bytes.fromhex(span.h_last)
        if self.at + 1 != sequence:
            raise Broken("it is missing", sequence)
