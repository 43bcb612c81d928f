"""Opens the ledger's file: one owner, one writing connection, durable settings, numbered migrations."""

import fcntl
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from sqlite_utils import Database

from agent.errors import LedgerBusy, LedgerDamaged, MissingPart
from agent.store.files import sync_folder

LEDGER_FILE = "ledger.db"
LOCK_FILE = "ledger.lock"

SQLITE_MIN = (3, 37, 0)
"""The oldest seen working (Debian 11). Up to 3.51.2 several writing connections could lose rows; here there is ever one."""

BUSY_MS = 5_000
"""A reader's checkpoint may hold the file for a moment; longer means something else writes."""


DAMAGE = (sqlite3.Error, UnicodeDecodeError, OverflowError)
"""What reading a file that is not what was written can raise: SQLite's errors, and Python's on text or integers that are none."""


def refused(path: Path, error: Exception) -> LedgerDamaged:
    """What a failed read or write means, and what to do: only a file that is damaged should ever be put aside."""
    damaged = not isinstance(error, sqlite3.Error) or getattr(error, "sqlite_errorcode", 0) & 0xFF in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        0,
    )
    todo = "keep the file, move it aside, and a new ledger starts" if damaged else "check space and rights of the state folder"
    return LedgerDamaged(f"{path}: {error}", todo)


class Lock:
    """Ownership of a state folder, as long as the process lives. The descriptor closes on exec: children inherit nothing."""

    def __init__(self, state: Path) -> None:
        """Raises LedgerBusy naming the owner."""
        self._descriptor = os.open(state / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(self._descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise LedgerBusy(f"the ledger in {state} belongs to process {owner}", "wait for it or use another --state-dir") from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        os.close(self._descriptor)


def open_writer(path: Path) -> sqlite3.Connection:
    """The writing connection. Every commit is on the disk when it returns (WAL with synchronous=FULL)."""
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        raise MissingPart(f"SQLite {sqlite3.sqlite_version} is too old for a ledger", "install 3.37 or newer")
    fresh = not path.exists()
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        if fresh:
            path.chmod(0o600)
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_MS}", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        migrate(connection)
    except DAMAGE as error:
        raise refused(path, error) from error
    if fresh:
        sync_folder(path.parent)  # a new file is not durable until its name is
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that can only read, whoever owns the ledger."""
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        connection.execute("SELECT count(*) FROM sqlite_master")
    except DAMAGE as error:
        raise LedgerDamaged(f"{path}: {error}", "run: voxmeter usage verify") from error
    return connection


def _first(db: Database) -> None:
    db.table("record").create({"sequence": int, "type": str, "hash": bytes, "body": bytes}, pk="sequence")
    db.table("raw").create({"sequence": int, "sha256": str, "body": bytes}, pk="sequence")
    odometer = {"stage": str, "model": str, "placement": str, "class": str, "quantity": int}
    db.table("odometer").create(odometer, pk=("stage", "model", "placement", "class"))
    db.table("meta").create({"name": str, "value": str}, pk="name")


MIGRATIONS: list[Callable[[Database], None]] = [_first]
"""Migration n brings a file from version n - 1 to n; `PRAGMA user_version` says where a file stands. Never edit one that shipped."""


def migrate(connection: sqlite3.Connection) -> None:
    """Runs what is missing, each in one transaction together with its number."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number, migration in enumerate(MIGRATIONS[version:], version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            migration(Database(connection))
            connection.execute(f"PRAGMA user_version={number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def sqlite_version() -> str:
    return sqlite3.sqlite_version
