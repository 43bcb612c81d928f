"""Takes batches in: checks who sent them, commits what is new, answers with a signed ack, and tells whoever watches.

    size -> key and signature -> form -> whose it is -> one transaction -> ack

What a robot sends can be refused, quarantined or rejected, but never raises. Only a database that refuses does.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError
from sqlalchemy import Connection

from agent.billing.access.credentials import struck_off
from agent.billing.ingest.books import Arrived, Taken, TooManyRanges, commit
from agent.billing.ingest.books.former import may_sign
from agent.billing.ingest.books.rows import find_epoch
from agent.billing.ingest.dating import Receipt
from agent.billing.ingest.decide import unknown
from agent.billing.ingest.judge import Judged, problem
from agent.billing.ingest.watching import Watcher, Watchers
from agent.billing.ingest.window import Window
from agent.billing.ledger import Store, devices
from agent.billing.ledger.devices import UsageKey
from agent.clock import Clock
from agent.contract import ack
from agent.contract.ack import Ack, HeldRange, Reject
from agent.contract.batch import BATCH_BYTES_MAX, BatchContent, BatchTooBig, read
from agent.contract.record import first_problem, source_of
from agent.contract.signing import KEY_MARK, SigningKey, UnknownKey, check_signed, signed
from agent.contract.wire import MarkQuestion, Refusal, written
from agent.errors import BadInput

KEYS_MAX = 20_000
"""Usage keys remembered, about 10 MiB; the rest is looked up."""

RANGES_TOLD_MAX = 512
"""Of an ack: with 500 rejects it stays below what an ack may be."""

KEY_WAIT_MS = 60_000
"""Before a robot whose key nobody knows tries again: somebody has to register it."""

GAPS_WAIT_MS = 10_000
"""Before a robot tries again that must send something else first."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What goes back to the robot: a signed ack, or a signed refusal."""

    content: bytes
    marks: Mapping[str, str]
    """`{vx-key, vx-sig}`."""
    refusal: Refusal | None = None
    """Nothing was taken, and why; `content` is this, written."""
    fork: bool = False
    """Records of the batch contradict what is held: over HTTP 409, with the ack as body."""


class _Refused(Exception):
    """Nothing is taken."""

    def __init__(self, code: str, message: str, retry_after_ms: int = 0) -> None:
        super().__init__(message)
        self.refusal = Refusal(code=code, message=message[:1000], retry_after_ms=retry_after_ms)


