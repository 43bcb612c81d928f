"""The Protocols rooms meet at: engines that stream, books that keep, clocks come from `agent.clock`.

An engine is opened once per use; the open `Call` takes input items, gives output items, and its `usage` can be read at any
moment, also after a failure. Directions: what a caller sends, what it receives.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from agent.contract.record import RecordType
from agent.values import AudioChunk, Placement, Prompt, Speech, Stage, StageUsage, Transcript

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)


class Call(Protocol[In, Out]):
    """One use of an engine. Iterating gives outputs until the engine has finished; a crash raises EngineFailed."""

    @property
    def usage(self) -> StageUsage:
        """What was used so far; grows with every step and stands after the end, whatever the end was."""
        ...

    @property
    def begun(self) -> bool:
        """The engine has heard of this call; one it never heard of used nothing and leaves no record."""
        ...

    async def send(self, item: In) -> None:
        """Gives an input item; waits while the engine is behind."""
        ...

    async def finish(self) -> None:
        """No more input follows."""
        ...

    def __aiter__(self) -> AsyncIterator[Out]: ...

    async def cancel(self) -> None:
        """Stops within one step (one token, one piece of sound); afterwards `usage` is final."""
        ...


class Engine(Protocol[In, Out]):
    """Implements a stage, or a part of hearing that is not metered."""

    @property
    def name(self) -> str:
        """Its name in the registry."""
        ...

    @property
    def model(self) -> str: ...

    def open(self) -> Call[In, Out]: ...

    async def aclose(self) -> None: ...


Asr: TypeAlias = Engine[AudioChunk, Transcript]
"""Speech in, one transcript per segment out."""

Llm: TypeAlias = Engine[Prompt, str]
"""One prompt in, text deltas out."""

Tts: TypeAlias = Engine[str, Speech]
"""Sentences in, sound with the text it covers out."""

Vad: TypeAlias = Engine[AudioChunk, float]
"""Chunks of FRAME_SAMPLES in, for each the probability of speech out, in order."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What an engine is made from; plain values, they travel into its process."""

    engine: str
    """Its name in the registry."""
    model: str
    files: Mapping[str, Path] = field(default_factory=dict)
    """The model's files by the names of the catalogue, checked before the engine sees them."""
    threads: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Draft:
    """A record before the ledger gives it its place."""

    type: RecordType
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


Counter: TypeAlias = Callable[[str], int]
"""Tokens of a text."""


class Ears(Protocol):
    """Where an utterance comes from: a file, a microphone."""

    @property
    def ended_at(self) -> float | None:
        """Monotonic time at which the last sample was fed; None before."""
        ...

    def speech(self) -> AsyncGenerator[AudioChunk]:
        """The chunks that are speech, as they come, until the utterance ends."""
        ...
