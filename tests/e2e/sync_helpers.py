"""A real mosquitto and a real `voxmeter billing serve` for a module of tests, and robots with real books and real links to both."""

import asyncio
import contextlib
import itertools
import pkgutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import httpx
import orjson
from sqlalchemy import select

from agent import profile as profiles
from agent import upload
from agent.app import ledger_of
from agent.billing.access.keyfile import backend_key
from agent.billing.ledger.sqlite import DATABASE_FILE, reader
from agent.billing.ledger.tables import device, epoch, record
from agent.billing.operate import ordered
from agent.clock import SystemClock
from agent.contract.signing import SigningKey
from agent.link import TRANSPORTS
from agent.metering.record import odometer_of_data
from agent.metering.report import totals
from agent.ports import Acked, Answer, Draft, Link
from agent.profile import Endpoint, Profile, Sync
from agent.sim.real.backend import Backend
from agent.sim.real.broker import HOST, Broker
from agent.sim.real.office import registered
from agent.store import trust
from agent.store.keys import Keys
from agent.store.ledger import SqliteLedger
from agent.store.reading import LedgerReader
from agent.store.waiting import waiting
from agent.sync.worker import Worker
from agent.values import STAGES
from tests.billing.helpers import TENANT, usage

T = TypeVar("T")

CLOCK = SystemClock()

STORY_S = 60
"""A test that takes longer hangs."""

WAYS = ("mqtt", "https")

Through = Callable[[Link], Link]

Bills = dict[str, tuple[int, Decimal, Decimal]]
"""By stage: records, billed tokens, amount."""


class World:
    """Broker and backend; everything asynchronous runs in one loop, which the backend's process belongs to."""

    def __init__(self, folder: Path, broker: Broker, runner: asyncio.Runner) -> None:
        self.folder, self.broker, self._runner = folder, broker, runner
        self.backend = Backend(folder / "backend", broker)
        self._names = itertools.count(1)

    @classmethod
    @contextlib.contextmanager
    def running(cls, folder: Path) -> "Iterator[World]":
        with Broker(folder / "broker") as broker, asyncio.Runner() as runner:
            world = cls(folder, broker, runner)
            try:
                world.play(world.backend.start())
                yield world
            finally:
                world.play(world.backend.stop())

    def play(self, story: Coroutine[Any, Any, T]) -> T:
        async def within() -> T:
            async with asyncio.timeout(STORY_S):
                return await story

        return self._runner.run(within())

    @property
    def key(self) -> SigningKey:
        """The backend's own, for what only a broken backend would sign."""
        return backend_key(self.backend.state, CLOCK)

    async def robot(self) -> "Robot":
        """A new one, registered."""
        robot = self.stranger()
        await registered(robot.profile("https"), "https", robot.state, self.backend, self.broker)
        return robot

    def stranger(self) -> "Robot":
        """A new one that is not registered."""
        name = f"robot-{next(self._names)}"
        return Robot(self, name, self.folder / name)

    def web(self) -> httpx.AsyncClient:
        """A client of the backend's, believing its authority and showing nothing."""
        base = httpx.URL(scheme="https", host=HOST, port=self.backend.port)
        return httpx.AsyncClient(base_url=base, verify=ssl.create_default_context(cadata=self.backend.authority.decode()))

    async def order(self, asked: Mapping[str, Any]) -> Any:
        """What its operator orders of the backend while it runs."""
        return await ordered(self.backend.state, asked, CLOCK)

    async def stored(self, robot: "Robot") -> dict[str, dict[int, bytes]]:
        """The bodies the backend holds of a robot, by epoch and sequence, read from its disk."""

        def look() -> dict[str, dict[int, bytes]]:
            books = reader(self.backend.state / DATABASE_FILE)
            wanted = select(epoch.c.epoch, record.c.sequence, record.c.body).join_from(record, epoch).join(device)
            held: dict[str, dict[int, bytes]] = {}
            try:
                with books.connect() as connection:
                    for name, sequence, body in connection.execute(wanted.where(device.c.name == robot.name)):
                        held.setdefault(name, {})[sequence] = body
            finally:
                books.dispose()
            return held

        return await asyncio.to_thread(look)

    async def billed(self, robot: "Robot") -> Bills:
        return _bills(await self.backend.totals(TENANT, robot.name))


