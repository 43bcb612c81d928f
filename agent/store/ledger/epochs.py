"""The files of the epochs: begins one, opens the present one, and sets one aside so that a power cut at any step leaves a way on.

    ledger.db                     the present epoch, always a whole file: it is made as ledger.new and named when complete
    ledger-{epoch}.db             an earlier epoch, whole or salvaged
    ledger-{epoch}.damaged[-wal]  a file that is not what was written, until and after its records are salvaged

Setting aside takes three names, each on the disk before the next: the log moves first, for a log beside a file it does not
belong to would be written into it; then the file; then ledger.new becomes ledger.db. `resume` goes on from whichever was last.
"""

import itertools
import re
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.clock import Clock
from agent.contract.canonical import link
from agent.errors import BadInput
from agent.ports import Draft
from agent.store.db import DAMAGE, LEDGER_FILE, NEW_FILE, create, open_writer
from agent.store.files import rename_durably, sync_folder
from agent.store.ledger.chain import Chain, Identity, ready

EPOCH = re.compile(r"[0-9a-f]{32}")

RECENT_LINKS = 1_000
"""Records whose links are checked at every start; the rest is checked when the robot is idle."""

LOST = "lost"
"""Stands for the epoch in the name of a file that no longer says which it holds."""

ODOMETER_LINES_MAX = 40
"""Of the last odometer in an epoch's first record: what fits a record."""

Line = Mapping[str, Any]

KINDS = (str, str, str, str, int)


def begin(state: Path, robot: Identity, clock: Clock, *, reason: str, previous: str = "", odometer: Sequence[Line] = ()) -> str:
    """Makes `ledger.new`, complete with its first record; returns its epoch. `name` puts it to use."""
    epoch = clock.new_epoch()
    told: dict[str, Any] = {"reason": reason}
    if previous:
        told |= {"previous": previous, "odometer": list(odometer[:ODOMETER_LINES_MAX])}

    def fill(connection: sqlite3.Connection) -> None:
        held = {"epoch": epoch, "device": robot.name, "previous": previous}
        connection.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", list(held.items()))
        Chain(epoch, robot, clock).put(connection, [ready(Draft("epoch", told))])

    create(state / NEW_FILE, fill)
    sync_folder(state)
    return epoch


def name(state: Path) -> None:
    rename_durably(state / NEW_FILE, state / LEDGER_FILE)


def set_aside(state: Path, epoch: str, *, damaged: bool) -> Path:
    """Moves the present ledger out of the way. Nobody may have it open for writing. Returns its new path."""
    target = _free(state, epoch or LOST, ".damaged" if damaged else ".db")
    _move(state, target)
    return target


def _move(state: Path, target: Path) -> None:
    path = state / LEDGER_FILE
    log = _log(path)
    if log.exists():
        rename_durably(log, _log(target))
    if path.exists():
        rename_durably(path, target)
    path.with_name(path.name + "-shm").unlink(missing_ok=True)


def resume(state: Path) -> None:
    """Finishes what a power cut interrupted, as far as there was something to finish."""
    path, new = state / LEDGER_FILE, state / NEW_FILE
    if path.exists():
        for log in sorted(state.glob("ledger-*-wal")):
            target = log.with_name(log.name.removesuffix("-wal"))
            if not target.exists() and not target.name.startswith(f"ledger-{LOST}"):
                _move(state, target)
    if path.exists():
        new.unlink(missing_ok=True)
        return
    if _log(path).exists():  # its file is gone, or it never was ours; a new ledger must not take it for its own
        rename_durably(_log(path), _log(_free(state, LOST, ".damaged")))
    if new.exists() and _complete(new):
        name(state)


def open_present(state: Path, robot: Identity) -> tuple[sqlite3.Connection, dict[str, str]]:
    """The writing connection and what the ledger says of itself, after a quick check.

    Raises what DAMAGE names if the file is not what was written, BadInput if it is another robot's.
    """
    connection = open_writer(state / LEDGER_FILE)
    try:
        held: dict[str, str] = dict(connection.execute("SELECT name, value FROM meta"))
        _check_whose(held, robot)
        check_recent(connection)
    except BaseException:
        connection.close()
        raise
    return connection, held


def _check_whose(held: Mapping[str, str], robot: Identity) -> None:
    if held.get("device", robot.name) != robot.name:
        raise BadInput(f"the ledger is of robot {held['device']}, the profile is of {robot.name}", "use another --state-dir")
    if not EPOCH.fullmatch(held.get("epoch", "")):
        raise sqlite3.DatabaseError("it does not say which epoch it holds")


def check_recent(connection: sqlite3.Connection) -> None:
    """Raises sqlite3.DatabaseError if one of the last links does not fit, or the odometer can't be read."""
    rows = connection.execute("SELECT sequence, hash, body FROM record ORDER BY sequence DESC LIMIT ?", (RECENT_LINKS,)).fetchall()
    if not rows:
        raise sqlite3.DatabaseError("it holds no record")
    for (sequence, hash_, body), (before, hash_before, _) in itertools.pairwise(rows):
        if before == sequence - 1 and link(hash_before, body) != hash_:
            raise sqlite3.DatabaseError(f"record {sequence} does not follow from the one before")
    if any(type(row[0]) is not int for row in connection.execute("SELECT quantity FROM odometer")):
        raise sqlite3.DatabaseError("the odometer holds something that is no number")


def epoch_of(path: Path) -> str:
    """The epoch a file says it holds; nothing where it can't say."""
    try:
        connection = sqlite3.connect(path.resolve().as_uri() + "?mode=ro", uri=True)
    except sqlite3.Error:
        return ""
    try:
        row = connection.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()
        return str(row[0]) if row and EPOCH.fullmatch(str(row[0])) else ""
    except DAMAGE:
        return ""
    finally:
        connection.close()


def aside(state: Path) -> list[Path]:
    """Ledgers of earlier epochs, whole or salvaged."""
    return sorted(path for path in state.glob("ledger-*.db") if EPOCH.fullmatch(path.name[7:39]))


def damaged(state: Path) -> list[Path]:
    """Files set aside as damaged, by the name of the database; it or its log may be missing."""
    found = (*state.glob("ledger-*.damaged"), *state.glob("ledger-*.damaged-wal"))
    return sorted({path.with_name(path.name.removesuffix("-wal")) for path in found})


def odometer_of(connection: sqlite3.Connection) -> list[Line]:
    """The odometer as an epoch's first record tells it; nothing where it can't be read."""
    try:
        rows = connection.execute("SELECT stage, model, placement, class, quantity FROM odometer ORDER BY 1, 2, 3, 4").fetchall()
    except DAMAGE:
        return []
    keys = ("stage", "model", "placement", "class", "quantity")
    return [dict(zip(keys, row, strict=True)) for row in rows if all(isinstance(part, kind) for part, kind in zip(row, KINDS, strict=True))]


def _complete(new: Path) -> bool:
    return bool(epoch_of(new))


def _log(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _free(state: Path, epoch: str, suffix: str) -> Path:
    """A name nobody has: a card that was restored twice may bring the same epoch twice."""
    number = 0
    while True:
        path = state / f"ledger-{epoch}{f'.{number}' if number else ''}{suffix}"
        if not path.exists() and not _log(path).exists():
            return path
        number += 1
