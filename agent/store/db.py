"""Opens a ledger's file: durable settings, numbered migrations, and what its errors mean."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from sqlite_utils import Database

from agent.errors import BadInput, LedgerDamaged, LedgerFull, MissingPart, VoxmeterError

LEDGER_FILE = "ledger.db"

NEW_FILE = "ledger.new"
"""A ledger being made. It gets its name when it is complete, so a file of that name is always a whole ledger."""

SQLITE_MIN = (3, 37, 0)
"""The oldest seen working (Debian 11). Up to 3.51.2 several writing connections could lose rows; here there is ever one."""

BUSY_MS = 5_000
"""A reader's checkpoint may hold the file for a moment; longer means something else writes."""

WAL_BYTES_MAX = 4 * 1024 * 1024
"""What the write-ahead log is cut back to once its pages are in the file; it grows beyond only while a reader holds it."""

CACHE_KIB = 256
"""Pages the writer keeps. A ledger is written at its end: more of them are only held, after some hundred turns."""

SETTINGS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    f"busy_timeout={BUSY_MS}",
    f"journal_size_limit={WAL_BYTES_MAX}",
    f"cache_size=-{CACHE_KIB}",
)

DAMAGE = (sqlite3.Error, UnicodeDecodeError, OverflowError)
"""What reading a file that is not what was written can raise: SQLite's errors, and Python's on text or integers that are none."""

HEADER_BYTES, MAGIC = 100, b"SQLite format 3\0"
"""The header of a database; bytes 18 and 19 are the versions needed to write and to read it. See sqlite.org/fileformat2."""

CORRUPT = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_damage(error: BaseException) -> bool:
    """Whether it tells of a file that is not what was written, and not of a disk that is full, slow, read-only or gone."""
    if isinstance(error, sqlite3.ProgrammingError):
        return False
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        return code is None or code & 0xFF in CORRUPT or (code & 0xFF == sqlite3.SQLITE_ERROR)
    return isinstance(error, DAMAGE)


def refused(path: Path, error: Exception) -> VoxmeterError:
    """What a failed read or write means, and what to do."""
    if isinstance(error, sqlite3.OperationalError) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
        return LedgerFull(f"{path}: {error}", "make room on the disk of the state folder")
    if is_damage(error):
        return LedgerDamaged(f"{path}: {error}", "keep the file; the next start sets it aside and begins a new ledger")
    return LedgerDamaged(f"{path}: {error}", "check space and rights of the state folder")


KEPT_OPEN: dict[tuple[int, int], int] = {}
"""By device and inode. An inode that is held open is not given to another file."""


def check_header(path: Path) -> None:
    """Raises sqlite3.DatabaseError for a file that is not of SQLite's making, OSError for one that can't be read.

    SQLite itself takes an empty file for a new database and deletes the log beside it, and an odd version for a read-only disk.
    """
    header = os.pread(_kept_open(path), HEADER_BYTES, 0)
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC) or not set(header[18:20]) <= {1, 2}:
        raise sqlite3.DatabaseError("file is not a database")


def _kept_open(path: Path) -> int:
    """A descriptor of a ledger's file that stays open as long as the process lives.

    Closing any descriptor of a file drops the locks this process's SQLite connections have on it (POSIX), and another process's
    SQLite would then take the log away under them. One per file, and there are few; those of files that are gone are closed.
    """
    status = path.stat()
    key = (status.st_dev, status.st_ino)
    if key not in KEPT_OPEN:
        for gone in [held for held, descriptor in list(KEPT_OPEN.items()) if not os.fstat(descriptor).st_nlink]:
            os.close(KEPT_OPEN.pop(gone))
        KEPT_OPEN[key] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return KEPT_OPEN[key]


