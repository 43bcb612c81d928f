"""Opens the present epoch, or begins one: an agent that has a disk always starts, and says what it follows and why.

no ledger, no trace of one            first
no ledger, but a side file or others  lost, after the epoch they name
a file that is not what was written   damaged: set aside, to be salvaged
a ledger behind its side file         rolled_back, different or restored: set aside whole
"""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from agent.clock import Clock
from agent.store.db import DAMAGE, LEDGER_FILE, is_damage, meta
from agent.store.ledger import epochs, side
from agent.store.ledger.chain import Chain, Identity
from agent.store.ledger.epochs import Line
from agent.store.ledger.salvage.carve import log_is_cut_inside


@dataclass(frozen=True, slots=True)
class Ended:
    """The epoch that gives way."""

    epoch: str
    """Of the present file; empty where it can't say."""
    reason: str
    odometer: list[Line]
    """The last that is known."""
    follows: str = ""
    """The epoch that really came before, where the present file is an older one."""


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
        connection.close()
        follows = told["epoch"] if reason == "restored" else held["epoch"]
        succeed(state, robot, clock, after=Ended(held["epoch"], reason, told.get("odometer", []), follows))
        connection, held = epochs.open_present(state, robot)
    chain = Chain(held["epoch"], robot, clock)
    chain.resume(connection)
    return connection, chain


def succeed(state: Path, robot: Identity, clock: Clock, *, after: Ended, damaged: bool = False) -> None:
    """Begins an epoch in place of the present one, which nobody has open."""
    epochs.begin(state, robot, clock, reason=after.reason, previous=after.follows or after.epoch, odometer=after.odometer)
    epochs.set_aside(state, after.epoch, damaged=damaged)
    epochs.name(state)


def _begin_anew(state: Path, robot: Identity, clock: Clock) -> None:
    """There is no ledger: it is the first, or one is lost."""
    told = side.read(state)
    others = sorted((*epochs.aside(state), *epochs.damaged(state)), key=_changed)
    follows = told["epoch"] if told else others[-1].name[7:39] if others else ""
    reason = "lost" if follows else "first"
    epochs.begin(state, robot, clock, reason=reason, previous=follows, odometer=told.get("odometer", []))
    epochs.name(state)


def _changed(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


def _open(state: Path, robot: Identity, clock: Clock) -> sqlite3.Connection:
    path = state / LEDGER_FILE
    log = path.with_name(path.name + "-wal")
    written = log.read_bytes() if log.exists() else b""
    try:
        connection, _ = epochs.open_present(state, robot)
        frames = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
        if log_is_cut_inside(written, frames):
            connection.close()
            raise sqlite3.DatabaseError("its log is damaged in the middle")
    except DAMAGE as error:
        if not is_damage(error):
            raise
        epoch = epochs.epoch_of(path) or side.read(state).get("epoch", "")
        succeed(state, robot, clock, after=Ended(epoch, "damaged", _odometer(path)), damaged=True)
        connection, _ = epochs.open_present(state, robot)
    return connection


def _odometer(path: Path) -> list[Line]:
    """What a damaged file still says of its odometer."""
    try:
        connection = sqlite3.connect(path.resolve().as_uri() + "?mode=ro", uri=True)
    except sqlite3.Error:
        return []
    try:
        return epochs.odometer_of(connection)
    finally:
        connection.close()
