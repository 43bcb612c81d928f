"""Puts on the books what a salvage found missing, once, and gives the salvaged ledger its name.

damaged file -> salvaged part -> gaps and cut-off calls committed together with the note that they are -> the part gets its name
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import orjson

from agent.contract.record import type_name
from agent.errors import LedgerDamaged
from agent.files import rename_durably
from agent.ports import Draft, Entry
from agent.store.db import LEDGER_FILE, meta, put_meta
from agent.store.ledger import epochs
from agent.store.ledger.chain import Chain, Ready
from agent.store.ledger.leaving import side
from agent.store.ledger.salvage import Known, Salvaged, salvage
from agent.store.reading import EpochReader

USAGE, GAP = type_name("usage"), type_name("gap")


def found(state: Path, damaged: Path) -> Salvaged | None:
    """What a damaged ledger still holds and no ledger accounts for yet; None if nothing. Takes seconds for a large one."""
    if damaged.name in epochs.salvaged(state):
        return None
    told = side.read(state)
    known: Known = {told["epoch"]: (told["sequence"], bytes.fromhex(told["hash"]))} if told else {}
    salvaged = salvage(damaged, known)
    others = (*epochs.aside(state), *epochs.damaged(state), state / LEDGER_FILE)
    return salvaged and _undeclared(salvaged, [path for path in others if path != damaged and path.exists()])


def _undeclared(salvaged: Salvaged, others: Sequence[Path]) -> Salvaged:
    """Without what stands elsewhere: an earlier try may have been stopped after it declared, in an epoch that has ended since."""
    holes, left = salvaged.holes, salvaged.left
    for path in others:
        with suppress(LedgerDamaged, ValueError, KeyError, TypeError):  # one that is damaged itself accounts for nothing
            reader = EpochReader(path)
            try:
                declared = _declared(reader)
                holes = tuple(hole for hole in holes if (salvaged.epoch, hole.first, hole.last) not in declared)
                if reader.epoch != salvaged.epoch:
                    left = tuple((entry, intent) for entry, intent in left if not _is_settled(reader, entry))
            finally:
                reader.close()
    return replace(salvaged, holes=holes, left=left)


def _declared(reader: EpochReader) -> set[tuple[str, int, int]]:
    told = (orjson.loads(body)["data"] for body in reader.bodies(GAP))
    return {(gap["epoch"], gap["first"], gap["last"]) for gap in told}


def _is_settled(reader: EpochReader, entry: Entry) -> bool:
    """Whether a call has its final record here, or will have it: it stands in this journal."""
    call = entry.call
    key = (call.turn_id, call.stage, call.attempt)
    open_here = reader.rows("SELECT 1 FROM journal WHERE turn_id = ? AND stage = ? AND attempt = ?", key)
    return any(open_here) or any(ended == key for ended in _ended(reader, call.turn_id))


def _ended(reader: EpochReader, turn_id: str) -> Iterator[tuple[str, str, int]]:
    for (body,) in reader.rows("SELECT body FROM record WHERE type = ? AND instr(body, ?)", (USAGE, turn_id.encode())):
        told = orjson.loads(body)["data"]
        yield told["turn_id"], told["stage"], told["attempt"]


def gaps(salvaged: Salvaged | None) -> list[Draft]:
    """A gap for each hole. The hash after it is not known: what follows is linked by its own signed batch."""
    if salvaged is None:
        return []
    return [
        Draft(
            "gap",
            {"epoch": salvaged.epoch, "first": hole.first, "last": hole.last, "h_before": hole.h_before.hex(), "reason": "damaged"},
        )
        for hole in salvaged.holes
    ]


def declare(connection: sqlite3.Connection, chain: Chain, drafts: Sequence[Ready], name: str) -> bool:
    """Puts gaps and final records down, in the transaction that is open, unless an earlier try did; says whether it did now."""
    note = f"salvaged:{name}"
    if note in meta(connection):
        return False
    if drafts:
        chain.put(connection, drafts)
    put_meta(connection, **{note: "declared"})
    return True


def keep(state: Path, damaged: Path, salvaged: Salvaged | None) -> Path | None:
    """Gives the salvaged ledger its name; the damaged one is kept under another, for whoever wants to know, until room is short.

    The log goes before its file: a log alone is what an interrupted setting aside leaves.
    """
    path = None
    if salvaged is not None and salvaged.part is not None:
        path = epochs.free(state, salvaged.epoch, ".db")
        rename_durably(salvaged.part, path)
    for suffix in ("-wal", "-shm", ""):
        name = damaged.with_name(damaged.name + suffix)
        with suppress(FileNotFoundError):
            rename_durably(name, name.with_name(name.name.replace(".damaged", ".kept")))
    return path
