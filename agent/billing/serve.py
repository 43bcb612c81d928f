"""Puts the backend together and runs it until it is stopped: books, key, ingest, door, consumers, HTTP, all in one event loop.

books locked -> key -> door, consumers, HTTP -> ready -> (stopped) HTTP finishes -> consumers finish -> books closed
"""

import asyncio
import contextlib
import ipaddress
import resource
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from agent.billing.access import Access
from agent.billing.access.keyfile import key_of
from agent.billing.access.robots.authority import DAYS, authority_of
from agent.billing.http import app
from agent.billing.http.backend import Backend
from agent.billing.http.connection import HEAD_S, connection_of
from agent.billing.http.gate import Limits, Network
from agent.billing.http.metrics import Attended, Metrics
from agent.billing.ingest import Ingest
from agent.billing.ledger import Store
from agent.billing.mqtt import Consumer
from agent.billing.operate import answering
from agent.clock import Clock
from agent.errors import BadInput, VoxmeterError
from agent.link.tls import check_plain
from agent.ports import LinkSettings

CONNECTIONS_MAX = 4096
"""At once over HTTP, some 100 MB; more are answered 503 and come again later."""

FILES_SPARE = 256
"""Descriptors besides connections: books, readers, brokers."""

KEEP_S = 75
"""An idle connection is kept a little longer than a robot keeps it, so that no request meets a closed one."""

PORT_MAX = 65535

FINISH_S = 10
"""For what is being answered when the backend is told to stop; live streams end at once."""


@dataclass(frozen=True, slots=True)
class Broker:
    """The way to the MQTT broker."""

    host: str
    port: int
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    plain: bool = False
    consumers: int = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """What `billing serve` is told."""

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8443
    """0: any that is free."""
    certificate: Path | None = None
    """PEM, with the chain; `key` beside it or in it."""
    key: Path | None = None
    plain: bool = False
    """Without TLS; only on this machine itself."""
    limits: Limits = field(default_factory=Limits)
    broker: Broker | None = None
    devices: tuple[Path, Path] | None = None
    """Certificate and key, PEM, of the authority that vouches for robots; None: the backend's own."""
    certificate_days: int = DAYS
    """How long a robot's certificate lives."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Where the backend listens now."""

    host: str
    port: int
    tls: bool
    backend_id: str
    key_id: str
    folder: str

    @property
    def line(self) -> str:
        """For a person."""
        return f"ready: {self.host}:{self.port}{'' if self.tls else ' without TLS'}, backend {self.backend_id}, books in {self.folder}"


