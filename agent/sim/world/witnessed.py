"""The ledger of a simulated robot, which tells what it was told, and copies of its folder as it was at some moment."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.contract.ack import Ack, Standing
from agent.store.ledger import SqliteLedger
from agent.store.ledger.leaving import backlog
from agent.store.ledger.space import FOLD, TIDY, Limits, Space
from agent.store.waiting import waiting

NEARLY_FULL, PRUNED = (TIDY + FOLD) / 2, ".pruned-"
"""The pressure at which what is acked and durable goes and nothing is folded; what names a copy of the folder made before that."""


class Witnessed(SqliteLedger):
    """A real ledger, and what it was told by the backend."""

    took: Callable[[Ack, Standing, bool], None] = staticmethod(lambda *_: None)

    async def take(self, ack: Ack, *, mark: bool = False) -> Standing:
        standing = await super().take(ack, mark=mark)
        self.took(ack, standing, mark)
        return standing

    async def prune(self) -> None:
        """Lets go what a ledger does that has nearly filled its quota; a copy of the folder as it was stays beside it."""

        def work(connection: Any) -> None:
            kept = self._state.with_name(f"{self._state.name}{PRUNED}{len(before_pruning(self._state))}")
            copied(self._state, kept.with_name(kept.name + ".part")).rename(kept)  # a power cut leaves no half of one
            used_bytes = Space(self._state, Limits(quota_bytes=1, free_bytes_min=0), self.keys).look(connection)
            Space(self._state, Limits(int(used_bytes / NEARLY_FULL), 0), self.keys).tidy(connection, self._chain)

        await self._alone(work)

    async def waiting(self) -> int:
        """Records that are not acked, of all epochs."""
        if len(await self.epochs()) > 1:
            return int(waiting(self._state)["records"])
        count = "SELECT count(*) FROM record WHERE sequence > ?"
        (present,) = await self._do(lambda connection: connection.execute(count, (backlog.cursor(connection).acked,)).fetchone())
        return int(present)


def before_pruning(state: Path) -> list[Path]:
    """The folder as it was each time before something went."""
    return sorted(one for one in state.parent.glob(f"{state.name}{PRUNED}*") if one.suffix != ".part")


def copied(state: Path, target: Path) -> Path:
    """The folder as it is, while it is in use: what a kill leaves. SQLite's index of the log is no part of it."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(state, target, ignore=shutil.ignore_patterns("*-shm", "*.sock"))
    return target
