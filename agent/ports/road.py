"""The one road out: the backlog of the ledger, and the links that carry it."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:  # as in `books`
    from agent.contract.ack import Ack, Standing
    from agent.contract.batch import Batch

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

    async def next_batch(self, epoch: str) -> "Batch | None":
        """The next records that never left, noted as leaving before this returns; None if there are none."""
        ...

    async def unacked(self, epoch: str, after: int = 0, most: int = BATCHES_MAX) -> "list[Batch]":
        """Batches that left and were not acknowledged, above a sequence, oldest first, the same bytes as then; at most so many."""
        ...

    async def signed(self, batch: "Batch") -> Mapping[str, str]:
        """`{vx-key, vx-sig}` of a batch, by the key that signs now."""
        ...

    async def take(self, ack: "Ack", *, mark: bool = False) -> "Standing":
        """Moves the cursor of the ack's epoch as far as both sides agree; only a mark moves it back.

        What a mark says the backend has lost and this robot has pruned is declared as a gap.
        """
        ...

    async def differs(self, epoch: str, standing: "Standing") -> None:
        """The backend has something else, or more: begins a new epoch and issues again what was not acked of this one.

        Of an earlier one that has something else only the second: its place is taken already.
        """
        ...

    async def grown(self) -> None:
        """Returns when something has been appended since this was last called."""
        ...


@dataclass(frozen=True, slots=True)
class Posted:
    """An event or a result on its way."""

    id: str
    topic: str
    """Below the device's own subtree: `event/handoff`."""
    body: bytes
    """JSON."""
    created: str
    """RFC 3339, as this machine believes."""


class Outbox(Protocol):
    """What waits for a broker besides the records. Nothing of it is billed; it is as durable as they are."""

    async def post(self, topic: str, body: bytes) -> None:
        """Returns when it is durable. Raises what the ledger raises."""
        ...

    async def posted(self, skipped: int = 0) -> list[Posted]:
        """Some of what waits, oldest first, without the oldest `skipped`."""
        ...

    async def delivered(self, ids: Sequence[str]) -> None:
        """The broker has taken them."""
        ...

    async def posting(self) -> None:
        """Returns when something was posted since this was last called."""
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


UNHEARD = "unheard"
"""Code of what the broker confirmed and nobody gets: whoever wants it may connect later."""


@runtime_checkable
class Poster(Protocol):
    """A link that carries what is no batch."""

    async def ready(self) -> None: ...

    async def post(self, topic: str, body: bytes, *, retained: bool = False) -> Retry | Refused | None:
        """None when the broker has taken it; Retry: not now; Refused: the same would be refused again, UNHEARD until somebody
        listens.

        `topic` is below the device's own subtree.
        """
        ...


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
class Delivered:
    """A message to this robot that is no ack: a command, a twin, the time."""

    topic: str
    """Below the device's own subtree: `cmd/req/…`, `twin/desired`."""
    content: bytes = field(repr=False)
    retained: bool
    """It was kept by the broker, not sent to us now."""
    confirm: Callable[[], None] = field(repr=False)
    """Owed to every message; until then the broker sends it again with the next connection. Called again it does nothing."""


@dataclass(frozen=True, slots=True)
class Steering:
    """What a link carries for those who steer the robot, besides the books."""

    delivered: Callable[[Delivered], None] = lambda message: message.confirm()
    """Takes what comes for this robot, in the event loop."""
    will: Callable[[], tuple[str, bytes]] | None = None
    """Asked before each try to connect: topic, below the own subtree, and body, that the broker publishes and keeps if the connection
    is lost."""
    connected: Callable[[], None] = lambda: None
    """Called, in the event loop, each time a connection is welcomed and subscribed, before anything is delivered that came by it."""
    failed: Callable[[str], None] = lambda _: None
    """Takes a line about a message that `delivered` raised at; it is confirmed, so that it does not come for ever."""


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
    pair: Callable[[], tuple[Path | None, Path | None]] | None = None
    """Asked for `certificate` and `key` at each connection, where they may change; wins over both."""
    judge: Callable[[], datetime.datetime | None] = lambda: None
    """The time by which the other side's certificate is judged; None: this machine's."""
    token: Callable[[], str] = str
    """The API key, where the link needs one."""
    plain: bool = False
    """Without TLS; only to loopback."""
    heard: Callable[[Acked], None] = lambda _: None
    """Takes acks that nobody waits for any more."""
    steering: Steering | None = None
    """None: nobody steers this robot, and nothing is listened to but acks."""
