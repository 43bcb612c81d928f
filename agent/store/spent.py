"""Reads what was spent off the books, each time only what is new, and remembers the sums beside them in `spent.json`.

Acked records are pruned one day; what they came to this month must not go with them.
"""

import datetime
from pathlib import Path

import orjson

from agent.errors import BadInput
from agent.files import read_beginning, write_durably
from agent.metering.budget import USAGE, Limit, Spending, Used
from agent.store.reading import EpochReader, LedgerReader, UnreadableEpoch

SPENT_FILE = "spent.json"

FILE_BYTES_MAX = 256 * 1024

NEW = "SELECT sequence, body FROM record WHERE sequence > ? AND type = ? ORDER BY sequence"


class Spent:
    """Of one robot. May be used from another thread, by one at a time."""

    def __init__(self, state: Path, time_zone: str) -> None:
        """`time_zone` of the account, as in the profile. Raises BadInput for no time zone."""
        self._state, self._path = state, state / SPENT_FILE
        self._spending = Spending(time_zone, _remembered(self._path))

    def used(self, limit: Limit, now: datetime.datetime) -> Used:
        """As of `now`, UTC. Raises LedgerDamaged where the books can't be read, OSError where the sums can't be kept."""
        before = dict(self._spending.read)
        try:
            reader = LedgerReader(self._state)
        except BadInput:  # no ledger, nothing spent
            return self._spending.used(limit, now)
        try:
            for epoch in reader.epochs:
                self._read(epoch, now)
            self._spending.keep({epoch.epoch for epoch in reader.epochs})
        finally:
            reader.close()
        if self._spending.read != before:
            write_durably(self._path, orjson.dumps(self._spending.told()))
        return self._spending.used(limit, now)

    def _read(self, epoch: EpochReader, now: datetime.datetime) -> None:
        for sequence, body in epoch.rows(NEW, (self._spending.read.get(epoch.epoch, 0), USAGE)):
            try:
                self._spending.add(epoch.epoch, sequence, orjson.loads(body), now)
            except (ValueError, KeyError, TypeError, ArithmeticError) as error:
                raise UnreadableEpoch(epoch.path, f"record {sequence} can't be read") from error


def _remembered(path: Path) -> dict[str, object] | None:
    try:
        found = read_beginning(path, FILE_BYTES_MAX)
        told = orjson.loads(found[0]) if found else None
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None
