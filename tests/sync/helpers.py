"""A played ledger, backend and link for sync: small, but with the real hashes' rules, acks and signatures."""

import asyncio
import datetime
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agent.clock import FLOOR
from agent.contract.ack import Ack, HeldRange, Reject, Standing, compare, write
from agent.contract.batch import Batch
from agent.contract.canonical import genesis
from agent.contract.signing import SigningKey
from agent.errors import VoxmeterError
from agent.ports import BATCHES_MAX, Acked, Answer, Refused, Retry

DEVICE = "sim-0001"
KEY = SigningKey.from_seed(bytes(range(32)))
STRANGER = SigningKey.from_seed(bytes(range(32, 64)))
TRUSTED = {KEY.key_id: KEY.public}
RECORDS_MAX = 3
"""In a played batch; one of so many is padded so that it looks full."""


def epoch_of(number: int) -> str:
    return f"{number:032x}"


def hash_of(epoch: str, sequence: int, flavour: str = "") -> bytes:
    return hashlib.sha256(f"{epoch}:{sequence}:{flavour}".encode()).digest() if sequence else genesis(epoch)


def batch_of(epoch: str, first: int, last: int, flavour: str = "") -> Batch:
    content = f"{epoch} {first} {last} {flavour}".encode()
    padding = b" " * 40_000 if last - first + 1 == RECORDS_MAX else b""
    return Batch(content + padding, first, last, hash_of(epoch, last, flavour))


@dataclass
class Backend:
    """Holds what it gets; its time goes on by 1 ms with each answer."""

    held: dict[str, dict[int, bytes]] = field(default_factory=dict)
    backend_id: str = "b1"
    window: int = 8
    not_before_ms: int = 0
    answers: int = 0
    rejects: list[Reject] = field(default_factory=list)
    """Of the next ack."""

    def receive(self, content: bytes) -> Ack:
        epoch, first, last, *flavour = content.decode().split()
        held = self.held.setdefault(epoch, {})
        for sequence in range(int(first), int(last) + 1):
            held.setdefault(sequence, hash_of(epoch, sequence, "".join(flavour)))
        return self.ack(epoch)

    def restore(self, kept: dict[str, dict[int, bytes]], backend_id: str) -> None:
        self.held = {epoch: dict(held) for epoch, held in kept.items()}
        self.backend_id = backend_id

    def cum(self, epoch: str) -> int:
        held, cum = self.held.get(epoch, {}), 0
        while cum + 1 in held:
            cum += 1
        return cum

    def ack(self, epoch: str, nonce: str | None = None, **told: Any) -> Ack:
        held, cum = self.held.get(epoch, {}), self.cum(epoch)
        self.answers += 1
        rejects, self.rejects = self.rejects, []
        given: dict[str, Any] = {
            "device": DEVICE,
            "epoch": epoch,
            "cum_ack": cum,
            "head_hash": (held[cum] if cum else genesis(epoch)).hex(),
            "ranges": list(_ranges(sequence for sequence in held if sequence > cum)),
            "rejects": rejects,
            "durable_through": 0,
            "backend_id": self.backend_id,
            "window_batches": self.window,
            "not_before_ms": self.not_before_ms,
            "server_time": (FLOOR + datetime.timedelta(milliseconds=self.answers)).isoformat().replace("+00:00", "Z"),
        }
        return Ack.model_validate(given | ({"nonce": nonce} if nonce else {}) | told)


def _ranges(sequences: Iterable[int]) -> Iterable[HeldRange]:
    begin = end = 0
    for sequence in sorted(sequences):
        if sequence != end + 1:
            if begin:
                yield HeldRange(first=begin, last=end)
            begin = sequence
        end = sequence
    if begin:
        yield HeldRange(first=begin, last=end)


def acked(ack: Ack, key: SigningKey = KEY) -> Acked:
    return Acked(*write(ack, key))


@dataclass
class Books:
    """Epochs of a ledger without records: how many there are, how far they were batched and acked."""

    names: list[str] = field(default_factory=lambda: [epoch_of(1)])
    last: dict[str, int] = field(default_factory=dict)
    batches: dict[str, list[Batch]] = field(default_factory=dict)
    cursor: dict[str, int] = field(default_factory=dict)
    flavour: str = ""
    took: list[tuple[Ack, bool]] = field(default_factory=list)

    def add(self, records: int = 1, epoch: str = "") -> None:
        epoch = epoch or self.names[-1]
        self.last[epoch] = self.last.get(epoch, 0) + records

    def unsent(self, epoch: str) -> int:
        return self.last.get(epoch, 0) - max((batch.last for batch in self.batches.get(epoch, [])), default=0)

    def epochs(self) -> list[str]:
        return [name for name in self.names[:-1] if self.left(name)] + self.names[-1:]

    def left(self, epoch: str) -> int:
        return self.last.get(epoch, 0) - self.cursor.get(epoch, 0)

    def next_batch(self, epoch: str) -> Batch | None:
        waiting = self.unsent(epoch)
        if not waiting:
            return None
        first = self.last[epoch] - waiting + 1
        batch = batch_of(epoch, first, first + min(waiting, RECORDS_MAX) - 1, self.flavour)
        self.batches.setdefault(epoch, []).append(batch)
        return batch

    def unacked(self, epoch: str, after: int, most: int) -> list[Batch]:
        return [batch for batch in self.batches.get(epoch, []) if batch.last > max(self.cursor.get(epoch, 0), after)][:most]

    def take(self, ack: Ack, *, mark: bool) -> Standing:
        at = self.cursor.get(ack.epoch, 0)
        last = self.last.get(ack.epoch, 0)
        standing = compare(ack, lambda sequence: hash_of(ack.epoch, sequence, self.flavour), last, at)
        self.took.append((ack, mark))
        if standing == "agreed" or (standing == "behind" and mark):
            self.cursor[ack.epoch] = ack.cum_ack
        return standing


class PlayedBacklog:
    """Implements the port Backlog on `Books`; what stands in `trouble` is raised by the next call of that name."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.trouble: dict[str, VoxmeterError] = {}
        self.differed: list[tuple[str, Standing]] = []
        self.listings = 0
        self.listing_s = 0.0
        self.forgets = True
        """What differed is no longer listed."""
        self._grew = asyncio.Event()

    @property
    def epoch(self) -> str:
        return self.books.names[-1]

    def append(self, records: int = 1) -> None:
        self.books.add(records)
        self._grew.set()

    async def epochs(self) -> list[str]:
        self.listings += 1
        await asyncio.sleep(self.listing_s)
        self._called("epochs")
        return self.books.epochs()

    async def next_batch(self, epoch: str) -> Batch | None:
        self._called("next_batch")
        return self.books.next_batch(epoch)

    async def unacked(self, epoch: str, after: int = 0, most: int = BATCHES_MAX) -> list[Batch]:
        self._called("unacked")
        return self.books.unacked(epoch, after, most)

    async def signed(self, batch: Batch) -> Mapping[str, str]:
        self._called("signed")
        return {"vx-key": KEY.key_id, "vx-sig": batch.batch_id}

    async def take(self, ack: Ack, *, mark: bool = False) -> Standing:
        self._called("take")
        return self.books.take(ack, mark=mark)

    async def differs(self, epoch: str, standing: Standing) -> None:
        """Begins a new epoch with as many records as were not acked of the old one."""
        self._called("differs")
        self.differed.append((epoch, standing))
        left = max(self.books.left(epoch), 0)
        if epoch == self.epoch:
            self.books.names.append(epoch_of(len(self.books.names) + 1))
        if self.forgets:
            self.books.names.remove(epoch)
        self.append(left)

    async def grown(self) -> None:
        await self._grew.wait()
        self._grew.clear()

    def _called(self, name: str) -> None:
        if error := self.trouble.pop(name, None):
            raise error


Fate = Literal["good", "lost", "unheard", "forged"] | Answer
"""What becomes of a request: answered, answered with the answer lost, never received, answered by a stranger, or just that answer."""


class PlayedLink:
    """Implements the port Link. `fates` are used up in order; after them everything is good."""

    def __init__(self, name: str, backend: Backend, *, up: bool = True, delay_s: float = 0.02, silence_s: float = 30) -> None:
        self.name, self.backend = name, backend
        self.connections = 1 if up else 0
        self.fates: list[Fate] = []
        self.always: Fate = "good"
        self.sent: list[bytes] = []
        self.marks = 0
        self.in_flight = self.in_flight_max = 0
        self.delay: Callable[[], float] = lambda: delay_s
        self._silence_s = silence_s
        self._up = asyncio.Event()
        if up:
            self._up.set()

    @property
    def up(self) -> bool:
        return self._up.is_set()

    def connect(self) -> None:
        self.connections += 1
        self._up.set()

    def cut(self) -> None:
        self._up.clear()

    async def ready(self) -> None:
        await self._up.wait()

    async def send(self, content: bytes, marks: Mapping[str, str]) -> Answer:
        assert set(marks) == {"vx-key", "vx-sig"}
        self.sent.append(content)
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            return await self._fated(lambda: self.backend.receive(content))
        finally:
            self.in_flight -= 1

    async def mark(self, epoch: str, nonce: str) -> Answer:
        self.marks += 1
        return await self._fated(lambda: self.backend.ack(epoch, nonce))

    async def aclose(self) -> None:
        return

    async def _fated(self, answer: Callable[[], Ack]) -> Answer:
        fate = self.fates.pop(0) if self.fates else self.always
        if not self.up:
            return Retry("not connected")
        await asyncio.sleep(self.delay() / 2)
        if isinstance(fate, Retry | Refused | Acked):
            return fate
        ack = answer() if fate in ("good", "lost", "forged") else None
        await asyncio.sleep(self.delay() / 2)
        if ack is None or fate == "lost":
            await asyncio.sleep(self._silence_s)
            return Retry("no answer")
        return acked(ack, STRANGER if fate == "forged" else KEY)