def broker_at(
    address: str | None,
    authority: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    *,
    plain: bool = False,
    consumers: int = 2,
) -> Broker | None:
    """A broker as the command line names it, `HOST:PORT`. Raises BadInput."""
    if address is None:
        return None
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port[:6]) <= PORT_MAX:
        raise BadInput(f"{address[:100]!r} is no broker", "give HOST:PORT")
    return Broker(host.strip("[]"), int(port), authority, certificate, key, plain, consumers)


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Raises BadInput for what is no network."""
    try:
        return tuple(ipaddress.ip_network(text) for text in texts)
    except ValueError as error:
        raise BadInput(f"--allow: {error}", "give a network such as 192.0.2.0/24") from error


async def serve(settings: Settings, clock: Clock, ready: Callable[[Ready], None], say: Callable[[str], None]) -> None:
    """Runs until cancelled. Raises BadInput, BadProfile or LedgerBusy for what keeps it from starting."""
    context = _tls(settings)
    store = Store(settings.folder, clock)
    try:
        with listening(settings) as listener:
            await _run(settings, clock, store, _Http(context, listener, ready), say)
    finally:
        await store.aclose()


@dataclass(frozen=True, slots=True)
class _Http:
    context: ssl.SSLContext | None
    listener: socket.socket
    ready: Callable[[Ready], None]


async def _run(settings: Settings, clock: Clock, store: Store, http: _Http, say: Callable[[str], None]) -> None:
    key, metrics = await key_of(store, settings.folder, clock), Metrics()
    authority = await authority_of(store, settings.folder, clock, days=settings.certificate_days, given=settings.devices)
    access, ingest = Access(store, key, clock, authority), Ingest(store, key, clock)
    await access.robots.publish()
    attended = Attended(ingest, access, metrics, clock)
    api = app(store, attended, access, key, clock, limits=settings.limits, metrics=metrics)
    server = _Server(api, http, settings.limits)
    try:
        async with answering(settings.folder, store, access), asyncio.TaskGroup() as group:
            for number, link in enumerate(_links(settings.broker), 1):
                group.create_task(Consumer(link, attended, key, clock, number=number, say=say).run())
            host, port = http.listener.getsockname()[:2]
            found = Ready(host, port, http.context is not None, store.backend_id, key.key_id, str(settings.folder))
            await _until_stopped(server, lambda: http.ready(found), ingest, api.state.backend)
    except* VoxmeterError as failed:
        raise next(_leaves(failed)) from failed


async def _until_stopped(server: "_Server", ready: Callable[[], None], ingest: Ingest, parts: Backend) -> None:
    """Answers until cancelled; then takes no more, ends the streams and finishes what is under way."""
    serving = asyncio.create_task(server.serve_until_told())
    begun = asyncio.create_task(server.begun.wait())
    try:
        await asyncio.wait({serving, begun}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            ready()
        await asyncio.shield(serving)
    finally:
        begun.cancel()
        parts.stopping.set()
        ingest.close()
        server.should_exit = True
        await asyncio.wait({serving})


class _Server(uvicorn.Server):
    """The web server, without its own way of taking signals: who runs it stops it."""

    def __init__(self, api: Any, http: _Http, limits: Limits) -> None:
        context = http.context
        super().__init__(
            uvicorn.Config(
                api,
                lifespan="off",
                http=connection_of(limits),
                ws="websockets-sansio",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,  # whoever sets X-Forwarded-For would choose the address we count and allow by
                limit_concurrency=CONNECTIONS_MAX,
                timeout_keep_alive=KEEP_S,
                timeout_graceful_shutdown=FINISH_S,
                ssl_context_factory=(lambda _config, _default: context) if context else None,
                ws_max_size=1024,  # watchers have nothing to say
            )
        )
        self._listener = http.listener
        self.begun = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """The base would leave a peer a minute for TLS, so it opens nothing itself."""
        await super().startup([])
        for one in sockets or ():
            self.servers.append(await self._opened(one))
        self.begun.set()

    async def _opened(self, listener: socket.socket) -> asyncio.Server:
        config = self.config

        def connection() -> asyncio.Protocol:
            found: Any = config.http_protocol_class
            return found(config=config, server_state=self.server_state, app_state=self.lifespan.state)  # type: ignore[no-any-return]

        hurry = HEAD_S if config.ssl else None
        loop, backlog = asyncio.get_running_loop(), config.backlog
        return await loop.create_server(connection, sock=listener, ssl=config.ssl, backlog=backlog, ssl_handshake_timeout=hurry)

    async def serve_until_told(self) -> None:
        await self.serve([self._listener])


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.plain:
        if settings.certificate:
            raise BadInput("--plain and --certificate exclude each other", "give one of them")
        check_plain(settings.host)
        return None
    if settings.certificate is None:
        raise BadInput(
            "without a certificate nobody can speak to the backend safely", "give --certificate and --key, or --plain on loopback"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.certificate, settings.key, password=lambda: "")
    except ssl.SSLError as error:
        raise BadInput(
            f"{settings.certificate}: no certificate with its key in PEM: {error.reason or error}", "check both files"
        ) from error
    except OSError as error:
        missing = next((one for one in (settings.certificate, settings.key) if one and not one.is_file()), settings.certificate)
        raise BadInput(f"{missing}: {error.strerror or error}", "name a readable certificate and its key") from error
    return context


@contextlib.contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """A socket on the address asked for, and descriptors for all who may come."""
    if not 0 <= settings.port <= PORT_MAX:
        raise BadInput(f"{settings.port} is no port", f"choose a --port up to {PORT_MAX}, or 0 for any")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, CONNECTIONS_MAX + FILES_SPARE)), hard))
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=CONNECTIONS_MAX)
    except OSError as error:
        raise BadInput(f"{settings.host}:{settings.port}: {error.strerror or error}", "choose another --host or --port") from error
    with listener:
        # Connections inherit it. Without it an answer's second piece waits some 40 ms for the robot to confirm the first.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener


def _links(broker: Broker | None) -> list[LinkSettings]:
    if broker is None:
        return []
    try:
        authority = broker.authority.read_text() if broker.authority else ""
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{broker.authority}: {getattr(error, 'strerror', '') or 'not PEM'}", "name the broker's authority") from error
    link = LinkSettings("billing", "billing", broker.host, broker.port, authority, broker.certificate, broker.key, plain=broker.plain)
    return [link] * broker.consumers


def _leaves(failed: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    for one in failed.exceptions:
        if isinstance(one, BaseExceptionGroup):
            yield from _leaves(one)
        else:
            yield one
