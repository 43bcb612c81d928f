"""The real backend's books and ingest, in this process: served over the simulated network, killed as it is, restored from a backup."""

import asyncio
import shutil
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random  # noqa: TID251  the type alone; chance is handed in
from typing import Any, TypeVar

from sqlalchemy import Connection

from agent.billing.access import Access
from agent.billing.access.denied import Revoked, TooMany, UnknownDevice
from agent.billing.access.registration import Minting
from agent.billing.access.robots import issued
from agent.billing.access.robots.authority import authority_of
from agent.billing.fleet import Fleet
from agent.billing.http.metrics import Attended, Metrics
from agent.billing.ingest import Answered, Ingest
from agent.billing.ingest.window import Window
from agent.billing.ledger import Store, devices
from agent.clock import Clock, seeded
from agent.contract import wire
from agent.contract.registration import registering, requesting
from agent.contract.signing import SEED_BYTES, SigningKey
from agent.errors import BadInput
from agent.sim.simulated.broker import Broker, Message
from agent.sim.simulated.network import Trace
from agent.sim.world.witnessed import copied

T = TypeVar("T")

CONSUMERS = 2
"""Side by side, each with several messages at once: answers overtake each other."""

WORK_MS_MAX = 20.0
"""Of a step of the disk."""

SLOW_SHARE, SLOW_MS_MAX = 0.05, 2_000.0
"""Of its steps are slow."""

UNCONFIRMED_SHARE = 0.02
"""Of messages are taken and committed, and then the consumer is gone before it could say so: they come again."""


CROWDED = Window(batches_max=6, easy=4, full=24)
"""A few robots are a crowd: windows shrink, and some are turned away."""


TOKEN_HOURS = 24


class Down(ConnectionError):
    """There is no backend now."""


class SlowStore(Store):
    """Real books on a disk that takes its time, before a commit and before it says so: other batches, and kills, come between."""

    def __init__(self, folder: Path, clock: Clock, chance: Random) -> None:
        super().__init__(folder, clock)
        self._chance = chance

    async def write(self, work: Callable[[Connection], T]) -> T:
        await self._pause()
        done = await super().write(work)
        await self._pause()
        return done

    async def read(self, work: Callable[[Connection], T]) -> T:
        await self._pause()
        return await super().read(work)

    async def _pause(self) -> None:
        most = SLOW_MS_MAX if self._chance.random() < SLOW_SHARE else WORK_MS_MAX
        await asyncio.tasks.sleep(self._chance.uniform(0, most) / 1000)