def open_writer(path: Path, look: Callable[[sqlite3.Connection], None] = lambda _: None) -> sqlite3.Connection:
    """The writing connection to a ledger that exists. Every commit is on the disk when it returns. Raises what DAMAGE names.

    `look` is called before anything is written.
    """
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        raise MissingPart(f"SQLite {sqlite3.sqlite_version} is too old for a ledger", "install 3.37 or newer")
    if path.is_dir():
        raise BadInput(f"{path} is a folder, not a ledger", "move it away")
    check_header(path)
    connection = sqlite3.connect(path.resolve().as_uri() + "?mode=rw", uri=True, isolation_level=None, check_same_thread=False)
    try:
        for pragma in SETTINGS:
            connection.execute(f"PRAGMA {pragma}")
        look(connection)
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that can only read, whoever owns the ledger."""
    # Beside a log SQLite must be able to write its index; a card that is mounted read-only and was left cleanly has none.
    still = not path.with_name(path.name + "-wal").exists() and not os.access(path.parent, os.W_OK)
    try:
        check_header(path)
        uri = f"{path.resolve().as_uri()}?mode=ro{'&immutable=1' if still else ''}"
        connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
        connection.execute("SELECT count(*) FROM sqlite_master")
    except (*DAMAGE, OSError) as error:
        raise LedgerDamaged(f"{path}: {error}", "run: voxmeter usage verify") from error
    return connection


def create(part: Path, fill: Callable[[sqlite3.Connection], None], version: int | None = None) -> None:
    """Makes a ledger's file under a name that nobody reads, durable and closed; `rename_durably` gives it its own.

    `version`: of an older schema, for who must see it migrated.
    """
    for leftover in (part, *(part.with_name(part.name + suffix) for suffix in ("-wal", "-shm", "-journal"))):
        leftover.unlink(missing_ok=True)
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(part, isolation_level=None)
    try:
        # Nobody waits for its steps, only for the whole: one sync below is enough.
        for pragma in ("auto_vacuum=INCREMENTAL", "journal_mode=MEMORY", "synchronous=OFF"):
            connection.execute(f"PRAGMA {pragma}")
        migrate(connection, version)
        connection.execute("BEGIN")
        fill(connection)
        connection.execute("COMMIT")
        # From its first name on it has a log: a change later would leave a rollback journal that a power cut can bring back.
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()
    descriptor = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _first(db: Database) -> None:
    db.table("record").create({"sequence": int, "type": str, "hash": bytes, "body": bytes}, pk="sequence")
    db.table("raw").create({"sequence": int, "sha256": str, "body": bytes}, pk="sequence")
    odometer = {"stage": str, "model": str, "placement": str, "class": str, "quantity": int}
    db.table("odometer").create(odometer, pk=("stage", "model", "placement", "class"))
    db.table("meta").create({"name": str, "value": str}, pk="name")


def _second(db: Database) -> None:
    """Open calls, what has left and what came back, time, and a short way to the few records that are not of every turn."""
    call = {"turn_id": str, "stage": str, "attempt": int, "intent": str, "state": str, "facts": str, "usage": str}
    db.table("journal").create(call, pk=("turn_id", "stage", "attempt"))
    batch = {"last": int, "first": int, "hash": bytes, "odometer": str, "anchors": str, "batch_id": str, "acked_at": str}
    db.table("batch").create(batch, pk="last")
    db.table("anchor").create({"bootid": str, "boottimems": int, "time": str, "quality": str}, pk=("bootid", "boottimems"))
    db.table("deadletter").create({"sequence": int, "code": str, "body": bytes}, pk="sequence")
    db.execute("CREATE INDEX record_rare ON record(type) WHERE type NOT IN ('voxmeter.usage.v1', 'voxmeter.intent.v1')")


def _third(db: Database) -> None:
    """Events and results on their way to whoever listens; no money hangs on them."""
    db.table("outbox").create({"id": str, "topic": str, "body": bytes, "created": str}, pk="id")


def _fourth(db: Database) -> None:
    """Commands that were taken and what came of them, and how far each key that signs them has counted."""
    taken = {"cmd_id": str, "key_id": str, "seq": int, "op": str, "state": str, "request": bytes, "result": bytes}
    db.table("command").create(taken | {"starts": int, "settled_time": str, "settled_ran_s": int}, pk="cmd_id")
    db.table("command_seq").create({"key_id": str, "seq": int}, pk="key_id")


MIGRATIONS: list[Callable[[Database], None]] = [_first, _second, _third, _fourth]
"""Migration n brings a file from version n - 1 to n; `PRAGMA user_version` says where a file stands. Never edit one that shipped.

Each only adds, and nothing it adds has to be filled: the version before must go on with the file after a failed update.
"""


def migrate(connection: sqlite3.Connection, version_max: int | None = None) -> None:
    """Runs what is missing, each in one transaction together with its number. A newer file is taken as it is."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number, migration in enumerate(MIGRATIONS[version:version_max], version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            migration(Database(connection))
            connection.execute(f"PRAGMA user_version={number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk has ended it
                connection.execute("ROLLBACK")
            raise


def check_schema(connection: sqlite3.Connection) -> None:
    """Raises sqlite3.DatabaseError where a column or an index is not there as it was made. A newer version's own are no matter."""
    fresh = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(fresh)
        if not _shape(fresh) <= _shape(connection):
            raise sqlite3.DatabaseError("its tables are not what was made")
    finally:
        fresh.close()


def _shape(connection: sqlite3.Connection) -> set[tuple[object, ...]]:
    columns = connection.execute(
        """SELECT held.name, part.name, part.type, part."notnull", part.pk
        FROM sqlite_master AS held JOIN pragma_table_info(held.name) AS part WHERE held.type = 'table'"""
    )
    indexes = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")
    return {*columns, *indexes}


def meta(connection: sqlite3.Connection) -> dict[str, str]:
    """What a ledger says of itself."""
    return dict(connection.execute("SELECT name, value FROM meta"))


def put_meta(connection: sqlite3.Connection, **told: str) -> None:
    """In the transaction that is open."""
    connection.executemany(
        "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", list(told.items())
    )


def sqlite_version() -> str:
    return sqlite3.sqlite_version
