"""A real server over TLS: robots through the real link, live usage over SSE and WebSocket, an end in good order."""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from agent.billing.http import following, usage
from agent.billing.http.gate import Limits
from agent.billing.operate import SOCKET, handed_over
from agent.billing.serve import Ready, Settings, broker_at, networks, serve
from agent.billing.server import listening
from agent.clock import SystemClock
from agent.contract import ack, certificates
from agent.contract.batch import sign
from agent.contract.registration import trusted_of
from agent.contract.signing import SigningKey
from agent.door import answers
from agent.errors import BadInput, BadProfile, LedgerBusy
from agent.link import account
from agent.link.https import HttpsLink
from agent.ports import Acked, LinkSettings, Refused
from tests.billing.helpers import EPOCH, KEY, NAME, TENANT, Robot

HOST = "127.0.0.1"
WAIT_S = 20


class Live:
    """A server in this process, and who may speak to it."""

    def __init__(self, ready: Ready, authority: str, folder: Path) -> None:
        self.ready, self.authority, self.folder = ready, authority, folder
        self.context = ssl.create_default_context(cadata=authority)
        base = httpx.URL(scheme="https", host=ready.host, port=ready.port)
        self.client = httpx.AsyncClient(base_url=base, verify=self.context, timeout=WAIT_S)

    async def order(self, **asked: Any) -> Any:
        return await handed_over(self.folder, asked)

    async def reader(self) -> dict[str, str]:
        told = await self.order(op="keys create", name="reader", scopes=["statements:read"], tenant=TENANT)
        return {"Authorization": f"Bearer {told['api_key']}"}

    async def registered(self) -> LinkSettings:
        token = (await self.order(op="token", tenant=TENANT, account="hotel", device=NAME, hours=1))["token"]
        told = await account.register(self._settings(""), token, KEY)
        assert self.ready.key_id in trusted_of(told.keys)
        return self._settings(told.api_key)

    def _settings(self, token: str) -> LinkSettings:
        return LinkSettings(TENANT, NAME, self.ready.host, self.ready.port, self.authority, token=lambda: token)

    def watch(self, headers: dict[str, str], query: str = "") -> connect:
        port = self.ready.port
        return connect("wss:" + f"//{self.ready.host}:{port}/v1/usage/ws{query}", ssl=self.context, additional_headers=headers)


def with_live(folder: Path, run: Callable[[Live], Awaitable[None]], **settings: Any) -> None:
    async def whole() -> None:
        async with living(folder, **settings) as live, live.client:
            async with asyncio.timeout(60):
                await run(live)

    asyncio.run(whole())


@contextlib.asynccontextmanager
async def living(folder: Path, **settings: Any) -> AsyncIterator[Live]:
    clock = SystemClock()
    vouching = certificates.authority("test", clock.utc(), 1)
    server = certificates.issue(vouching, "billing", clock.utc(), 1, servers=[HOST])
    for name, content in (("crt", server.certificate), ("key", server.key)):
        (folder / name).write_bytes(content)
    ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
    told = Settings(folder / "state", HOST, 0, folder / "crt", folder / "key", **settings)
    serving = asyncio.create_task(serve(told, clock, ready.set_result, lambda line: None))
    either: set[asyncio.Future[Any]] = {serving, ready}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        await serving
    try:
        yield Live(ready.result(), vouching.certificate.decode(), folder / "state")
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            async with asyncio.timeout(WAIT_S):
                await serving


def test_a_robot_registers_and_sends_through_the_real_link(tmp_path: Path) -> None:
    async def run(live: Live) -> None:
        link = HttpsLink(await live.registered(), SystemClock())
        robot = Robot().begin().turns(30)
        batch = robot.batch()
        answer = await link.send(batch.content, sign(batch, KEY))
        assert isinstance(answer, Acked)
        trusted = trusted_of((await live.client.get("/.well-known/jwks.json")).json()["keys"])
        assert ack.read(answer.content, answer.marks, trusted).cum_ack == 31
        mark = await link.mark(EPOCH, "n-1")
        assert isinstance(mark, Acked)
        assert ack.read(mark.content, mark.marks, trusted).nonce == "n-1"
        other = await link.send(batch.content, sign(batch, SigningKey.from_seed(b"o" * 32)))
        assert isinstance(other, Refused)
        assert other.code == "unknown-key"
        await link.aclose()

    with_live(tmp_path, run)