class Robot:
    """One robot and its state folder."""

    def __init__(self, world: World, name: str, folder: Path) -> None:
        self.world, self.name, self.state = world, name, folder / "state"
        self.said: list[str] = []
        folder.mkdir()

    @property
    def key(self) -> SigningKey:
        return Keys(self.state, CLOCK).current

    @property
    def waits(self) -> dict[str, Any]:
        """As `sync status --json` tells it."""
        return waiting(self.state)

    def profile(self, *ways: str) -> Profile:
        """Its own, with these ways to the backend."""
        given = profiles.load("scripted")
        ports = {"mqtt": self.world.broker.port, "https": self.world.backend.port}
        sync = Sync(**{way: Endpoint(host=HOST, port=ports[way]) for way in ways})
        return given.model_copy(update={"device": given.device.model_copy(update={"id": self.name}), "sync": sync})

    def profile_file(self, *ways: str, port: int = 0) -> Path:
        """The same as a file, for a command; `port` in place of the real ones."""
        sync = self.profile(*ways).sync
        text = profiles.find("scripted").read_text().replace("sim-0001", self.name)
        for way in ways:
            text += f'\n[sync.{way}]\nhost = "{HOST}"\nport = {port or getattr(sync, way).port}\n'
        path = self.state.parent / f"{'-'.join(ways)}-{port}.toml"
        path.write_text(text)
        return path

    def link(self, way: str, *, state: Path | None = None, heard: Callable[[Acked], None] = lambda _: None) -> Link:
        """`state`: whose certificate and API key it shows, if not its own."""
        endpoint = upload.endpoints(self.profile(way))[way]
        settings = upload.settings_of(self.profile(way), endpoint, state or self.state, trust.read(self.state).authority, CLOCK)
        made: Link = pkgutil.resolve_name(TRANSPORTS[way])(replace(settings, heard=heard), CLOCK)
        return made

    @contextlib.asynccontextmanager
    async def linked(self, way: str, *, state: Path | None = None) -> AsyncIterator[Link]:
        """A bare link, connected."""
        link = self.link(way, state=state)
        try:
            await link.ready()
            yield link
        finally:
            await link.aclose()

    @contextlib.asynccontextmanager
    async def sending(
        self, *ways: str, through: Through = lambda link: link, state: Path | None = None
    ) -> AsyncIterator[tuple[SqliteLedger, Worker]]:
        """Its books, and a worker over links to the backend; `through` may stand between both."""
        ledger = ledger_of(self.profile(*ways), self.state, CLOCK)
        workers: list[Worker] = []

        def heard(acked: Acked) -> None:
            workers[0].heard(acked)

        links = [through(self.link(way, state=state, heard=heard)) for way in ways]
        trusted = trust.read(self.state).ack_keys
        workers.append(Worker(ledger, links, lambda: trusted, CLOCK, self.said.append, device=self.name))
        try:
            yield ledger, workers[0]
        finally:
            for link in links:
                await link.aclose()
            await ledger.aclose()

    def bills(self) -> Bills:
        """What its own books come to."""
        books = LedgerReader(self.state)
        try:
            return _bills(totals(books.records())["stages"])
        finally:
            books.close()

    def bodies(self) -> dict[str, dict[int, bytes]]:
        """What is on its own books, by epoch and sequence."""
        books = LedgerReader(self.state)
        held: dict[str, dict[int, bytes]] = {}
        try:
            for body in books.bodies():
                name, number = orjson.loads(body)["id"].split(":")
                held.setdefault(name, {})[int(number)] = body
        finally:
            books.close()
        return held


class Between:
    """A real link whose answers pass through somebody's hands."""

    def __init__(self, link: Link, answered: Callable[[str, Answer], Awaitable[Answer]]) -> None:
        """`answered` is told `send` or `mark`, and the genuine answer."""
        self._link, self._answered = link, answered

    @property
    def name(self) -> str:
        return self._link.name

    @property
    def connections(self) -> int:
        return self._link.connections

    @property
    def up(self) -> bool:
        return self._link.up

    async def ready(self) -> None:
        await self._link.ready()

    async def send(self, content: bytes, marks: Mapping[str, str]) -> Answer:
        return await self._answered("send", await self._link.send(content, marks))

    async def mark(self, epoch: str, nonce: str) -> Answer:
        return await self._answered("mark", await self._link.mark(epoch, nonce))

    async def aclose(self) -> None:
        await self._link.aclose()


async def append(ledger: SqliteLedger, count: int, name: str = "t") -> None:
    """So many usage records, some in one transaction."""
    made = [usage(f"{name}-{number}", STAGES[number % 3]) for number in range(count)]
    for begin in range(0, count, 50):
        drafts = [Draft("usage", told, odometer_of_data(told)) for told in made[begin : begin + 50]]
        await ledger.append(drafts)


async def drained(worker: Worker) -> None:
    """Until nothing waits, however often it gives up in between."""
    while not (await worker.drain(STORY_S)).complete:
        pass


async def until(true: Callable[[], object]) -> None:
    while not true():
        await asyncio.sleep(0.01)


def _bills(rows: list[dict[str, Any]]) -> Bills:
    told = {row["stage"]: (row["records"], Decimal(row["billed_tokens"]), Decimal(row["amount"])) for row in rows}
    assert len(told) == len(rows)
    return told
