"""Reads the books without owning them: records, totals and odometer of all epochs in one state folder, oldest first."""

import datetime
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from agent.contract.record import RecordType, type_name
from agent.errors import BadInput, LedgerDamaged
from agent.metering.record import odometer_of_data
from agent.metering.rollup import odometer_of_totals
from agent.metering.when import Anchor, When, of_records
from agent.store.db import DAMAGE, LEDGER_FILE, meta, open_reader

USAGE, ROLLUP = type_name("usage"), type_name("rollup")

EPOCH_FILE = re.compile(r"ledger-([0-9a-f]{32})(\.\d+)?\.db")
"""A ledger of an earlier epoch."""

Place = tuple[str, str, str, str]
"""(stage, model, placement, class)."""

RARE = """SELECT sequence, type, body FROM record WHERE type NOT IN ('voxmeter.usage.v1', 'voxmeter.intent.v1')
AND type IN ('voxmeter.epoch.v1', 'voxmeter.gap.v1') ORDER BY sequence"""
"""In the words of the index `record_rare`, so that a ledger of millions is answered at once."""

FORKS: Final = frozenset({"different", "ahead", "rolled_back", "restored"})
"""Reasons of an epoch that began because two stories were told: a cloned or restored card, a disk that lied, a backend that differs."""

LOST: Final = "lost"

REMEDY = "run: voxmeter usage verify"


class UnreadableEpoch(LedgerDamaged):
    """One ledger file of several can't be read."""

    def __init__(self, path: Path, problem: object) -> None:
        super().__init__(f"{path}: {problem}", REMEDY)
        named = EPOCH_FILE.fullmatch(path.name)
        self.epoch = named[1] if named else ""
        """By the file's name; empty for the present one."""