class Ingest:
    """The way in, whatever link a batch came by."""

    def __init__(self, store: Store, key: SigningKey, clock: Clock, window: Window | None = None) -> None:
        self._store, self._key, self._clock = store, key, clock
        self._window = window or Window()
        self._keys: dict[str, UsageKey] = {}
        self._forgotten = 0
        self._watchers = Watchers()
        self.waiting = 0
        """Batches that are being taken."""
        self.counts: Counter[str] = Counter()
        """Since the start: batches, records, duplicates, forks, rejects, refused, marks."""

    def watch(self) -> Watcher:
        """What is billed from now on: an async iterator over lists of
        `{tenant, device, epoch, sequence, turn_id, stage, model, placement, day, time, outcome, origin, figures, billed_tokens?, amount?,
        currency?}`, figures being raw quantities by class. Close it when done; one that does not keep up ends by itself.
        """
        return self._watchers.watch()

    async def take(self, tenant: str, device: str, content: bytes, marks: Mapping[str, str]) -> Answered:
        """The answer to a batch that came over the link of this device. Raises LedgerFull or LedgerDamaged where the database refuses."""
        self.waiting += 1
        try:
            arrived = await self._checked(tenant, device, content, marks)
            taken = await self._store.write(lambda connection: commit(connection, arrived))
        except _Refused as refused:
            return self._refuse(refused.refusal)
        except TooManyRanges as error:
            return self._refuse(_Refused(error.code, str(error), GAPS_WAIT_MS).refusal)
        finally:
            self.waiting -= 1
        return self._acked(arrived, taken)

    async def mark(self, tenant: str, device: str, epoch: str, nonce: str) -> Answered:
        """The answer to the question what is held of an epoch."""
        self.counts["marks"] += 1
        try:
            question = MarkQuestion(epoch=epoch, nonce=nonce)
        except ValidationError as error:
            return self._refuse(_Refused("bad-question", f"the question for the mark is wrong: {first_problem(error)}").refusal)
        owner = await self._store.read(lambda connection: devices.find(connection, tenant, device))
        if owner is None:
            return self._refuse(_Refused("unknown-device", f"{tenant}/{device} is not registered", KEY_WAIT_MS).refusal)
        row = await self._store.read(lambda connection: find_epoch(connection, owner.id, question.epoch))
        taken = Taken(row.books, row.durable) if row else Taken(unknown(epoch), 0)
        return self._answer(device, epoch, taken, [], question.nonce)

    def forget(self) -> None:
        """A credential was revoked: whose it was is looked up anew, for a robot that has none any more is refused."""
        self._keys.clear()
        self._forgotten += 1  # what is being looked up just now must not be remembered

    def close(self) -> None:
        """Ends all watching."""
        self._watchers.close()

    async def _checked(self, tenant: str, device: str, content: bytes, marks: Mapping[str, str]) -> Arrived:
        if wait_ms := self._window.turned_away(self.waiting):
            raise _Refused("busy", "too many batches wait", wait_ms)
        if len(content) > BATCH_BYTES_MAX:
            raise _Refused("too-big", f"the batch has {len(content)} bytes; the most is {BATCH_BYTES_MAX}")
        key = await self._signer(tenant, device, content, marks)
        try:
            batch = read(content)
        except BatchTooBig as error:
            raise _Refused("too-big", str(error)) from error
        except BadInput as error:
            raise _Refused("bad-batch", str(error)) from error
        if key.superseded and not await self._store.read(lambda connection: may_sign(connection, key.key_id, batch.epoch, batch.last)):
            raise _Refused("unknown-key", "another key has followed the one that signed this batch", KEY_WAIT_MS)
        judged = _judged(batch, tenant, device)
        receipt = Receipt.at(self._clock.utc())
        return Arrived(key.device, key.key_id, batch, judged, receipt, first_use=not key.used, watched=bool(self._watchers))

    async def _signer(self, tenant: str, device: str, content: bytes, marks: Mapping[str, str]) -> UsageKey:
        key_id = marks.get(KEY_MARK)
        key, gone = await self._known(key_id) if isinstance(key_id, str) else (None, False)
        trusted = {key.key_id: key.public} if key else {}
        try:
            check_signed(content, marks, trusted, what="the batch")
        except UnknownKey as error:
            raise _Refused("unknown-key", str(error), KEY_WAIT_MS) from error
        except BadInput as error:
            raise _Refused("bad-signature", str(error)) from error
        assert key is not None
        if (key.device.tenant, key.device.name) != (tenant, device):
            raise _Refused("forbidden", f"the batch is signed by a key of another device than {tenant}/{device}")
        if gone:  # a broker lets it in until it reads its list anew; what it keeps it brings when it is enrolled again
            raise _Refused("revoked", f"{tenant}/{device} has been struck off", KEY_WAIT_MS)
        return key

    async def _known(self, key_id: str) -> tuple[UsageKey | None, bool]:
        """The key, and whether its robot was struck off; such a one is not remembered, it may be enrolled again."""
        if (held := self._keys.get(key_id)) is not None:
            return held, False
        forgotten = self._forgotten
        key, gone = await self._store.read(lambda connection: _owned(connection, key_id))
        if key is not None and not gone and forgotten == self._forgotten:
            if len(self._keys) >= KEYS_MAX:
                self._keys.clear()
            self._keys[key_id] = key
        return key, gone

    def _acked(self, arrived: Arrived, taken: Taken) -> Answered:
        if taken.keys_changed:
            self._keys = {key_id: key for key_id, key in self._keys.items() if key.device.id != arrived.device.id}
        self._watchers.tell(taken.seen)
        gone = set(taken.forked)
        rejects = [Reject(sequence=one.sequence, code="invalid", final=True) for one in arrived.judged if one.problem]
        rejects = [one for one in rejects if one.sequence not in gone]
        if gone:
            rejects.append(Reject(sequence=min(gone), code="fork", final=False))
        self.counts.update(batches=1, records=taken.stored, duplicates=taken.duplicates, forks=len(gone), rejects=len(rejects))
        return self._answer(arrived.device.name, arrived.batch.epoch, taken, rejects)

    def _answer(self, device: str, epoch: str, taken: Taken, rejects: list[Reject], nonce: str | None = None) -> Answered:
        window_batches, not_before_ms = self._window.at(self.waiting)
        told = Ack(
            device=device,
            epoch=epoch,
            cum_ack=taken.books.cum,
            head_hash=taken.books.head.hex(),
            ranges=_joined(taken),
            rejects=rejects,
            durable_through=taken.durable,
            backend_id=self._store.backend_id,
            nonce=nonce,
            window_batches=window_batches,
            not_before_ms=not_before_ms,
            server_time=Receipt.at(self._clock.utc()).text,
        )
        return Answered(*ack.write(told, self._key), fork=bool(taken.forked))

    def _refuse(self, refusal: Refusal) -> Answered:
        self.counts["refused"] += 1
        content = written(refusal)
        return Answered(content, signed(content, self._key), refusal)


def _owned(connection: Connection, key_id: str) -> tuple[UsageKey | None, bool]:
    key = devices.device_of_key(connection, key_id)
    return key, key is not None and bool(struck_off(connection, (key.device.tenant, key.device.name)))


def _judged(batch: BatchContent, tenant: str, device: str) -> list[Judged]:
    """Raises _Refused where batch or body is another robot's."""
    if batch.device != device:
        raise _Refused("forbidden", f"the batch is of device {batch.device[:80]!r}, it came from {device!r}")
    source = source_of(tenant, device, batch.epoch)
    found = []
    for (sequence, hash_, body), record in zip(batch.records, batch.decoded, strict=True):
        if record["source"] != source:
            raise _Refused("forbidden", f"record {sequence} is of {record['source'][:200]!r}, it came from {source}")
        found.append(Judged(sequence, hash_, body, record, problem(record, body)))
    return found


def _joined(taken: Taken) -> list[HeldRange]:
    """What is held beyond cum, as far as an ack tells it; neighbours are one to the robot."""
    told: list[HeldRange] = []
    for one in taken.books.ranges:
        if told and told[-1].last + 1 == one.first:
            told[-1] = HeldRange(first=told[-1].first, last=one.last)
        elif len(told) < RANGES_TOLD_MAX:
            told.append(HeldRange(first=one.first, last=one.last))
    return told