def test_usage_is_told_live_over_both_as_it_is_committed(tmp_path: Path) -> None:
    async def run(live: Live) -> None:
        headers, settings = await live.reader(), await live.registered()
        async with live.client.stream("GET", "/v1/usage/stream", headers=headers) as events, live.watch(headers) as watched:
            lines = events.aiter_lines()
            assert await anext(lines) == ": following"
            await watched.ping()
            robot, link = Robot().begin().turns(6), HttpsLink(settings, SystemClock())
            batch = robot.batch()
            await link.send(batch.content, sign(batch, KEY))
            await link.aclose()
            told = orjson.loads(await watched.recv())
            assert [one["sequence"] for one in told] == [2, 3, 4, 5, 6, 7]
            async for line in lines:
                if line.startswith("data: "):
                    assert orjson.loads(line.removeprefix("data: ")) == told
                    break

    with_live(tmp_path, run)


def test_a_watcher_sees_one_device_if_it_asks_so(tmp_path: Path) -> None:
    async def run(live: Live) -> None:
        headers, settings = await live.reader(), await live.registered()
        async with live.watch(headers, "?device=other") as others, live.watch(headers, f"?device={NAME}") as ours:
            link, batch = HttpsLink(settings, SystemClock()), Robot().begin().turns(1).batch()
            await link.send(batch.content, sign(batch, KEY))
            await link.aclose()
            await ours.recv()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await others.recv()

    with_live(tmp_path, run)


@pytest.mark.parametrize(
    ("headers", "query", "status"), [({}, "", 401), ({"Authorization": "Bearer x"}, "", 401), (None, "?tenant=hostel", 403)], ids=str
)
def test_nobody_watches_what_he_may_not(tmp_path: Path, headers: dict[str, str] | None, query: str, status: int) -> None:
    async def run(live: Live) -> None:
        shown = await live.reader() if headers is None else headers
        with pytest.raises(InvalidStatus) as refused:
            async with live.watch(shown, query):
                pass
        assert refused.value.response.status_code == status
        assert orjson.loads(refused.value.response.body)["code"] in ("unauthorized", "forbidden")
        assert (await live.client.get(f"/v1/usage/stream{query}", headers=shown)).status_code == status

    with_live(tmp_path, run)


def test_streams_end_with_their_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "HEARTBEAT_S", 0.1)

    async def run(live: Live) -> None:
        headers = await live.reader()
        ended = asyncio.gather(_until_closed(live, headers), _until_ended(live, headers))
        while await _watchers(live) < 2:
            await asyncio.sleep(0.01)
        (held,) = await live.order(op="keys list")
        await live.order(op="keys revoke", id=held["id"])
        async with asyncio.timeout(WAIT_S):
            await ended
        assert await _watchers(live) == 0

    with_live(tmp_path, run)


def test_a_slow_watcher_is_dropped_and_slows_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "SEND_S", 0.3)
    monkeypatch.setattr(usage, "_visible", lambda seen, *_: seen * 5000)  # more than the system keeps for a connection

    async def run(live: Live) -> None:
        headers, settings = await live.reader(), await live.registered()
        path = f"GET /v1/usage/stream HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\n\r\n"
        reader, writer = await asyncio.open_connection(HOST, live.ready.port, ssl=live.context, limit=1024)
        writer.write(path.encode())
        await reader.readline()
        link, robot = HttpsLink(settings, SystemClock()), Robot().begin()
        assert await _watchers(live) == 1
        for _ in range(20):
            batch = robot.turns(1).batch()
            assert isinstance(await link.send(batch.content, sign(batch, KEY)), Acked)
        while await _watchers(live):
            await asyncio.sleep(0.05)
        await link.aclose()
        writer.transport.abort()

    with_live(tmp_path, run, limits=Limits(100_000))


async def _watchers(live: Live) -> int:
    told = (await live.client.get("/metrics")).text
    return int(float(told.split("\nvoxmeter_watchers ")[1].split()[0]))