class EpochReader:
    """One ledger file, read only. What can't be read raises UnreadableEpoch."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._connection = open_reader(path)
        except LedgerDamaged as error:
            raise UnreadableEpoch(path, error.message.removeprefix(f"{path}: ")) from error
        try:
            self.meta = meta(self._connection)
        except DAMAGE as error:
            self._connection.close()
            raise UnreadableEpoch(path, error) from error
        named = EPOCH_FILE.fullmatch(path.name)
        self.epoch = named[1] if named else self.meta.get("epoch", "")
        """By the name of the file; the present one alone says it itself."""
        self._new = ""
        """What tells records that no twin holds from those that one does, as a part of a query."""

    def rows(self, query: str, parameters: tuple[Any, ...] = ()) -> Iterator[Any]:
        try:
            yield from self._connection.execute(query, parameters)
        except DAMAGE as error:
            raise UnreadableEpoch(self.path, error) from error

    def bodies(self, type_: str | None = None) -> Iterator[bytes]:
        """Bodies as stored, in sequence, all types or one (full name)."""
        chosen = (" AND type = ?", (type_,)) if type_ else ("", ())
        query = f"SELECT body FROM record WHERE true{self._new}{chosen[0]} ORDER BY sequence"  # noqa: S608  no input in it
        for (body,) in self.rows(query, chosen[1]):
            if not isinstance(body, bytes):
                raise UnreadableEpoch(self.path, "a record's body is not bytes")
            yield body

    def beside(self, twin: Path) -> None:
        """From here on bodies that the twin holds as well, a ledger of the same epoch, are left to it."""
        name = f"twin{self._new.count('EXISTS')}"
        for _ in self.rows(f"ATTACH DATABASE ? AS {name}", (f"{twin.resolve().as_uri()}?mode=ro",)):
            pass
        same = "twin.sequence = record.sequence AND twin.hash = record.hash"
        self._new += f" AND NOT EXISTS (SELECT 1 FROM {name}.record AS twin WHERE {same})"  # noqa: S608  no input in it

    def doubled(self) -> Counter[Place]:
        """What of the odometer is of records that a twin holds as well."""
        doubled: Counter[Place] = Counter()
        if self._new:
            held = self._new.replace(" AND NOT EXISTS", " OR EXISTS")
            query = f"SELECT type, body FROM record WHERE type IN (?, ?) AND (false{held})"  # noqa: S608  no input in it
            for type_, body in self.rows(query, (USAGE, ROLLUP)):
                told = orjson.loads(body)["data"]
                doubled.update(odometer_of_data(told) if type_ == USAGE else odometer_of_totals(told["totals"]))
        return doubled

    def odometer(self) -> Counter[Place]:
        rows = list(self.rows("SELECT stage, model, placement, class, quantity FROM odometer"))
        if any(type(row[4]) is not int for row in rows):
            raise UnreadableEpoch(self.path, "the odometer holds something that is no number")
        return Counter({(stage, model, placement, class_): quantity for stage, model, placement, class_, quantity in rows})

    def anchors(self) -> Iterator[Anchor]:
        """Moments of which both boot time and wall time were known; a ledger of the first version has none."""
        if any(self.rows("SELECT 1 FROM sqlite_master WHERE name = 'anchor'")):
            for boot, at, time, quality in self.rows("SELECT bootid, boottimems, time, quality FROM anchor"):
                yield Anchor(boot, at, datetime.datetime.fromisoformat(time), quality)

    def snapshot(self) -> None:
        """What is read from here on is of one moment, whoever writes meanwhile; until `close`."""
        for _ in self.rows("BEGIN"):
            pass

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.rollback()
        self._connection.close()


def ledger_files(state: Path) -> list[Path]:
    """The ledgers in a state folder, the present one last. Raises BadInput if there is none yet."""
    earlier = [path for path in sorted(state.glob("ledger-*.db")) if EPOCH_FILE.fullmatch(path.name)]
    files = [path for path in (*earlier, state / LEDGER_FILE) if path.is_file()]
    if not files:
        raise BadInput(f"no ledger in {state}", "a first turn makes one: voxmeter ask FILE.wav")
    return files


class LedgerReader:
    """All epochs in one state folder."""

    def __init__(self, state: Path) -> None:
        """Raises BadInput if there is no ledger yet."""
        self.epochs = _ordered([EpochReader(path) for path in ledger_files(state)])
        for first, second in combinations(self.epochs, 2):
            if first.epoch == second.epoch:  # a card that was restored brought it twice
                second.beside(first.path)
        self.waiting = sorted({path.name.removesuffix("-wal") for path in state.glob("ledger-*.damaged*") if "-shm" not in path.name})
        """Damaged ledgers whose records are not salvaged yet."""

    def bodies(self, short_type: str | None = None) -> Iterator[bytes]:
        """Bodies as stored, oldest first. `short_type`: `usage`, or the full `voxmeter.usage.v1`."""
        full = short_type if short_type is None or short_type.startswith("voxmeter.") else type_name(short_type)  # type: ignore[arg-type]
        for epoch in self.epochs:
            yield from epoch.bodies(full)

    def records(self, *short_types: RecordType) -> Iterator[dict[str, Any]]:
        """Decoded, of all types or of those named."""
        wanted = {type_name(short) for short in short_types}
        for epoch in self.epochs:
            for body in epoch.bodies(type_name(short_types[0]) if len(short_types) == 1 else None):
                try:
                    record = orjson.loads(body)
                except ValueError as error:
                    raise UnreadableEpoch(epoch.path, "a record's body is not JSON") from error
                if not wanted or record["type"] in wanted:
                    yield record

    def timed(self) -> Iterator[tuple[dict[str, Any], When]]:
        """All records, decoded, and when each was, as far as the anchors of all epochs tell. Holds them all at once."""
        records = list(self.records())
        anchors = [anchor for epoch in self.epochs for anchor in epoch.anchors()]
        yield from zip(records, of_records(records, anchors), strict=True)

    def odometer(self) -> Counter[Place]:
        """Quantities by (stage, model, placement, class), all epochs together."""
        totals: Counter[Place] = Counter()
        for epoch in self.epochs:
            totals.update(epoch.odometer())
            totals.subtract(epoch.doubled())
        return Counter({place: quantity for place, quantity in totals.items() if quantity})

    def close(self) -> None:
        for epoch in self.epochs:
            epoch.close()


@dataclass(frozen=True, slots=True)
class Break:
    """Something in the books that can't be undone."""

    kind: Literal["fork", "gap"]
    epoch: str
    sequence: int
    """Of the record that says so."""
    reason: str


def breaks(state: Path) -> list[Break]:
    """Epochs that began because of a fork, and what was declared lost, oldest first; quick, whatever the books hold.

    Raises BadInput if there is no ledger yet, LedgerDamaged for one that can't be read.
    """
    reader = LedgerReader(state)
    try:
        return [one for epoch in reader.epochs for row in epoch.rows(RARE) if (one := _break(epoch, *row))]
    finally:
        reader.close()


def _break(epoch: EpochReader, sequence: int, type_: str, body: bytes) -> Break | None:
    try:
        reason = str(orjson.loads(body)["data"]["reason"])
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableEpoch(epoch.path, f"record {sequence} can't be read") from error
    if type_ == type_name("gap"):
        return Break("gap", epoch.epoch, sequence, reason)
    if reason in FORKS:
        return Break("fork", epoch.epoch, sequence, reason)
    return Break("gap", epoch.epoch, sequence, "a ledger is gone") if reason == LOST else None


def _ordered(epochs: list[EpochReader]) -> list[EpochReader]:
    """Each after the one it follows; the present one is last, what nobody follows or names comes first."""
    by_name = {epoch.epoch: epoch for epoch in epochs}
    line: list[EpochReader] = []
    at: EpochReader | None = epochs[-1]
    while at is not None and at not in line:
        line.insert(0, at)
        at = by_name.get(at.meta.get("previous", ""))
    return [epoch for epoch in epochs if epoch not in line] + line
