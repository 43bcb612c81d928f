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
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from agent.clock import Clock
from agent.contract.canonical import INTEGER_MAX, genesis, link
from agent.contract.record import SEQUENCE_DIGITS, source_of
from agent.errors import BadInput
from agent.files import rename_durably, sync_folder
from agent.ports import Appended, Draft, Entry, Posted
from agent.store.db import DAMAGE, LEDGER_FILE, NEW_FILE, check_schema, create, open_writer
from agent.store.ledger import commands, floor, journal, outbox
from agent.store.ledger.chain import Chain, Identity, ready
from agent.store.ledger.salvage import SALVAGED
from agent.store.ledger.salvage.carve import epoch_in

EPOCH = re.compile(r"[0-9a-f]{32}")

SMALL = ("journal", "odometer", "meta", "command", "command_seq")
"""Tables that are checked whole, their indexes with them, at every start."""

RECENT_LINKS = 1_000
"""Records whose links are checked at every start; the rest is checked when the robot is idle."""

LOST = "lost"
"""Stands for the epoch in the name of a file that no longer says which it holds."""

ODOMETER_LINES_MAX = 40
"""Of the last odometer in an epoch's first record: what fits a record."""

Line = Mapping[str, Any]

NAME_MAX = 200
"""Characters of a name in a record; a damaged one may be longer."""

KINDS = (str, str, str, str, int)


def begin(
    state: Path,
    robot: Identity,
    clock: Clock,
    *,
    reason: str,
    previous: str = "",
    odometer: Sequence[Line] = (),
    left: Sequence[tuple[Entry, Appended | None]] = (),
    posted: Sequence[Posted] = (),
    book: commands.Carried = commands.NOTHING,
    version: int | None = None,
) -> str:
    """Makes `ledger.new`, complete with its first record; returns its epoch. `name` puts it to use.

    `left`: calls of the epoch before that are open and go on in this journal; `posted`: what still waits in its outbox.
    `book`: its commands. `version`: of an older schema, see `db.create`.
    """
    epoch = clock.new_epoch()
    before = {"previous": previous, "odometer": list(odometer[:ODOMETER_LINES_MAX])} if EPOCH.fullmatch(previous) else {}

    def fill(connection: sqlite3.Connection) -> None:
        held = {"epoch": epoch, "device": robot.name, "previous": previous, floor.FLOOR: floor.begun(clock, reason)}
        connection.executemany("INSERT INTO meta (name, value) VALUES (?, ?)", list(held.items()))
        Chain(epoch, robot, clock).put(connection, [ready(Draft("epoch", {"reason": reason, **before}))])
        for entry, intent in left:
            journal.carry(connection, entry, intent)
        if posted:
            outbox.put(connection, posted)
        commands.put(connection, book)

    create(state / NEW_FILE, fill, version)
    sync_folder(state)
    return epoch


def name(state: Path) -> None:
    rename_durably(state / NEW_FILE, state / LEDGER_FILE)


def set_aside(state: Path, epoch: str, *, damaged: bool) -> Path:
    """Moves the present ledger out of the way. Nobody may have it open for writing. Returns its new path."""
    target = free(state, epoch if EPOCH.fullmatch(epoch) else LOST, ".damaged" if damaged else ".db")
    _move(state / LEDGER_FILE, target)
    return target


def _move(path: Path, target: Path) -> None:
    """The log first, each name on the disk before the next."""
    _drop_if_empty(_log(path))
    if _log(path).exists():
        rename_durably(_log(path), _log(target))
    if path.exists():
        rename_durably(path, target)
    path.with_name(path.name + "-shm").unlink(missing_ok=True)


def doubt(state: Path, epoch: str) -> None:
    """Sets the ledgers of an earlier epoch aside as damaged; `damaged` lists them then."""
    for path in aside(state):
        if path.name.startswith(f"ledger-{epoch}."):
            _move(path, free(state, epoch, ".damaged"))


