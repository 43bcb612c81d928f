"""Power cuts: a story is cut off before or after each of its writes, and told again from what is on the disk."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent.enrolment import contact, leaving
from agent.store import keys, pair, trust

WRITES = {
    pair: ("write_durably", "rename_durably", "sync_folder"),
    trust: ("write_durably", "put_beside", "rename_durably"),
    keys: ("write_durably", "rename_durably"),
    leaving: ("write_durably", "sync_folder"),
    contact: ("write_durably",),
}

STEPS_MAX = 60
"""No story here has more."""


class PowerCut(BaseException):
    """Nothing catches it."""


class Cutter:
    """Cuts at the write with this number, before or after it; counts them."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, *, after: bool) -> None:
        self.count = 0
        self._at, self._after = at, after
        for module, names in WRITES.items():
            for name in names:
                patch.setattr(module, name, self._around(getattr(module, name)))

    def _around(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def written(*given: Any, **named: Any) -> Any:
            self.count += 1
            if self.count == self._at and not self._after:
                raise PowerCut
            done = write(*given, **named)
            if self.count == self._at and self._after:
                raise PowerCut
            return done

        return written


def every_cut(story: Callable[[], Callable[[], object]], again: Callable[[], object]) -> Iterator[int]:
    """For each write of a story: begins it anew (`story` prepares and gives it), cuts it there, and yields after `again` has been told.

    At least one cut must have happened, or the test proves nothing.
    """
    for after in (False, True):
        for at in range(1, STEPS_MAX):
            tell = story()
            with pytest.MonkeyPatch.context() as patch:
                Cutter(patch, at, after=after)
                try:
                    tell()
                except PowerCut:
                    pass
                else:
                    assert at > 1
                    break
            again()
            yield at
        else:
            raise AssertionError("the story does not end")
