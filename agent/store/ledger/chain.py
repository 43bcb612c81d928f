"""Where the next record of an epoch goes: gives sequence, hash, time and odometer, inside whatever transaction is open."""

import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import orjson

from agent.clock import Clock
from agent.contract.canonical import BODY_BYTES_MAX, canonical, genesis
from agent.contract.record import RecordType, source_of, type_name
from agent.ports import Appended, Draft

TIMED_QUALITIES = ("ntp", "signed")
"""Clock qualities that may put a wall time on a record, and make it an anchor of its boot."""

ANCHOR_MS = 10 * 60 * 1000
"""Boot time between two anchors of one boot: a clock drifts by less than a second in it."""

RAW_BYTES_MAX = 16 * 1024
"""Of a longer usage object of a provider only the hash is kept."""

TYPES = {short: (type_name(short), f',"type":"{type_name(short)}"}}'.encode()) for short in get_args(RecordType)}
"""By short name: the full name, and how a record of that type ends."""

INSERT = "INSERT INTO record (sequence, type, hash, body) VALUES (?, ?, ?, ?)"
INSERT_RAW = "INSERT INTO raw (sequence, sha256, body) VALUES (?, ?, ?)"
INSERT_ANCHOR = "INSERT OR IGNORE INTO anchor (bootid, boottimems, time, quality) VALUES (?, ?, ?, ?)"
ADVANCE = """
INSERT INTO odometer (stage, model, placement, class, quantity) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (stage, model, placement, class) DO UPDATE SET quantity = quantity + excluded.quantity
"""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose ledger it is, and who pays."""

    tenant: str
    device: str
    account: str

    @property
    def name(self) -> str:
        return f"{self.tenant}/{self.device}"


class Ready(NamedTuple):
    """A draft whose data is in its one byte form: a wrong one is refused before it waits for the disk."""

    draft: Draft
    content: bytes


def ready(draft: Draft) -> Ready:
    """Raises ValueError for data that has no canonical form."""
    return Ready(draft, canonical(draft.data))


@dataclass(frozen=True, slots=True)
class Tail:
    """The last record."""

    sequence: int
    head: bytes
    anchored: tuple[str, int] = ("", 0)
    """Boot and boot time of the last anchor."""


class Chain:
    """The end of one epoch. Its methods run in the writing thread, inside a transaction; `undo` follows a rollback."""

    def __init__(self, epoch: str, robot: Identity, clock: Clock) -> None:
        self.epoch = epoch
        self._clock = clock
        self.tail = self._before = Tail(0, genesis(epoch))
        source = orjson.dumps(source_of(robot.tenant, robot.device, epoch))
        self._id = b',"id":"' + epoch.encode() + b":"
        self._named = b'","source":' + source + b',"specversion":"1.0","subject":' + orjson.dumps(robot.account)

    def resume(self, connection: sqlite3.Connection) -> None:
        """Goes on where the file ends."""
        row = connection.execute("SELECT sequence, hash FROM record ORDER BY sequence DESC LIMIT 1").fetchone()
        self.tail = self._before = Tail(*row) if row else Tail(0, genesis(self.epoch))

    def remember(self) -> None:
        self._before = self.tail

    def undo(self) -> None:
        self.tail = self._before

    def put(self, connection: sqlite3.Connection, drafts: Sequence[Ready]) -> list[Appended]:
        """Puts records at the end. Raises ValueError for one that is too long."""
        first, head = self.tail.sequence + 1, self.tail.head
        before, after, anchored = self._stamp(connection)
        rows = []
        advance: dict[tuple[str, str, str, str], int] = {}
        for sequence, (draft, content) in enumerate(drafts, first):
            type_, ending = TYPES[draft.type]
            # The canonical bytes of the whole record: its fields in sorted order around the data, which has its bytes already.
            number = b"%020d" % sequence
            body = b"".join((before, content, self._id, number, b'","sequence":"', number, self._named, after, ending))
            if len(body) > BODY_BYTES_MAX:
                raise ValueError(f"a record of {len(body)} bytes; the most is {BODY_BYTES_MAX}")
            head = hashlib.sha256(head + body).digest()
            rows.append((sequence, type_, head, body))
            for place, quantity in draft.quantities.items():
                advance[place] = advance.get(place, 0) + quantity
            if draft.raw:
                kept = draft.raw if len(draft.raw) <= RAW_BYTES_MAX else b""
                connection.execute(INSERT_RAW, (sequence, hashlib.sha256(draft.raw).hexdigest(), kept))
        connection.executemany(INSERT, rows)
        connection.executemany(ADVANCE, [(*place, quantity) for place, quantity in advance.items()])
        self.tail = Tail(first + len(rows) - 1, head, anchored)
        epoch = self.epoch
        return [Appended(epoch, row[0]) for row in rows]

    def anchor(self, connection: sqlite3.Connection, server_time: str) -> None:
        """Notes a time the backend has just signed, for a robot whose own clock can't be believed."""
        boot, at = self._clock.boot_id(), self._clock.boottime_ms()
        near = connection.execute("SELECT 1 FROM anchor WHERE bootid = ? AND boottimems > ?", (boot, at - ANCHOR_MS)).fetchone()
        if near is None and self._clock.quality() not in TIMED_QUALITIES:
            connection.execute(INSERT_ANCHOR, (boot, at, server_time, "signed"))

    def _stamp(self, connection: sqlite3.Connection) -> tuple[bytes, bytes, tuple[str, int]]:
        """When, as far as it is known: boot time always, wall time only from a clock that can be trusted.

        Returns the fields that sort before the data, those that sort after it, and the last anchor.
        """
        quality, boot, at = self._clock.quality(), self._clock.boot_id(), self._clock.boottime_ms()
        before = f'{{"bootid":"{boot}","boottimems":"{at}","clockquality":"{quality}","data":'
        if quality not in TIMED_QUALITIES:
            return before.encode(), b"", self.tail.anchored
        now = self._clock.utc().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        anchored = self.tail.anchored
        if anchored[0] != boot or at - anchored[1] >= ANCHOR_MS:
            connection.execute(INSERT_ANCHOR, (boot, at, now, quality))
            anchored = (boot, at)
        return before.encode(), f',"time":"{now}"'.encode(), anchored