def resume(state: Path) -> None:
    """Finishes what a power cut interrupted, as far as there was something to finish."""
    for log in state.glob("ledger-*.damaged-wal"):
        target = log.with_name(log.name.removesuffix("-wal"))
        if not target.exists() and (earlier := target.with_suffix(".db")).exists():
            _move(earlier, target)
    path, new = state / LEDGER_FILE, state / NEW_FILE
    if path.is_file() and (interrupted := _interrupted(state)):
        _move(path, interrupted)
    if path.exists():
        new.unlink(missing_ok=True)
        return
    _drop_if_empty(_log(path))
    if _log(path).exists():  # its file is gone, or it never was ours; a new ledger must not take it for its own
        rename_durably(_log(path), _log(free(state, LOST, ".damaged")))
    if new.exists() and _complete(new):
        name(state)


def _interrupted(state: Path) -> Path | None:
    """Where the present file was to go when its log had gone before it. A log that is here has come since, or belongs to another file."""
    if _log(state / LEDGER_FILE).exists():
        _drop_if_empty(_log(state / LEDGER_FILE))
    epoch = epoch_of(state / LEDGER_FILE)
    for log in (*state.glob("ledger-*.db-wal"), *state.glob("ledger-*.damaged-wal")):
        target = log.with_name(log.name.removesuffix("-wal"))
        named = epoch and target.name.startswith(f"ledger-{epoch}.")
        if named and not target.exists() and log.stat().st_size and not _log(state / LEDGER_FILE).exists():
            return target
    return None


def _drop_if_empty(log: Path) -> None:
    """Who only reads a ledger leaves an empty log; it must not stand in the way of a real one."""
    if log.is_file() and not log.stat().st_size:
        log.unlink()


def open_present(
    state: Path, robot: Identity, look: Callable[[sqlite3.Connection], None] = lambda _: None
) -> tuple[sqlite3.Connection, dict[str, str]]:
    """The writing connection and what the ledger says of itself, after a quick check. `look` is called before anything is written.

    Raises what DAMAGE names if the file is not what was written, BadInput if it is another robot's.
    """
    connection = open_writer(state / LEDGER_FILE, look)
    try:
        held: dict[str, str] = dict(connection.execute("SELECT name, value FROM meta"))
        check_recent(connection, held, robot)
        check_schema(connection)
    except BaseException:
        connection.close()
        raise
    return connection, held


def check_recent(connection: sqlite3.Connection, held: Mapping[str, str], robot: Identity) -> None:
    """Raises sqlite3.DatabaseError if one of the last links does not fit, or the odometer or the journal can't be read.

    Raises BadInput if it is another robot's.
    """
    if not EPOCH.fullmatch(str(held.get("epoch"))):
        raise sqlite3.DatabaseError("it does not say which epoch it holds")
    for table in SMALL:  # a call that an index has lost could never be settled, and would be settled again at each start
        (found,) = connection.execute(f"PRAGMA integrity_check({table})").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(" ".join(str(found).split()))
    rows = connection.execute("SELECT sequence, hash, body FROM record ORDER BY sequence DESC LIMIT ?", (RECENT_LINKS,)).fetchall()
    if not rows or any(type(hash_) is not bytes or type(body) is not bytes for _, hash_, body in rows):
        raise sqlite3.DatabaseError("it holds no record, or one that is none")
    _check_whose(rows[0], held, robot)
    before_first = [(0, genesis(held["epoch"]), b"")] if rows[-1][0] == 1 else []
    for (sequence, hash_, body), (before, hash_before, _) in itertools.pairwise([*rows, *before_first]):
        if before == sequence - 1 and link(hash_before, body) != hash_:
            raise sqlite3.DatabaseError(f"record {sequence} does not follow from the one before")
    if any(type(row[0]) is not int for row in connection.execute("SELECT quantity FROM odometer")):
        raise sqlite3.DatabaseError("the odometer holds something that is no number")
    try:
        journal.left(connection)
    except (ValueError, TypeError, AttributeError) as error:
        raise sqlite3.DatabaseError(f"its journal can't be read: {error}") from error


