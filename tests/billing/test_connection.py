"""Connections of a real server: whoever is silent is let go, and no address takes all the room."""

import asyncio
import contextlib
import ipaddress
import ssl
from pathlib import Path

import pytest

from agent.billing import server
from agent.billing.http import connection
from agent.billing.http.connection import STRANGERS_MAX
from agent.billing.http.gate import Limits
from tests.billing.test_http_live import HOST, WAIT_S, Live, with_live

WHOLE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD_S = 0.3


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (connection, server):
        monkeypatch.setattr(module, "HEAD_S", HEAD_S)


class Peer:
    """A stranger with an open connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, live: Live, *, tls: bool = True) -> "Peer":
        return cls(*await asyncio.open_connection(HOST, live.ready.port, ssl=live.context if tls else None))

    async def is_closed(self) -> bool:
        """Within WAIT_S."""
        async with asyncio.timeout(WAIT_S):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                return not await self.reader.read()
        return True

    async def status(self, request: bytes = WHOLE) -> int:
        """0: there was no answer."""
        with contextlib.suppress(ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            self.writer.write(request)
            async with asyncio.timeout(WAIT_S):
                head = await self.reader.readuntil(b"\r\n\r\n")
                await self.reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))
            return int(head.split()[1])
        return 0

    def end(self) -> None:
        self.writer.transport.abort()


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("begun", [b"", b"GET /healthz HTTP/1.1\r\nHost", WHOLE * 2 + b"GET /"], ids=["silent", "half", "next"])
def test_whoever_sends_no_whole_head_is_let_go(tmp_path: Path, begun: bytes) -> None:
    async def run(live: Live) -> None:
        peer = await Peer.of(live)
        if begun.count(b"\r\n\r\n"):
            assert await peer.status() == 200
            peer.writer.write(b"GET /")
        else:
            peer.writer.write(begun)
        assert await peer.is_closed()
        peer.end()

    with_live(tmp_path, run)


@pytest.mark.usefixtures("hasty")
def test_whoever_speaks_no_tls_is_let_go(tmp_path: Path) -> None:
    async def run(live: Live) -> None:
        peer = await Peer.of(live, tls=False)
        assert await peer.is_closed()
        peer.end()

    with_live(tmp_path, run)


@pytest.mark.usefixtures("hasty")
def test_whoever_has_been_answered_and_whoever_follows_stay(tmp_path: Path) -> None:
    async def run(live: Live) -> None:
        peer = await Peer.of(live)
        assert await peer.status() == 200
        async with live.watch(await live.reader()) as watched:
            await asyncio.sleep(3 * HEAD_S)
            assert await peer.status() == 200
            await (await watched.ping())
        peer.end()

    with_live(tmp_path, run)


def test_an_address_has_so_many_connections_live_streams_included(tmp_path: Path) -> None:
    async def run(live: Live) -> None:
        async with live.watch(await live.reader()):
            one, two, three = [await Peer.of(live) for _ in range(3)]
            assert [await peer.status() for peer in (one, two, three)] == [200, 200, 0]
            one.end()
            while not await (late := await Peer.of(live)).status():
                late.end()
            for peer in (two, three, late):
                peer.end()

    with_live(tmp_path, run, limits=Limits(connections=3))


def test_strangers_are_told_so_but_keep_nobody_out(tmp_path: Path) -> None:
    async def run(live: Live) -> None:
        peers = [await Peer.of(live) for _ in range(STRANGERS_MAX + 2)]
        assert [await peer.status() for peer in peers] == [403] * STRANGERS_MAX + [0] * 2
        for peer in peers:
            peer.end()

    with_live(tmp_path, run, limits=Limits(allowed=(ipaddress.ip_network("192.0.2.0/24"),)))
