"""The web server the backend stands on: its socket, its TLS, its limits; whoever runs it stops it."""

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import uvicorn

from agent.billing.http.connection import HEAD_S, connection_of
from agent.billing.http.gate import Limits
from agent.errors import BadInput
from agent.link.tls import check_plain

CONNECTIONS_MAX = 4096
"""At once over HTTP, some 100 MB; more are answered 503 and come again later."""

FILES_SPARE = 256
"""Descriptors besides connections: books, readers, brokers."""

KEEP_S = 75
"""An idle connection is kept a little longer than a robot keeps it, so that no request meets a closed one."""

FINISH_S = 10
"""For what is being answered when the backend is told to stop; live streams end at once."""

PORT_MAX: Final = 65535


class Listens(Protocol):
    """Where to listen, and as whom; see `serve.Settings`."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def certificate(self) -> Path | None: ...

    @property
    def key(self) -> Path | None: ...

    @property
    def plain(self) -> bool: ...


class Server(uvicorn.Server):
    """The web server, without its own way of taking signals: who runs it stops it."""

    def __init__(self, api: Any, listener: socket.socket, context: ssl.SSLContext | None, limits: Limits) -> None:
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
        self._listener = listener
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


def tls(asked: Listens) -> ssl.SSLContext | None:
    """None: without. Raises BadInput or BadProfile for what nobody should listen with."""
    if asked.plain:
        if asked.certificate:
            raise BadInput("--plain and --certificate exclude each other", "give one of them")
        check_plain(asked.host)
        return None
    if asked.certificate is None:
        raise BadInput(
            "without a certificate nobody can speak to the backend safely", "give --certificate and --key, or --plain on loopback"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(asked.certificate, asked.key, password=lambda: "")
    except ssl.SSLError as error:
        raise BadInput(f"{asked.certificate}: no certificate with its key in PEM: {error.reason or error}", "check both files") from error
    except OSError as error:
        missing = next((one for one in (asked.certificate, asked.key) if one and not one.is_file()), asked.certificate)
        raise BadInput(f"{missing}: {error.strerror or error}", "name a readable certificate and its key") from error
    return context


@contextlib.contextmanager
def listening(asked: Listens) -> Iterator[socket.socket]:
    """A socket on the address asked for, and descriptors for all who may come. Raises BadInput."""
    if not 0 <= asked.port <= PORT_MAX:
        raise BadInput(f"{asked.port} is no port", f"choose a --port up to {PORT_MAX}, or 0 for any")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, CONNECTIONS_MAX + FILES_SPARE)), hard))
    try:
        family = socket.getaddrinfo(asked.host, asked.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((asked.host, asked.port), family=family, backlog=CONNECTIONS_MAX)
    except OSError as error:
        raise BadInput(f"{asked.host}:{asked.port}: {error.strerror or error}", "choose another --host or --port") from error
    with listener:
        # Connections inherit it. Without it an answer's second piece waits some 40 ms for the robot to confirm the first.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener
