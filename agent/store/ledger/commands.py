"""The book of commands: what was taken, what came of it, and how far each key has counted; in the ledger's file, so one sync holds all.

accepted -> running -> a final state, together with its result in the outbox; then forgotten, but for the key's highest seq.

Implements the port CommandBook on what the rest of the ledger owns. How old a result is, is told by time that can be trusted where
both its ends have it, else by how long this robot has run since: neither is moved by a wall clock that nobody set.
"""

import datetime
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeVar, get_args

from agent.clock import Clock
from agent.contract.fleet.command import FINAL, State
from agent.contract.wire import RESULT as RESULT_TOPIC
from agent.ports import Known, Posted
from agent.store.db import DAMAGE, meta, put_meta
from agent.store.ledger import floor, outbox
from agent.store.ledger.chain import TIMED_QUALITIES

T = TypeVar("T")

RESULTS_MAX = 5_000
"""Results kept at most: a robot that is given one every ten minutes for a month."""

RESULT_BYTES_SUM_MAX = 16 * 1024 * 1024
"""Of all results and what asked for them: what of a small card they may take. Beyond either the oldest are forgotten."""

SPARE_RESULTS = 16
"""Where the books have no room: commands that may wait to be run, and as results for the broker; and results kept whatever comes. With
what asked for them at most 2.5 MiB, a sixth of the reserve, which is there for records of usage."""

RAN: Final = "commands_ran_s"
"""In `meta`: seconds this robot has run, as last noted."""

DAY_S: Final = 24 * 3600

KINDS = (str, str, int, str, str, bytes, bytes, int, str, int)
"""Of a row."""

KNOWN: Final = "SELECT cmd_id, key_id, seq, op, state, request, result, starts FROM command"
ROWS: Final = """
SELECT cmd_id, key_id, seq, op, state, request, result, starts, settled_time, settled_ran_s FROM command ORDER BY rowid
"""
PUT: Final = """
INSERT INTO command (cmd_id, key_id, seq, op, state, request, result, starts, settled_time, settled_ran_s)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (cmd_id) DO NOTHING
"""
BEGIN: Final = "UPDATE command SET state = 'running', starts = starts + 1 WHERE cmd_id = ? AND state IN ('accepted', 'running')"
SETTLE: Final = """
INSERT INTO command (cmd_id, key_id, seq, op, state, request, result, starts, settled_time, settled_ran_s)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (cmd_id) DO UPDATE
SET state = excluded.state, result = excluded.result, settled_time = excluded.settled_time, settled_ran_s = excluded.settled_ran_s
WHERE state IN ('accepted', 'running') AND key_id = excluded.key_id AND request = excluded.request
"""
OPEN: Final = "SELECT count(*) FROM command WHERE state IN ('accepted', 'running')"
RESULT: Final = "SELECT result FROM command WHERE cmd_id = ? AND key_id = ? AND request = ?"
COUNT: Final = """
INSERT INTO command_seq (key_id, seq) VALUES (?, ?) ON CONFLICT (key_id) DO UPDATE SET seq = max(command_seq.seq, excluded.seq)
"""
TRIM: Final = """
DELETE FROM command WHERE state NOT IN ('accepted', 'running') AND rowid <= (
    SELECT rowid FROM command WHERE state NOT IN ('accepted', 'running') ORDER BY rowid DESC LIMIT 1 OFFSET ?)
"""
FORGET: Final = """
DELETE FROM command WHERE state NOT IN ('accepted', 'running')
AND (settled_ran_s <= ? OR (settled_time <> '' AND settled_time <= ?) OR rowid <= ?)
"""
SIZES: Final = """
SELECT rowid, length(request) + length(result) FROM command WHERE state NOT IN ('accepted', 'running') ORDER BY rowid DESC
"""


@dataclass(frozen=True, slots=True)
class Carried:
    """What a ledger knows of commands, on its way into the next."""

    rows: Sequence[tuple[Any, ...]] = ()
    counts: Sequence[tuple[str, int]] = ()
    """Key -> its highest seq."""
    ran_s: int = 0


