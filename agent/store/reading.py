"""Reads a ledger without owning it: records, totals, and whether the chain is whole."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from sqlite_utils import Database

from agent.contract.canonical import genesis, link
from agent.contract.record import type_name
from agent.errors import BadInput, LedgerDamaged
from agent.metering.record import odometer_of_data
from agent.store.db import DAMAGE, LEDGER_FILE, open_reader

USAGE = type_name("usage")

EPOCH = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a verification found."""

    records: int
    """Records whose place in the chain was checked and found good."""
    head: str
    """Hex of the last good hash."""
    sequence: int | None = None
    """The first bad record; None if there is none, or if what is bad is not a record."""
    problem: str = ""

    @property
    def whole(self) -> bool:
        return not self.problem


class LedgerReader:
    """One ledger file, read only."""

    def __init__(self, state: Path) -> None:
        """Raises BadInput if there is no ledger yet."""
        path = state / LEDGER_FILE
        if not path.is_file():
            raise BadInput(f"no ledger in {state}", "a first turn makes one: voxmeter ask FILE.wav")
        self._connection = open_reader(path)
        self._path = path

    def bodies(self, short_type: str | None = None) -> Iterator[bytes]:
        """Bodies as stored, oldest first. `short_type`: `usage`, or the full `voxmeter.usage.v1`."""
        query = "SELECT body FROM record"
        wanted: tuple[str, ...] = ()
        if short_type:
            query += " WHERE type = ?"
            wanted = (short_type if short_type.startswith("voxmeter.") else type_name(short_type),)  # type: ignore[arg-type]
        for (body,) in self._rows(f"{query} ORDER BY sequence", wanted):
            if not isinstance(body, bytes):
                raise LedgerDamaged(f"{self._path}: a record's body is not bytes", "run: voxmeter usage verify")
            yield body

    def records(self, short_type: str | None = None) -> Iterator[dict[str, Any]]:
        """The same, decoded."""
        for body in self.bodies(short_type):
            try:
                yield orjson.loads(body)
            except ValueError as error:
                raise LedgerDamaged(f"{self._path}: a record's body is not JSON", "run: voxmeter usage verify") from error

    def odometer(self) -> dict[tuple[str, str, str, str], int]:
        """Quantities by (stage, model, placement, class)."""
        try:
            rows = list(Database(self._connection).table("odometer").rows)
        except DAMAGE as error:
            raise LedgerDamaged(f"{self._path}: {error}", "run: voxmeter usage verify") from error
        return {(row["stage"], row["model"], row["placement"], row["class"]): row["quantity"] for row in rows}

    def close(self) -> None:
        self._connection.close()

    def verify(self) -> Verdict:
        """Walks the chain from its beginning and names the first record that is not what was written.

        All of it reads one snapshot: a robot that writes meanwhile changes nothing of what is compared.
        """
        head, good = b"", 0
        summed: Counter[tuple[str, str, str, str]] = Counter()
        try:
            for _ in self._rows("BEGIN"):
                pass
            epoch = next((str(row[0]) for row in self._rows("SELECT value FROM meta WHERE name = 'epoch'")), "")
            if not EPOCH.fullmatch(epoch):
                return Verdict(0, "", None, "it does not say which epoch it holds")
            head = genesis(epoch)
            for sequence, type_, hash_, body in self._rows("SELECT sequence, type, hash, body FROM record ORDER BY sequence"):
                problem = _problem(sequence, good + 1, type_, body, epoch) or ("" if link(head, body) == hash_ else "its hash is wrong")
                if problem:
                    return Verdict(good, head.hex(), good + 1, problem)
                head, good = hash_, sequence
                if type_ == USAGE:
                    summed.update(odometer_of_data(orjson.loads(body)["data"]))
            # The sum also tells of records that were cut off at the end, which no chain can.
            moved = self.odometer() != summed
        except LedgerDamaged as error:
            return Verdict(good, head.hex(), good + 1, error.message)
        finally:
            self._connection.rollback()
        if moved:
            return Verdict(good, head.hex(), None, "the odometer is not the sum of the records: records were removed or it was changed")
        return Verdict(good, head.hex(), None, "" if good else "it holds no record")

    def _rows(self, query: str, parameters: tuple[Any, ...] = ()) -> Iterator[Any]:
        try:
            yield from self._connection.execute(query, parameters)
        except DAMAGE as error:
            raise LedgerDamaged(f"{self._path}: {error}", "run: voxmeter usage verify") from error


def _problem(sequence: int, expected: int, type_: object, body: Any, epoch: str) -> str:
    """What is wrong with a row on its own, whatever its hash says."""
    if sequence != expected:
        return "it is missing"
    try:
        record = orjson.loads(body)
        agrees = isinstance(body, bytes) and (record["type"], record["id"]) == (type_, f"{epoch}:{sequence:020d}")
    except (ValueError, KeyError, TypeError):
        return "its body is not a record"
    return "" if agrees else "its type or place is not what its body says"
