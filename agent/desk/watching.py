"""Decides what of a fleet's news a watcher wants to see, and when he has seen all he waits for."""

from collections.abc import Sequence

from agent.contract.fleet.command import FINAL, Result
from agent.desk.news import News

NAMED_MAX = 3
"""Ids named in the last line."""


class Watching:
    """With ids: until each has an answer that is final. Without: all that is new, for ever."""

    def __init__(self, cmd_ids: Sequence[str] = ()) -> None:
        self._wanted = set(cmd_ids)
        self._open = set(cmd_ids)
        self._failed: list[str] = []

    def wanted(self, news: News) -> bool:
        """Whether it is to be shown. What was before is not news."""
        if news.old:
            return False
        if not self._wanted:
            return True
        if not isinstance(news.told, Result) or news.told.cmd_id not in self._wanted:
            return False
        if news.told.state in FINAL:
            self._open.discard(news.told.cmd_id)
            if news.told.state != "succeeded":
                self._failed.append(f"{news.told.cmd_id} ({news.device}: {news.told.state})")
        return True

    @property
    def done(self) -> bool:
        return bool(self._wanted) and not self._open

    @property
    def problem(self) -> str:
        """One line if something of what was waited for is missing or did not succeed."""
        if self._open:
            return f"no answer was heard to {_some(sorted(self._open))}; one that came before was not told again"
        return f"did not succeed: {_some(self._failed)}" if self._failed else ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED_MAX]) + (" …" if len(names) > NAMED_MAX else "")
