"""The journal: calls that are under way, so that a start after a power cut knows what was begun and what it had used."""

import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, fields

import orjson

from agent.ports import Appended, Entry, OpenCall
from agent.values import StageUsage

OPEN = "INSERT INTO journal (turn_id, stage, attempt, intent, state, facts, usage) VALUES (?, ?, ?, ?, ?, ?, ?)"

NOTE = "UPDATE journal SET state = ?, usage = ? WHERE turn_id = ? AND stage = ? AND attempt = ?"
"""Only what is open can be noted: a note that was overtaken by the final record must not open the call again."""

SETTLE = "DELETE FROM journal WHERE turn_id = ? AND stage = ? AND attempt = ?"

KNOWN = {field.name for field in fields(OpenCall)}
"""A newer version may have written more about a call; this one settles it with what it knows."""


def write(connection: sqlite3.Connection, entries: Sequence[Entry], intent: Appended | None) -> None:
    """Puts entries down, in the transaction that is open. `intent`: the record that new calls belong to."""
    for entry in entries:
        key = (entry.call.turn_id, entry.call.stage, entry.call.attempt)
        if entry.state == "intended":
            carry(connection, entry, intent)
        elif entry.state == "started":
            connection.execute(NOTE, (entry.state, _json(entry.usage), *key))
        else:
            connection.execute(SETTLE, key)


def carry(connection: sqlite3.Connection, entry: Entry, intent: Appended | None) -> None:
    """Puts down a call that is not in this journal yet, as far as it has come."""
    belongs = f"{intent.epoch}:{intent.sequence}" if intent else ""
    key = (entry.call.turn_id, entry.call.stage, entry.call.attempt)
    connection.execute(OPEN, (*key, belongs, entry.state, _json(entry.call), _json(entry.usage)))


def left(connection: sqlite3.Connection) -> list[tuple[Entry, Appended]]:
    """What is open, oldest first."""
    rows = connection.execute("SELECT state, facts, usage, intent FROM journal ORDER BY rowid").fetchall()
    return [(_entry(state, facts, usage), _intent(intent)) for state, facts, usage, intent in rows]


def _json(told: OpenCall | StageUsage) -> str:
    return orjson.dumps(asdict(told)).decode()


def _intent(written: str) -> Appended:
    epoch, _, sequence = written.partition(":")
    return Appended(epoch, int(sequence or 0))


def _entry(state: str, facts: str, usage: str) -> Entry:
    call = {name: value for name, value in orjson.loads(facts).items() if name in KNOWN}
    figures = {field.name for field in fields(StageUsage)}
    used = {name: value for name, value in orjson.loads(usage).items() if name in figures}
    return Entry(OpenCall(**call), "intended" if state == "intended" else "started", StageUsage(**used))
