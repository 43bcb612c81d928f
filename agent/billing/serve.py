"""Puts the backend together and runs it until it is stopped: books, key, ingest, door, consumers, HTTP, all in one event loop.

books locked -> key -> door, consumers, HTTP -> ready -> (stopped) HTTP finishes -> consumers finish -> books closed
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.billing.access import Access
from agent.billing.access.keyfile import key_of
from agent.billing.access.robots.authority import DAYS, authority_of
from agent.billing.fleet import Fleet
from agent.billing.fleet.noticing import Noticing
from agent.billing.fleet.telling import Telling
from agent.billing.http import app
from agent.billing.http.backend import Backend
from agent.billing.http.gate import Limits, Network
from agent.billing.http.metrics import Attended, Metrics
from agent.billing.ingest import Ingest
from agent.billing.ledger import Store
from agent.billing.mqtt import Consumer
from agent.billing.mqtt.fleet import FILTERS, FleetConsumer
from agent.billing.mqtt.publishing import Publishing
from agent.billing.operate import answering
from agent.billing.server import PORT_MAX, Server, listening, tls
from agent.billing.twins import Twins
from agent.clock import Clock
from agent.errors import BadInput, VoxmeterError
from agent.files import read_private
from agent.link.webhook import Webhook
from agent.ports import LinkSettings

SECRET_BYTES_MAX = 1024
"""Of the webhook's secret: no more of the file is read."""


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
    webhook: str = ""
    """Address that is told of alarms; empty: nobody is."""
    webhook_secret: Path | None = None
    """File with the secret that what it is told is signed with."""


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
    context = tls(settings)
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
    access.listen(ingest.forget)
    await access.robots.publish()
    if lost := await access.robots.unlisted():
        say(f"{lost} revoked certificates are on no list: another authority issued them; brokers must not believe that any more")
    hook = _webhook(settings, clock)
    telling = [Telling(store, hook, clock, say)] if hook else []
    twins = Twins(store, key, clock)
    fleet = Fleet(store, key, clock, twins=twins, hooked=telling[0].wake if telling else None, say=say)
    attended = Attended(ingest, access, metrics, clock, fleet.heard)
    api = app(store, attended, access, key, clock, limits=settings.limits, metrics=metrics, fleet=fleet)
    links = list(enumerate(_links(settings.broker), 1))
    taking = [Consumer(link, attended, key, clock, number=number, say=say) for number, link in links]
    hearing = [FleetConsumer(link, fleet, clock, part, say=say) for _, link in links[:1] for part in FILTERS]
    publishing = [Publishing(link, twins, clock, say=say) for _, link in links[:1]]
    noticing = Noticing(fleet, store, clock, listening=lambda: all(one.up for one in hearing), say=say)
    server = Server(api, http.listener, http.context, settings.limits)
    try:
        async with answering(settings.folder, store, access, twins), asyncio.TaskGroup() as group:
            for run in [part.run for part in (*taking, *hearing)] + [noticing.run] + [one.run for one in telling]:
                group.create_task(run())
            for one in publishing:
                group.create_task(one.run())
            host, port = http.listener.getsockname()[:2]
            found = Ready(host, port, http.context is not None, store.backend_id, key.key_id, str(settings.folder))
            await _until_stopped(server, lambda: http.ready(found), ingest, api.state.backend)
    except* VoxmeterError as failed:
        raise next(_leaves(failed)) from failed
    finally:
        if hook:
            await hook.aclose()


def _webhook(settings: Settings, clock: Clock) -> Webhook | None:
    """Raises BadInput or BadProfile."""
    if not settings.webhook:
        if settings.webhook_secret:
            raise BadInput("--webhook-secret-file says how to sign, but no --webhook whom to tell", "give both, or neither")
        return None
    path, secret = settings.webhook_secret, b""
    if path is not None:
        try:
            found = read_private(path, SECRET_BYTES_MAX, "chmod 600 it, and choose another secret if others could read it")
        except OSError as error:
            raise BadInput(f"{path}: {error.strerror or error}", "name a readable file") from error
        secret = (found or b"").strip()
        if not secret:
            raise BadInput(f"{path} holds no secret", "put at least 16 random bytes into it")
    return Webhook(settings.webhook, secret, clock)


async def _until_stopped(server: Server, ready: Callable[[], None], ingest: Ingest, parts: Backend) -> None:
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
