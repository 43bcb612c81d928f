"""The Protocols rooms meet at: engines that stream, books that keep, links that carry; clocks come from `agent.clock`.

An engine is opened once per use; the open `Call` takes input items, gives output items, and its `usage` can be read at any
moment, also after a failure. Directions: what a caller sends, what it receives.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

from agent.contract.ack import Ack, Standing
from agent.contract.batch import Batch
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


BATCHES_MAX = 64
"""Batches asked for at once, 4 MiB: after a restore there may be thousands to send again."""


class Backlog(Protocol):
    """The ledger as whoever sends it sees it: batches of all epochs that still have something to send."""

    @property
    def epoch(self) -> str:
        """The present one."""
        ...

    async def epochs(self) -> list[str]:
        """Epochs with records that are not acked, oldest first; the present one is always the last."""
        ...

    async def next_batch(self, epoch: str) -> Batch | None:
        """The next records that never left, noted as leaving before this returns; None if there are none."""
        ...

    async def unacked(self, epoch: str, after: int = 0, most: int = BATCHES_MAX) -> list[Batch]:
        """Batches that left and were not acknowledged, above a sequence, oldest first, the same bytes as then; at most so many."""
        ...

    async def signed(self, batch: Batch) -> Mapping[str, str]:
        """`{vx-key, vx-sig}` of a batch, by the key that signs now."""
        ...

    async def take(self, ack: Ack, *, mark: bool = False) -> Standing:
        """Moves the cursor of the ack's epoch as far as both sides agree; only a mark moves it back.

        What a mark says the backend has lost and this robot has pruned is declared as a gap.
        """
        ...

    async def differs(self, epoch: str, standing: Standing) -> None:
        """The backend has something else, or more: begins a new epoch and issues again what was not acked of this one."""
        ...

    async def grown(self) -> None:
        """Returns when something has been appended since this was last called."""
        ...


@dataclass(frozen=True, slots=True)
class Acked:
    """The backend answered with an ack; whether it is genuine, the reader of `content` decides."""

    content: bytes
    marks: Mapping[str, str]
    """`{vx-key, vx-sig}`."""


@dataclass(frozen=True, slots=True)
class Retry:
    """No answer, or one that asks for patience: send the same again later."""

    why: str
    after_ms: int = 0
    """As the other side asked; 0 where it did not."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The backend took nothing of it and says why."""

    code: str
    """As in `contract.wire.Refusal`."""
    why: str
    after_ms: int = 0


Answer: TypeAlias = Acked | Retry | Refused


class Link(Protocol):
    """A way to the backend. Nothing raises for what a network does; every answer is a value."""

    @property
    def name(self) -> str:
        """Its name in the registry."""
        ...

    @property
    def connections(self) -> int:
        """How often it has connected; 0 before the first. Another number than before: ask for the mark."""
        ...

    @property
    def up(self) -> bool:
        """Connected, as far as is known; always true of a link that connects for each request."""
        ...

    async def ready(self) -> None:
        """Returns when `up`."""
        ...

    async def send(self, content: bytes, marks: Mapping[str, str]) -> Answer:
        """Sends a batch and waits for the backend's word, at most `contract.wire.ACK_WAIT_MS`."""
        ...

    async def mark(self, epoch: str, nonce: str) -> Answer:
        """Asks what the backend holds of an epoch."""
        ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """What a link is made from."""

    tenant: str
    device: str
    host: str
    port: int
    authority: str = ""
    """PEM of whom to believe; empty: this machine's own list."""
    certificate: Path | None = None
    """PEM of the device's certificate and, beside it, its key."""
    key: Path | None = None
    token: Callable[[], str] = str
    """The API key, where the link needs one."""
    plain: bool = False
    """Without TLS; only to loopback."""
    heard: Callable[[Acked], None] = lambda _: None
    """Takes acks that nobody waits for any more."""