def _check_whose(last: tuple[int, bytes, bytes], held: Mapping[str, str], robot: Identity) -> None:
    """The last record says the same as `meta` does, so that a changed letter of a name does not look like another robot's ledger."""
    try:
        told = orjson.loads(last[2])
        same = told["id"] == f"{held['epoch']}:{last[0]:0{SEQUENCE_DIGITS}d}"
        ours = told["source"] == source_of(robot.tenant, robot.device, held["epoch"])
    except (ValueError, KeyError, TypeError) as error:
        raise sqlite3.DatabaseError("its last record is none") from error
    if not ours and held.get("device", robot.name) != robot.name:
        raise BadInput(f"the ledger is of robot {held['device']}, the profile is of {robot.name}", "use another --state-dir")
    if not (same and ours and held.get("device", robot.name) == robot.name):
        raise sqlite3.DatabaseError("it does not say whose it is")


def epoch_of(path: Path) -> str:
    """The epoch a file says it holds, else its records do; nothing where they can't say. Touches nothing beside the file."""
    held = _held(path).get("epoch", "")
    return held if EPOCH.fullmatch(held) else epoch_in(path)


def _held(path: Path) -> dict[str, str]:
    """What a file says of itself; its log is left alone. Nothing where it can't say."""
    try:
        connection = sqlite3.connect(path.resolve().as_uri() + "?mode=ro&immutable=1", uri=True)
    except sqlite3.Error:
        return {}
    try:
        return {str(name): str(value) for name, value in connection.execute("SELECT name, value FROM meta")}
    except DAMAGE:
        return {}
    finally:
        connection.close()


def salvaged(state: Path) -> set[str]:
    """Names of the damaged files whose salvaged records stand in a ledger of their own."""
    return {_held(path).get(SALVAGED, "") for path in aside(state)}


def aside(state: Path) -> list[Path]:
    """Ledgers of earlier epochs, whole or salvaged."""
    return sorted(path for path in state.glob("ledger-*.db") if EPOCH.fullmatch(path.name[7:39]))


def damaged(state: Path) -> list[Path]:
    """Files set aside as damaged, by the name of the database; it or its log may be missing.

    The last written comes first: it may say what of an earlier one is declared already.
    """
    found = (*state.glob("ledger-*.damaged"), *state.glob("ledger-*.damaged-wal"))
    return sorted({path.with_name(path.name.removesuffix("-wal")) for path in found}, key=changed, reverse=True)


def changed(path: Path) -> float:
    """When a ledger was last written, by the file system's clock."""
    return max((one.stat().st_mtime for one in (path, _log(path)) if one.exists()), default=0.0)


def odometer_of(connection: sqlite3.Connection) -> list[Line]:
    """The odometer as an epoch's first record tells it; nothing where it can't be read."""
    try:
        rows = connection.execute("SELECT stage, model, placement, class, quantity FROM odometer ORDER BY 1, 2, 3, 4").fetchall()
    except DAMAGE:
        return []
    keys = ("stage", "model", "placement", "class", "quantity")
    return [dict(zip(keys, row, strict=True)) for row in rows if _is_line(row)]


def _is_line(row: tuple[Any, ...]) -> bool:
    """Whether a record can hold it."""
    kinds = all(isinstance(part, kind) for part, kind in zip(row, KINDS, strict=True))
    return kinds and all(0 < len(name) <= NAME_MAX for name in row[:4]) and abs(row[4]) <= INTEGER_MAX


def _complete(new: Path) -> bool:
    """Whether the making of a ledger had come to its end; one that had not was never used."""
    try:
        with closing(sqlite3.connect(new.resolve().as_uri() + "?mode=ro", uri=True)) as connection:
            sound = connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
            (epoch,) = connection.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()
            ((hash_, body),) = connection.execute("SELECT hash, body FROM record").fetchall()
            return sound and bool(EPOCH.fullmatch(epoch)) and link(genesis(epoch), body) == hash_
    except (*DAMAGE, ValueError, TypeError):
        return False


def _log(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def free(state: Path, epoch: str, suffix: str) -> Path:
    """A name nobody has or had: a card that was restored twice may bring the same epoch twice."""
    treated = salvaged(state)
    for number in itertools.count():
        path = state / f"ledger-{epoch}{f'.{number}' if number else ''}{suffix}"
        names = (path, path.with_suffix(".kept")) if suffix == ".damaged" else (path,)
        if path.name not in treated and not any(one.exists() or _log(one).exists() for one in names):
            return path
    raise AssertionError("counting ends")
