"""What the uploader can ask for: each step is a value, and who began a step gives it back together with what came of it."""

from dataclasses import dataclass
from typing import TypeAlias

from agent.sync.progress import Parcel


@dataclass(frozen=True, slots=True, eq=False)
class Send:
    """Send a batch."""

    link: str
    parcel: Parcel
    at: float

    @property
    def epoch(self) -> str:
        return self.parcel.epoch


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """Ask for the mark."""

    link: str
    epoch: str
    at: float
    acked: int
    """Where the epoch stood when it was asked."""
    trial: bool = False
    """To see whether the first link works again."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Bring batches of an epoch."""

    epoch: str
    again: bool
    """Those that have left and are not acknowledged; else the next that never left."""
    after: int = 0
    """Of those that have left, the ones above this sequence; not all fit at once."""
    count: int = 1
    """At most so many that never left, asked for together: they share one sync of the disk."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing before that time, in seconds, unless something happens."""

    until: float


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to do."""


Step: TypeAlias = Send | Mark | Fetch | Wait | Idle
