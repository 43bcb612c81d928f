"""The side file: how far the books had come when the backend last acknowledged them, beside the ledger and not in it.

A ledger that is behind its side file has lost what had left the robot: the disk lied about a sync, or the card is an older copy.
"""

import hashlib
import sqlite3
from pathlib import Path
from typing import Any

import orjson

from agent.files import write_durably

SIDE_FILE = "odometer.json"


def write(state: Path, told: dict[str, Any]) -> None:
    """`told`: `{epoch, sequence, hash, odometer}`; returns when it is on the disk."""
    write_durably(state / SIDE_FILE, _written(told | {"check": _check(told)}))


def read(state: Path) -> dict[str, Any]:
    """What it says; empty where there is none, or none that can be read: then it shows nothing."""
    try:
        told = orjson.loads((state / SIDE_FILE).read_bytes())
        if told.pop("check") == _check(told):
            return dict(told)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return {}


def contradicts(told: dict[str, Any], connection: sqlite3.Connection, epoch: str, earlier: set[str]) -> str:
    """How the ledger contradicts the side file; nothing if it does not. `earlier`: epochs known to have ended on this robot."""
    if not told:
        return ""
    if told["epoch"] != epoch:
        return "" if told["epoch"] in earlier else "restored"
    row = connection.execute("SELECT hash FROM record WHERE sequence = ?", (told["sequence"],)).fetchone()
    if row:
        return "" if row[0] == bytes.fromhex(told["hash"]) else "different"
    (last,) = connection.execute("SELECT max(sequence) FROM record").fetchone()
    return "rolled_back" if last < told["sequence"] else ""


def _written(told: dict[str, Any]) -> bytes:
    return orjson.dumps(told, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)


def _check(told: dict[str, Any]) -> str:
    """A changed digit would look like a lost record or another epoch, and begin one for nothing."""
    return hashlib.sha256(_written(told)).hexdigest()
