"""Opens the present epoch, or begins one: an agent that has a disk always starts, and says what it follows and why.

no ledger, no trace of one            first
no ledger, but a side file or others  lost, after the epoch they name
a file that is not what was written   damaged: set aside, to be salvaged
a ledger behind its side file         rolled_back, different or restored: set aside whole
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from agent.clock import Clock
from agent.ports import Appended, Entry, Posted
from agent.store.db import DAMAGE, LEDGER_FILE, check_header, is_damage, meta
from agent.store.ledger import commands, epochs, journal, outbox
from agent.store.ledger.chain import Chain, Identity
from agent.store.ledger.epochs import Line
from agent.store.ledger.leaving import side
from agent.store.ledger.salvage.log import is_cut_inside


@dataclass(frozen=True, slots=True)
class Ended:
    """The epoch that gives way."""

    epoch: str
    """Of the present file; empty where it can't say."""
    reason: str
    odometer: Sequence[Line]
    """The last that is known."""
    follows: str = ""
    """The epoch that really came before, where the present file is an older one."""
    left: Sequence[tuple[Entry, Appended | None]] = ()
    """Calls that go on; those of a damaged file are left to its salvage."""
    posted: Sequence[Posted] = ()
    """What its outbox still holds."""
    book: commands.Carried = commands.NOTHING
    """Its commands."""


def opened(state: Path, robot: Identity, clock: Clock) -> tuple[sqlite3.Connection, Chain]:
    """The writing connection and the end of its chain. Raises what DAMAGE names where the disk refuses, BadInput for another's ledger."""
    epochs.resume(state)
    if not (state / LEDGER_FILE).exists():
        _begin_anew(state, robot, clock)
    connection = _open(state, robot, clock)
    told = side.read(state)
    held = meta(connection)
    earlier = {path.name[7:39] for path in (*epochs.aside(state), *epochs.damaged(state))} | {held.get("previous", "")}
    if reason := side.contradicts(told, connection, held["epoch"], earlier):
        left, posted = journal.left(connection), outbox.waiting(connection, outbox.WAITING_MAX)
        book = commands.carried(connection)
        connection.close()
        follows = told["epoch"] if reason == "restored" else held["epoch"]
        succeed(state, robot, clock, after=Ended(held["epoch"], reason, told.get("odometer", []), follows, left, posted, book))
        connection, held = epochs.open_present(state, robot)
    chain = Chain(held["epoch"], robot, clock)
    chain.resume(connection)
    return connection, chain


def succeed(state: Path, robot: Identity, clock: Clock, *, after: Ended, damaged: bool = False) -> None:
    """Begins an epoch in place of the present one, which nobody has open."""
    epochs.begin(
        state,
        robot,
        clock,
        reason=after.reason,
        previous=after.follows or after.epoch,
        odometer=after.odometer,
        left=after.left,
        posted=after.posted,
        book=after.book,
    )
    epochs.set_aside(state, after.epoch, damaged=damaged)
    epochs.name(state)


def _begin_anew(state: Path, robot: Identity, clock: Clock) -> None:
    """There is no ledger: it is the first, or one is lost."""
    told = side.read(state)
    others = sorted((*epochs.aside(state), *epochs.damaged(state)), key=epochs.changed)
    follows = told["epoch"] if told else _named(others[-1]) if others else ""
    reason = "lost" if told or others else "first"
    epochs.begin(state, robot, clock, reason=reason, previous=follows, odometer=told.get("odometer", []))
    epochs.name(state)


def _named(path: Path) -> str:
    """The epoch in a file's name, else in the file."""
    return path.name[7:39] if epochs.EPOCH.fullmatch(path.name[7:39]) else epochs.epoch_of(path)


def _open(state: Path, robot: Identity, clock: Clock) -> sqlite3.Connection:
    path = state / LEDGER_FILE
    log = path.with_name(path.name + "-wal")
    written = log.read_bytes() if log.exists() else b""

    def look(connection: sqlite3.Connection) -> None:
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        if is_cut_inside(written, connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1], page_size, path):
            raise sqlite3.DatabaseError("its log is damaged in the middle")

    try:
        with _log_kept(path) if written else nullcontext():
            connection, _ = epochs.open_present(state, robot, look)
    except DAMAGE as error:
        if not is_damage(error):
            raise
        epoch = epochs.epoch_of(path) or side.read(state).get("epoch", "")
        succeed(state, robot, clock, after=_still(path, epoch), damaged=True)
        connection, _ = epochs.open_present(state, robot)
    return connection


@contextmanager
def _log_kept(path: Path) -> Iterator[None]:
    """Meanwhile no closing of a connection removes the log: what SQLite can't read of it may still be salvaged."""
    check_header(path)
    with closing(sqlite3.connect(path.resolve().as_uri() + "?mode=ro", uri=True)) as reader:
        with suppress(sqlite3.OperationalError):  # a rollback journal of an older version: only the writer can follow it
            reader.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield


def _still(path: Path, epoch: str) -> Ended:
    """What a damaged file still says of its odometer and its commands."""
    try:
        check_header(path)
        with closing(sqlite3.connect(path.resolve().as_uri() + "?mode=ro", uri=True)) as connection:
            return Ended(epoch, "damaged", epochs.odometer_of(connection), book=commands.carried(connection))
    except DAMAGE:
        return Ended(epoch, "damaged", [])