NOTHING: Final = Carried()


@dataclass(slots=True)
class Running:
    """How long this robot has run, over all its starts; what a kill cuts off is not counted."""

    clock: Clock
    _base_s: int | None = None
    """When it was last noted before this start."""
    _since_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._since_s = self.clock.monotonic()

    def note(self, connection: sqlite3.Connection) -> int:
        """Seconds, noted in the transaction that is open."""
        if self._base_s is None:
            self._base_s = _whole(meta(connection).get(RAN, ""))
        ran_s = self._base_s + int(self.clock.monotonic() - self._since_s)
        put_meta(connection, **{RAN: str(ran_s)})
        return ran_s


class Commanded(ABC):
    """See the port CommandBook."""

    _clock: Clock
    _running: Running
    _counted: dict[str, int]
    """Key -> the highest seq this process has taken: what a file that is damaged meanwhile no longer says."""

    @abstractmethod
    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """In the writing thread, in a transaction."""

    @abstractmethod
    async def _keep(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The same; on a full disk into its reserve."""

    @abstractmethod
    def room(self) -> bool:
        """See the port Ledger."""

    @abstractmethod
    def _has_posted(self) -> None:
        """Wakes whoever empties the outbox."""

    async def find(self, cmd_id: str) -> Known | None:
        """See the port."""
        return await self._do(lambda connection: next(_known(connection.execute(f"{KNOWN} WHERE cmd_id = ?", (cmd_id,))), None))

    async def highest(self, key_id: str) -> int:
        """See the port."""
        row = await self._do(lambda held: held.execute("SELECT seq FROM command_seq WHERE key_id = ?", (key_id,)).fetchone())
        return int(row[0]) if row else 0

    async def floor_s(self) -> float:
        """See the port."""
        return await self._do(lambda connection: floor.told(connection, self._clock))

    async def spare(self) -> bool:
        """See the port."""

        def work(connection: sqlite3.Connection) -> int:
            unsettled = int(connection.execute(OPEN).fetchone()[0])  # each of them is a result that will wait
            return unsettled + outbox.number(connection, f"{RESULT_TOPIC}/")

        return await self._do(work) < SPARE_RESULTS

    async def count(self, known: Known) -> None:
        """See the port. Raises what the ledger raises."""
        await self._keep(lambda connection: connection.execute(COUNT, (known.key_id, known.seq)))
        self._count(known)

    async def accept(self, known: Known) -> None:
        """See the port. Raises what the ledger raises."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(PUT, (*_of(known), "", 0))
            connection.execute(COUNT, (known.key_id, known.seq))

        await self._keep(work)
        self._count(known)

    async def began(self, cmd_id: str) -> None:
        """See the port. Once more each time it is run again."""
        await self._keep(lambda connection: connection.execute(BEGIN, (cmd_id,)))

    async def settle(self, known: Known, topic: str) -> None:
        """See the port. What is final stays as it is, and is only put into the outbox again, once however often it is asked for."""
        if known.state not in FINAL:
            raise ValueError(f"{known.state} is not final")
        time = _written(self._clock.utc()) if self._clock.quality() in TIMED_QUALITIES else ""
        created = self._clock.utc().isoformat(timespec="seconds")

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(SETTLE, (*_of(known), time, self._running.note(connection)))
            connection.execute(COUNT, (known.key_id, known.seq))
            if row := connection.execute(RESULT, (known.cmd_id, known.key_id, known.request)).fetchone():
                outbox.put(connection, [Posted(known.cmd_id, topic, row[0], created)])
            connection.execute(TRIM, (RESULTS_MAX,))
            if not self.room():
                _give_back(connection, len(known.request) + len(known.result))

        try:
            await self._keep(work)
            self._count(known)
        finally:  # whoever was stopped meanwhile may have posted it
            self._has_posted()

    async def open(self) -> Sequence[Known]:
        """See the port."""
        query = f"{KNOWN} WHERE state IN ('accepted', 'running') ORDER BY rowid"
        return await self._do(lambda connection: list(_known(connection.execute(query))))

    async def drop(self, cmd_id: str) -> None:
        """See the port."""
        await self._keep(lambda connection: connection.execute("DELETE FROM command WHERE cmd_id IS ?", (cmd_id,)))

    async def forget(self, days: int) -> None:
        """See the port."""
        trusted = self._clock.utc() if self._clock.quality() in TIMED_QUALITIES else None

        def work(connection: sqlite3.Connection) -> None:
            now = trusted or _moment(meta(connection).get("server_time", ""))
            before = _written(now - datetime.timedelta(days=days)) if now else ""
            connection.execute(FORGET, (self._running.note(connection) - days * DAY_S, before, _beyond(connection)))

        await self._do(work)

    def _count(self, known: Known) -> None:
        self._counted[known.key_id] = max(known.seq, self._counted.get(known.key_id, 0))


def carried(connection: sqlite3.Connection, counted: Mapping[str, int] = MappingProxyType({})) -> Carried:
    """What can be read; of a damaged file maybe not all. The counts first: they are what keeps an old command from being run again.

    `counted`: what whoever had it open knows of them.
    """
    counts = list(counted.items())
    rows: list[tuple[Any, ...]] = []
    ran_s = 0
    with suppress(*DAMAGE):
        counts += _sound(connection.execute("SELECT key_id, seq FROM command_seq"), (str, int))
        ran_s = _whole(meta(connection).get(RAN, ""))
        rows += _sound(connection.execute(ROWS), KINDS)
    return Carried(tuple(row for row in rows if row[4] in get_args(State)), tuple(counts), ran_s)


def count(connection: sqlite3.Connection, counted: Mapping[str, int]) -> None:
    """Key -> its highest seq."""
    connection.executemany(COUNT, list(counted.items()))


def put(connection: sqlite3.Connection, book: Carried) -> None:
    """Into a new ledger, in the transaction that is open; one of an older version gets nothing, for it has no table."""
    if book == NOTHING:
        return
    connection.executemany(PUT, book.rows)
    counts = [*book.counts, *((row[1], row[2]) for row in book.rows)]
    connection.executemany(COUNT, counts)
    put_meta(connection, **{RAN: str(book.ran_s)})


def _sound(rows: Iterable[tuple[Any, ...]], kinds: tuple[type, ...]) -> Iterator[tuple[Any, ...]]:
    return (row for row in rows if all(type(part) is kind for part, kind in zip(row, kinds, strict=True)))


def _beyond(connection: sqlite3.Connection) -> int:
    """The row up to which results are beyond what all of them may take; 0: none is."""
    bytes_sum = 0
    for rowid, size in connection.execute(SIZES):
        bytes_sum += size
        if bytes_sum > RESULT_BYTES_SUM_MAX:
            return int(rowid)
    return 0


def _give_back(connection: sqlite3.Connection, size: int) -> None:
    """So many bytes of the oldest results, that what was just written takes the place of them."""
    query = "SELECT rowid, length(request) + length(result) FROM command WHERE state NOT IN ('accepted', 'running') ORDER BY rowid"
    rows = connection.execute(query).fetchall()
    for rowid, held in rows[:-SPARE_RESULTS]:
        if size <= 0:
            return
        connection.execute("DELETE FROM command WHERE rowid = ?", (rowid,))
        size -= held


def _of(known: Known) -> tuple[Any, ...]:
    return known.cmd_id, known.key_id, known.seq, known.op, known.state, known.request, known.result, known.starts


def _known(rows: Iterable[tuple[Any, ...]]) -> Iterator[Known]:
    return (Known(*row) for row in rows)


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _written(moment: datetime.datetime) -> str:
    """Sorts as it was."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="seconds")


def _moment(text: str) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
