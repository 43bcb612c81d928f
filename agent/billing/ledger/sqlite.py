"""All that is SQLite's own: how its file is opened, durable settings, what it does on a conflict, its online backup."""

import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, delete, event, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool, StaticPool

from agent.billing.ledger.tables import METADATA, epoch, meta
from agent.errors import BadInput, LedgerDamaged, LedgerFull, VoxmeterError
from agent.files import MODE, OTHERS

DATABASE_FILE = "billing.db"

LOGS = ("-wal", "-shm")
"""What stands beside the database while it is open, and after a kill."""

PAGE_BYTES = 8192
"""Of a new file: seven records of a kilobyte fill one well, three leave a third of 4 KiB empty."""

BUSY_MS = 5_000
"""A reader's look at the file may hold it for a moment; longer means something else writes."""

LOG_PAGES = 2_000
"""Pages of the write-ahead log before they go into the file, 16 MiB: pages that many batches touch are moved once."""

WRITING = (
    f"page_size={PAGE_BYTES}",
    "journal_mode=WAL",
    "synchronous=FULL",
    f"busy_timeout={BUSY_MS}",
    f"wal_autocheckpoint={LOG_PAGES}",
    "cache_size=-65536",
)
READING = (f"busy_timeout={BUSY_MS}",)

FULL = 13
"""SQLITE_FULL."""


def writer(path: Path) -> Engine:
    """The one connection that writes, from one thread at a time; its tables are made where they are missing. Raises OSError."""
    _keep_private(path)
    engine = _engine(path, "rwc", WRITING, StaticPool)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    try:
        METADATA.create_all(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def reader(path: Path) -> Engine:
    """Connections that can only read; each sees one moment from its first question to its end."""
    engine = _engine(path, "ro", READING, None)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _engine(path: Path, mode: str, pragmas: Iterable[str], pool: type[Any] | None) -> Engine:
    url = URL.create("sqlite", database=path.resolve().as_uri(), query={"mode": mode, "uri": "true"})
    engine = create_engine(url, poolclass=pool, connect_args={"check_same_thread": False})

    def connected(connection: Any, _: object) -> None:
        connection.isolation_level = None  # transactions are begun by us, not guessed by the driver
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    event.listen(engine, "connect", connected)
    return engine


def refused(path: Path, error: Exception) -> VoxmeterError:
    """What a refused read or write means, and what to do."""
    cause = getattr(error, "orig", None) or error
    if getattr(cause, "sqlite_errorcode", 0) & 0xFF == FULL:
        return LedgerFull(f"{path}: {cause}", "make room on the disk")
    return LedgerDamaged(f"{path}: {cause}", "check the disk and the rights of the folder; else restore a backup")


def back_up(engine: Engine, path: Path) -> list[tuple[int, int]]:
    """A copy as of one moment at `path`, on the disk when this returns: (epoch row, cum) of all it holds.

    The copy no longer says which backend it is of, so that whoever opens it becomes another one. Raises BadInput if there is a file.
    """
    part = path.with_name(path.name + ".part")
    if path.exists():
        raise BadInput(f"{path} exists", "name a new file")
    part.unlink(missing_ok=True)
    _keep_private(part)
    copy = _engine(part, "rwc", (), NullPool)
    with engine.connect() as source, copy.connect() as target:
        _driver(source).backup(_driver(target))
        _driver(target).execute("PRAGMA journal_mode=DELETE")  # a file that is whole without a log beside it
        with target.begin():
            target.execute(delete(meta).where(meta.c.name == "backend_id"))
            target.execute(epoch.update().values(durable=epoch.c.cum))
            held = [(row.id, row.cum) for row in target.execute(select(epoch.c.id, epoch.c.cum))]
    copy.dispose()
    _synced(part)
    part.rename(path)
    _synced(path.parent)
    return held


def restore(copy: Path, folder: Path) -> None:
    """Puts a backup in the place of the books, which nobody has open. Raises BadInput for what is no whole backup, OSError."""
    _check_backup(copy)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = folder / f"{DATABASE_FILE}.part"
    part.unlink(missing_ok=True)
    _keep_private(part)
    shutil.copyfile(copy, part)
    _synced(part)
    for suffix in LOGS:  # a log beside a file it does not belong to would be written into it
        (folder / f"{DATABASE_FILE}{suffix}").unlink(missing_ok=True)
    _synced(folder)
    part.replace(folder / DATABASE_FILE)
    _synced(folder)


def _check_backup(copy: Path) -> None:
    """Raises BadInput unless it is what `back_up` wrote, whole: good books must not give way to something else."""
    todo = "name the file that voxmeter billing backup wrote"
    if not copy.is_file():
        raise BadInput(f"{copy} is no backup", todo)
    engine = _engine(copy, "ro", READING, NullPool)
    try:
        with engine.connect() as connection:
            names = set(connection.execute(select(meta.c.name)).scalars())
            found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
    except DatabaseError as error:
        raise BadInput(f"{copy} is no backup: {error.orig or error}", todo) from error
    finally:
        engine.dispose()
    if "commits" not in names or "backend_id" in names:
        raise BadInput(f"{copy} is no backup, but books that a backend uses or used", todo)
    if found != "ok":
        raise BadInput(f"{copy} is damaged: {' '.join(found.split())[:200]}", "use another backup")


def _keep_private(path: Path) -> None:
    """The file is there, for its owner's eyes; SQLite gives its logs the same rights. To be called while nobody here has it open."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE))
    for one in (path, *(path.with_name(path.name + suffix) for suffix in LOGS)):
        if one.exists() and stat.S_IMODE(one.stat().st_mode) & OTHERS:
            one.chmod(MODE)


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


def _synced(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def insert_new(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Puts rows, but leaves those that are there as they are."""
    if rows:
        connection.execute(_insert_new(table), rows)


def put(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Puts rows in place of those with the same primary key. Every row has the same columns."""
    if rows:
        connection.execute(_put(table, tuple(rows[0])), rows)


@cache
def _insert_new(table: Table) -> Insert:
    return sqlite.insert(table).on_conflict_do_nothing()


@cache
def _put(table: Table, names: tuple[str, ...]) -> Insert:
    """Making a statement takes longer than running it."""
    statement = sqlite.insert(table)
    changed = {name: statement.excluded[name] for name in names if not table.c[name].primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=changed)