def test_at_its_end_streams_end_and_the_books_are_free(tmp_path: Path) -> None:
    async def run() -> None:
        async with living(tmp_path) as live, live.client:
            headers = await live.reader()
            ended = asyncio.gather(_until_closed(live, headers), _until_ended(live, headers))
            while await _watchers(live) < 2:
                await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            await ended
        async with living(tmp_path) as again, again.client:
            assert again.ready.backend_id == live.ready.backend_id
            assert (await again.client.get("/readyz")).status_code == 200

    asyncio.run(run())


async def _until_closed(live: Live, headers: dict[str, str]) -> None:
    with contextlib.suppress(ConnectionClosed):
        async with live.watch(headers) as watched:
            await watched.recv()


async def _until_ended(live: Live, headers: dict[str, str]) -> None:
    """Raises if the stream is cut off in the middle."""
    own = httpx.AsyncClient(base_url=live.client.base_url, verify=live.context, timeout=WAIT_S)
    async with own as client, client.stream("GET", "/v1/usage/stream", headers=headers) as events:
        async for _ in events.aiter_lines():
            pass


def test_a_hundred_megabytes_are_refused_on_the_wire(tmp_path: Path) -> None:
    async def run(live: Live) -> None:
        reader, writer = await asyncio.open_connection(HOST, live.ready.port, ssl=live.context)
        writer.write(b"POST /v1/devices HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n" + b" " * 1000)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 413 " in head
        assert b"connection: close" in head.lower()
        assert orjson.loads(await reader.read())["code"] == "too-big"
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    with_live(tmp_path, run)


def test_what_a_stranger_says_of_his_address_is_not_believed(tmp_path: Path) -> None:
    async def run(live: Live) -> None:
        headers = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "http"}
        assert (await live.client.get("/v1/audit", headers=headers)).status_code == 401
        key = (await live.order(op="keys create", name="admin", scopes=["admin"]))["api_key"]
        told = (await live.client.get("/v1/audit", headers={"Authorization": f"Bearer {key}"})).json()
        assert [line["actor"] for line in told["entries"]] == [HOST, "operator"]

    with_live(tmp_path, run)


def test_two_do_not_serve_one_folder(tmp_path: Path) -> None:
    async def run(live: Live) -> None:
        with pytest.raises(LedgerBusy):
            await serve(Settings(live.folder, port=0, plain=True), SystemClock(), lambda ready: None, lambda line: None)
        assert await answers(live.folder, SOCKET)

    with_live(tmp_path, run)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "certificate"),
        ({"plain": True, "host": "0.0.0.0"}, "this machine"),  # noqa: S104  it must be refused
        ({"plain": True, "host": "192.0.2.1"}, "this machine"),
        ({"plain": True, "certificate": Path("/x")}, "exclude"),
        ({"certificate": Path("/nowhere")}, "/nowhere"),
        ({"certificate": Path("/proc/self/cmdline")}, "PEM"),
        ({"plain": True, "port": 1 << 20}, "port"),
        ({"plain": True, "broker": broker_at("x:1", Path("/nowhere"))}, "/nowhere"),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_said_in_one_line(tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    told = Settings(tmp_path, **({"port": 0} | settings))
    with pytest.raises((BadInput, BadProfile), match=says):
        asyncio.run(serve(told, SystemClock(), lambda ready: None, lambda line: None))


@pytest.mark.parametrize("address", ["", "x", ":1883", "x:", "x:0", "x:65536", "x:y", "x:" + "9" * 5000])
def test_a_broker_is_a_host_and_a_port(address: str) -> None:
    with pytest.raises(BadInput, match="HOST:PORT"):
        broker_at(address)


def test_networks_are_read_as_people_write_them() -> None:
    assert networks(["192.0.2.0/24", "::1"]) == (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("::1"))
    for wrong in ("x", "192.0.2.1/24", "1.2.3.4/99", ""):
        with pytest.raises(BadInput, match="allow"):
            networks([wrong])


def test_a_connection_does_not_hold_small_answers_back(tmp_path: Path) -> None:
    """The event loop sees to it only for sockets that name their protocol, which ours does not."""
    with listening(Settings(tmp_path, port=0)) as listener, socket.create_connection(listener.getsockname()[:2]) as client:
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert client.getpeername()[0] == HOST
