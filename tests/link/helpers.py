"""A server that answers as a test scripts it, over real TLS, and the certificates it needs."""

import asyncio
import datetime
import os
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal

from agent.contract import certificates
from agent.contract.certificates import Certificate

NOW = datetime.datetime.now(datetime.UTC)
DAYS = 30


@dataclass(frozen=True)
class Play:
    """What the server writes when a request is there, and what becomes of the connection."""

    raw: bytes = b""
    then: Literal["keep", "close", "hang", "drip", "corrupt"] = "keep"
    """`drip`: spaces for ever; `corrupt`: bytes that are no TLS record of this connection."""


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class PlayedServer:
    """Answers requests with plays in order, the last one for ever. Listens on loopback while the context is open."""

    plays: Iterable[Play]
    context: ssl.SSLContext | None = None
    asked: list[Asked] = field(default_factory=list)
    accepted: int = 0
    open_most: int = 0
    port: int = 0

    async def __aenter__(self) -> "PlayedServer":
        self._script = list(self.plays)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._met, "127.0.0.1", 0, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open_most = max(self.open_most, len(self._tasks))
        try:
            while await self._answered(reader, writer):
                pass
        except (asyncio.IncompleteReadError, OSError):
            pass  # the other side went away
        finally:
            writer.transport.abort()

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
        self.asked.append(Asked(line, headers, await reader.readexactly(int(headers.get("content-length", "0")))))
        play = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        writer.write(play.raw)
        await writer.drain()
        if play.then == "corrupt":
            os.write(writer.get_extra_info("socket").fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))
            await reader.read()
        while play.then in ("hang", "drip"):
            await asyncio.sleep(0.02)
            writer.write(b" " if play.then == "drip" else b"")
            await writer.drain()
        return play.then == "keep"


def written(status: int, content: bytes = b"", **headers: str) -> bytes:
    """An HTTP answer; underscores in names of headers are hyphens."""
    told = {"content-length": str(len(content))} | {name.replace("_", "-"): value for name, value in headers.items()}
    return b"".join([f"HTTP/1.1 {status} Played\r\n".encode(), *(f"{name}: {told[name]}\r\n".encode() for name in told), b"\r\n", content])


@dataclass(frozen=True)
class Authority:
    """An authority, and contexts of servers it vouches for; files go to `folder`."""

    folder: Path
    own: Certificate = field(default_factory=lambda: certificates.authority("played", NOW, DAYS))

    @property
    def pem(self) -> str:
        return self.own.certificate.decode()

    def server(self, host: str = "127.0.0.1", *, days: int = DAYS, now: datetime.datetime = NOW, clients: str = "") -> ssl.SSLContext:
        """`clients`: PEM of the authority whose certificates clients must show."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._kept(certificates.issue(self.own, "server", now, days, [host])))
        if clients:
            context.load_verify_locations(cadata=clients)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def device(self, name: str) -> tuple[Path, Path]:
        """(certificate, key) of a robot."""
        return self._kept(certificates.issue(self.own, name, NOW, DAYS))

    def _kept(self, issued: Certificate) -> tuple[Path, Path]:
        self.folder.mkdir(exist_ok=True)
        count = len(list(self.folder.iterdir()))
        certificate, key = self.folder / f"{count}.crt", self.folder / f"{count}.key"
        certificate.write_bytes(issued.certificate)
        key.write_bytes(issued.key)
        key.chmod(0o600)
        return certificate, key
