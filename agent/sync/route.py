"""Decides which link the next word takes, and not before when.

    in use -- 3 failures in a row, a refusal of who we are, or 2 minutes without success --> the next link that is up
    another than the first in use -- every few minutes, or when the first has connected again --> the first is tried with a mark
    the mark got through --> the first is in use again

Pauses are full jitter over a ceiling that doubles; each link has its own. What the backend asks for holds on all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

FAILURES_MAX = 3
"""In a row, then the next link: one is chance, two a bad minute."""

SILENCE_MS_MAX = 120_000
"""Without success while there is something to send, then the next link: four waits for an ack."""

RETURN_MS = 180_000
"""Between two tries of the first link, give or take half: the second serves, so there is no hurry."""

FIRST_MS, MOST_MS = 500, 60_000
"""Ceilings of the pause after the first failure and after many: a link that is back is used within a minute."""

REFUSED_FIRST_MS, REFUSED_MOST_MS = 60_000, 30 * 60_000
"""The same where the backend doesn't know us or refuses a batch: a person must act first, which takes minutes to days."""

FLOOR_MS = 50
"""No pause is shorter, whatever the chance."""

DOUBLINGS_MAX = 20


def pause_s(failures: int, chance: float, first_ms: int = FIRST_MS, most_ms: int = MOST_MS) -> float:
    """Seconds to wait after so many failures (from 1); `chance` is in [0, 1)."""
    ceiling_ms = min(first_ms << min(max(failures, 1) - 1, DOUBLINGS_MAX), most_ms)
    return (FLOOR_MS + chance * ceiling_ms) / 1000


@dataclass(slots=True)
class Way:
    """A link as far as the route is concerned. Times are seconds."""

    name: str
    up: bool = False
    connections: int = 0
    failures: int = 0
    """In a row; those of several sendings that were under way together count once."""
    refusals: int = 0
    failed_at: float = float("-inf")
    not_before: float = 0.0


class Route:
    """The links in the order of preference, and the one in use."""

    def __init__(self, names: Sequence[str], patience_ms: int = SILENCE_MS_MAX) -> None:
        self.ways = [Way(name) for name in names]
        self._patience = patience_ms / 1000
        self._used = 0
        self._asked = 0.0
        self._silent_since: float | None = None
        self._return_at = 0.0
        self._left_at = 0

    @property
    def way(self) -> Way:
        """The one in use."""
        return self.ways[self._used]

    @property
    def hopeless(self) -> bool:
        """Every link has failed often since it last worked."""
        return all(way.failures >= FAILURES_MAX for way in self.ways)

    def looked(self, number: int, *, up: bool, connections: int) -> None:
        """What a link says of itself. A new connection deserves a try at once."""
        way = self.ways[number]
        if up and connections != way.connections and not way.refusals:
            way.not_before = 0.0
        way.up, way.connections = up, connections

    def begun(self, name: str, now: float) -> None:
        """Something is sent: from now on there is silence, until an answer."""
        if name == self.way.name and self._silent_since is None:
            self._silent_since = now

    def silence(self, working: bool, now: float, chance: float) -> float:
        """Changes over where there was work and no success for too long. Returns when that would happen next."""
        if not working:
            self._silent_since = None
        elif not self.way.up and self._silent_since is None:
            self._silent_since = now
        if self._silent_since is None:
            return float("inf")
        if now >= self._silent_since + self._patience:
            self.way.failures = max(self.way.failures, FAILURES_MAX)
            self._change(now, chance)
        return self._silent_since + self._patience

    def open_at(self) -> float:
        """When the link in use may be used, as far as pauses are concerned."""
        return max(self.way.not_before, self._asked)

    def to_try(self, now: float) -> Way | None:
        """The first link, if another is in use and it is time to see whether it works again."""
        first = self.ways[0]
        due = now >= self._return_at or first.connections != self._left_at
        return first if self._used and first.up and due and now >= max(first.not_before, self._asked) else None

    def tries(self) -> None:
        """It is being tried: not again for now."""
        self._left_at = self.ways[0].connections
        self._return_at = float("inf")

    def tried(self, works: bool, now: float, chance: float) -> None:
        if works:
            self._used = 0
            self.succeeded(self.ways[0].name)
        else:
            self._return_at = now + RETURN_MS / 1000 * (0.5 + chance)

    def succeeded(self, name: str) -> None:
        """The backend has answered over a link."""
        way = self._called(name)
        way.failures = way.refusals = 0
        way.not_before = 0.0
        if way is self.way:
            self._silent_since = None

    def failed(self, name: str, began: float, now: float, chance: float) -> None:
        """No answer to what was sent at `began`."""
        way = self._called(name)
        if began < way.failed_at:
            return
        way.failures += 1
        way.failed_at = now
        way.not_before = now + pause_s(way.failures, chance)
        if way is self.way and way.failures >= FAILURES_MAX:
            self._change(now, chance)

    def refused(self, name: str, began: float, now: float, chance: float) -> None:
        """The backend doesn't know us on this link, or lets us do nothing: nothing else will be taken over it either."""
        way = self._called(name)
        if began < way.failed_at:
            return
        way.failed_at = now
        way.failures = max(way.failures, FAILURES_MAX)
        way.refusals += 1
        way.not_before = now + pause_s(way.refusals, 0.5 + chance / 2, REFUSED_FIRST_MS, REFUSED_MOST_MS)
        if way is self.way:
            self._change(now, chance)

    def patience(self, now: float, ms: float) -> None:
        """The backend asks to be left alone for so long; that is an answer, not silence."""
        self._asked = max(self._asked, now + ms / 1000)
        self._silent_since = None

    def hurry(self, patience_ms: int) -> None:
        """Pauses of our own end, those the backend asked for don't."""
        self._patience, self._silent_since = patience_ms / 1000, None
        for way in self.ways:
            way.not_before, way.failures, way.refusals = 0.0, 0, 0

    def _called(self, name: str) -> Way:
        return next(way for way in self.ways if way.name == name)

    def _change(self, now: float, chance: float) -> None:
        self._silent_since = now
        others = [(self._used + step) % len(self.ways) for step in range(1, len(self.ways))]
        up = [number for number in others if self.ways[number].up]
        if not up:
            return
        if not self._used:
            self._left_at = self.ways[0].connections
        self._return_at = now + RETURN_MS / 1000 * (0.5 + chance)
        self._used = up[0]
