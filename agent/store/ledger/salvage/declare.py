"""Puts on the books what a salvage found missing, once, and gives the salvaged ledger its name.

damaged file -> salvaged part -> gaps and cut-off calls committed together with the note that they are -> the part gets its name
"""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from agent.ports import Draft
from agent.store.db import meta, put_meta
from agent.store.files import rename_durably, sync_folder
from agent.store.ledger import side
from agent.store.ledger.chain import Chain, Ready
from agent.store.ledger.salvage import Known, Salvaged, salvage


def found(state: Path, damaged: Path) -> Salvaged | None:
    """What a damaged ledger still holds. Takes seconds for a large one."""
    told = side.read(state)
    known: Known = {told["epoch"]: (told["sequence"], bytes.fromhex(told["hash"]))} if told else {}
    return salvage(damaged, known)


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
    """Gives the salvaged ledger its name; the damaged one is kept under another, for whoever wants to know, until room is short."""
    path = None
    if salvaged is not None:
        path = state / f"ledger-{salvaged.epoch}.db"
        number = 1
        while path.exists():
            path, number = state / f"ledger-{salvaged.epoch}.{number}.db", number + 1
        rename_durably(salvaged.part, path)
    for name in (damaged, *(damaged.with_name(damaged.name + suffix) for suffix in ("-wal", "-shm"))):
        with suppress(FileNotFoundError):
            name.rename(name.with_name(name.name.replace(".damaged", ".kept")))
    sync_folder(state)
    return path
