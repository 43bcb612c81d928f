"""The ledger as those see it who write into it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from agent.values import Placement, Stage, StageUsage

if TYPE_CHECKING:  # an engine's process needs its ports, and not the 15 MB of the contract's models
    from agent.contract.record import RecordType


@dataclass(frozen=True, slots=True)
class Draft:
    """A record before the ledger gives it its place."""

    type: "RecordType"
    data: Mapping[str, Any]
    """Canonical values only: strings and integers below 2^53, nested."""
    quantities: Mapping[tuple[str, str, str, str], int] = field(default_factory=dict)
    """What the odometer advances by: (stage, model, placement, class) -> raw quantity."""
    raw: bytes = b""
    """A provider's usage object as received; kept beside the record, outside the chain."""


@dataclass(frozen=True, slots=True)
class OpenCall:
    """One attempt of one stage: all that its final record needs besides what was used."""

    turn_id: str
    session_id: str
    stage: Stage
    engine: str
    model: str
    placement: Placement = "device"
    attempt: int = 1
    priority: str = "standard"


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the journal: how far a call has come. A settled one has its final record, or needs none, and leaves the journal."""

    call: OpenCall
    state: Literal["intended", "started", "settled"]
    usage: StageUsage = field(default_factory=lambda: StageUsage(origin="unknown"))
    """What a started call has used so far."""


class Appended(NamedTuple):
    """A record on the books: durable when the caller holds this."""

    epoch: str
    sequence: int


class Ledger(Protocol):
    """The one road out: what `append` returned for is durable."""

    async def append(self, drafts: Sequence[Draft], journal: Sequence[Entry] = ()) -> list[Appended]:
        """Gives sequence, hash and odometer to all drafts and writes the journal, in one durable transaction.

        Calls that become `intended` belong to the last intent among the drafts. Raises LedgerFull or LedgerDamaged when the
        disk refuses; then nothing of it is on the books.
        """
        ...

    async def left_open(self) -> list[tuple[Entry, Appended]]:
        """Calls that a process which is no more has left open, with their intents."""
        ...

    def room(self) -> bool:
        """Whether there is room for the records of a new turn."""
        ...
