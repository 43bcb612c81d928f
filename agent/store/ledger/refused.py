"""Says in one line what a disk that refuses means."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from agent.errors import LedgerDamaged, LedgerFull


@contextmanager
def plainly() -> Iterator[None]:
    """Raises LedgerFull or LedgerDamaged for what SQLite or the system raise."""
    try:
        yield
    except sqlite3.Error as error:
        raise said(error) from error
    except OSError as error:
        raise LedgerDamaged(f"{error.filename or 'the ledger'}: {error.strerror}", "check space and rights of the state folder") from error


@contextmanager
def sendable() -> Iterator[None]:
    """Raises LedgerDamaged for rows that can't be made into a batch: a changed byte may lie anywhere."""
    try:
        yield
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise LedgerDamaged(f"the ledger holds something that can't be sent: {why}", "run: voxmeter usage verify") from error


def said(error: sqlite3.Error) -> LedgerFull | LedgerDamaged:
    """What a refused write means for whoever must act on it."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
        return LedgerFull(f"the ledger took no record: {error}", "make room on the disk of the state folder")
    return LedgerDamaged(f"the ledger took no record: {error}", "check the disk: voxmeter doctor")