class Backend:
    """One folder, and whoever serves it now."""

    def __init__(self, folder: Path, clock: Clock, seed: int, broker: Broker, trace: Trace, *, vouches: bool = False) -> None:
        """With `vouches` it vouches for robots, who enrol and show their API keys; without it they are known as they are."""
        self.folder = folder
        self._vouches = vouches
        self._access: Access | None = None
        self._clock, self._broker, self._trace = clock, broker, trace
        self._chance = seeded(seed)
        self._key = SigningKey.from_seed(self._chance.randbytes(SEED_BYTES))
        self._store: Store | None = None
        self._ingest: Attended | None = None
        self._fleet: Fleet | None = None
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._backups = 0
        self.asked_at_once_max = 0
        """The most batches and questions that were under way together."""
        self._asked = 0

    @property
    def trusted(self) -> Mapping[str, bytes]:
        """Whose acks are genuine."""
        return {self._key.key_id: self._key.public}

    @property
    def key(self) -> SigningKey:
        """For whoever has stolen it."""
        return self._key

    async def start(self) -> None:
        self._store = SlowStore(self.folder, self._clock, self._chance)
        authority = await authority_of(self._store, self.folder, self._clock) if self._vouches else None
        access = self._access = Access(self._store, self._key, self._clock, authority)
        ingest = Ingest(self._store, self._key, self._clock, CROWDED)
        access.listen(ingest.forget)
        self._ingest = Attended(ingest, access, Metrics(), self._clock)
        self._fleet = Fleet(self._store, self._key, self._clock)
        self._trace.note("backend", self._store.backend_id)
        for _ in range(CONSUMERS):
            self._begin(self._consuming())

    async def register(self, tenant: str, device: str, account: str, public: bytes) -> None:
        now = self._clock.utc().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        assert self._store is not None
        await self._store.write(lambda connection: devices.register(connection, tenant, device, account, public, now))

    async def enrol(self, tenant: str, device: str, account: str, key: SigningKey, csr: str) -> tuple[str, bytes]:
        """By a one-time token: the robot's API key, and its first certificate, PEM."""
        assert self._access is not None
        token = await self._access.mint(Minting(tenant, account, device), TOKEN_HOURS)
        told = await self._access.register(registering(token, tenant, device, key, csr))
        assert told.certificate is not None
        return told.api_key, told.certificate.encode()

    async def certify(self, tenant: str, device: str, api_key: str, csr: str, key: SigningKey) -> bytes | None:
        """Another certificate, PEM; None for a robot that was struck off. Raises Down, or what the backend refuses a request with."""
        access = self._there()

        async def work() -> bytes | None:
            try:
                caller = await access.who(api_key)
            except Revoked:
                return None
            return (await access.robots.renew(caller, device, requesting(tenant, device, csr, key))).certificate.encode()

        return await self._whole(work())

    async def known(self, api_key: str) -> bool:
        """Whether the robot that shows it is still one of ours. Raises Down."""
        access = self._there()

        async def work() -> bool:
            try:
                await access.who(api_key)
            except Revoked:
                return False
            return True

        return await self._whole(work())

    async def revoke(self, tenant: str, device: str) -> frozenset[int]:
        """Strikes a robot off; the serials that brokers are to refuse."""
        store, access = self._store, self._there()
        assert store is not None
        await access.robots.revoke(tenant, device)
        authority, now = access.robots.authority, self._clock.utc()
        assert authority is not None
        lists = await store.read(lambda connection: issued.revoked(connection, authority, now))
        return frozenset(serial for lost in lists for serial in lost)

    async def take(self, tenant: str, device: str, content: bytes, marks: Mapping[str, str]) -> Answered:
        """Raises Down without a backend, or if it is killed before it answers."""
        return await self._served(lambda ingest: ingest.take(tenant, device, content, marks))

    async def mark(self, tenant: str, device: str, epoch: str, nonce: str) -> Answered:
        """As `take`."""
        return await self._served(lambda ingest: ingest.mark(tenant, device, epoch, nonce))

    async def kill(self, down_s: float) -> None:
        """Gone at once; what its files hold is what the next one begins with."""
        self._trace.note("backend killed")
        if self._store is not None:
            store, self._store, self._ingest, self._fleet = self._store, None, None, None
            left = copied(self.folder, self.folder.with_name(self.folder.name + ".left"))
            await self._end()
            store.abandon()
            shutil.rmtree(self.folder)
            left.rename(self.folder)
        await asyncio.tasks.sleep(down_s)
        if self._store is None:
            await self.start()

    async def backup(self) -> None:
        if self._store is not None:
            self._backups += 1
            await self._store.backup(self._backup)

    async def aclose(self) -> None:
        store, self._store, self._ingest, self._fleet = self._store, None, None, None
        await self._end()
        if store is not None:
            await store.aclose()

    @property
    def _backup(self) -> Path:
        return self.folder.with_name(f"backup-{self._backups}.db")

    async def _served(self, ask: Callable[[Attended], Coroutine[Any, Any, Answered]]) -> Answered:
        if self._ingest is None:
            raise Down("connection refused")
        self._asked += 1
        self.asked_at_once_max = max(self.asked_at_once_max, self._asked)
        try:
            return await self._whole(ask(self._ingest))
        finally:
            self._asked -= 1

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Raises Down if it is killed before that is done."""
        task = self._begin(work)
        await asyncio.wait((task,))
        if task.cancelled():
            raise Down("the connection was cut")
        return task.result()

    def _there(self) -> Access:
        if self._access is None or self._store is None:
            raise Down("connection refused")
        return self._access

    async def _consuming(self) -> None:
        """One consumer of the shared subscription: as many messages at once as it lets the broker give it."""
        room = asyncio.Semaphore(wire.RECEIVE_MAX)
        while True:
            await room.acquire()
            message = await self._broker.take()
            self._begin(self._consumed(message)).add_done_callback(lambda _: room.release())

    async def _consumed(self, message: Message) -> None:
        """Commits, answers, and only then confirms."""
        try:
            if message.what not in ("batch", "mark"):
                await self._heard(message)
                self._broker.confirm(message)
                return
            answered = await self._answered(message)
            marks = {**answered.marks} | ({wire.REFUSED: answered.refusal.code} if answered.refusal else {})
            self._trace.note("answers", message.device, answered.content)
            self._broker.answer(Message("ack", message.tenant, message.device, answered.content, marks, message.correlation))
            if self._chance.random() >= UNCONFIRMED_SHARE:
                self._broker.confirm(message)
        except Down:
            pass
        finally:
            self._broker.give_back(message)

    async def _heard(self, message: Message) -> None:
        """What is no batch: taken in and answered, or dropped where nobody can use it."""
        if self._fleet is None:
            raise Down("connection refused")
        work = self._fleet.hear(message.tenant, message.device, message.what, message.content, retained=message.retained)
        with suppress(BadInput, TooMany, UnknownDevice):
            for reply in await self._whole(work):
                self._broker.answer(Message(reply.what, message.tenant, message.device, reply.content, {}, b"", reply.retained))

    async def _answered(self, message: Message) -> Answered:
        if message.what == "batch":
            return await self.take(message.tenant, message.device, message.content, message.marks)
        question = wire.read_question(message.content)
        return await self.mark(message.tenant, message.device, question.epoch, question.nonce)

    def _begin(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda ended: self._tasks.pop(ended, None))
        return task

    async def _end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
