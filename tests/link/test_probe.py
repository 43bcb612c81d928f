"""A certificate is shown to the documented broker without taking its robot's session, whatever TLS is spoken."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.link.mqtt.message import Incoming
from agent.link.mqtt.steady import Mqtt
from agent.link.probe import Told, tried
from agent.ports import LinkSettings
from agent.sim.real.broker import HOST
from tests.billing.test_broker_page import Page
from tests.link.mqtt_helpers import CLOCK, confirming, play, until, within

KEPT_S = 3600


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with Page(tmp_path) as running:
        yield running


def candidate(page: Page, name: str) -> tuple[LinkSettings, Path]:
    """How that robot connects, and its pair in one file."""
    settings = page.settings(name)
    assert settings.certificate
    assert settings.key
    pair = page.folder / "candidate.pem"
    pair.write_bytes(settings.certificate.read_bytes() + settings.key.read_bytes())
    return settings, pair


def at(settings: LinkSettings, port: int) -> LinkSettings:
    return replace(settings, port=port)


def robot(page: Page, into: list[Incoming]) -> Mqtt:
    return Mqtt(page.settings("demo/r1"), "r1", CLOCK, ["v1/demo/r1/cmd/req/+"], confirming(into), expiry_s=KEPT_S)


def test_a_queued_command_outlives_the_probe(page: Page) -> None:
    async def story() -> None:
        heard: list[Incoming] = []
        before, desk = robot(page, heard), page.client("operator/alice", "alice", "x", [])
        await within(before.ready())
        await before.aclose()
        await within(desk.ready())
        assert (await desk.publish("v1/demo/r1/cmd/req/1", b"reboot")).taken
        assert await tried(*candidate(page, "demo/r1")) == Told("taken")
        after = robot(page, heard)
        await within(after.ready())
        await until(lambda: heard)
        assert [one.content for one in heard] == [b"reboot"]
        await after.aclose()
        await desk.aclose()

    play(story())


def test_whoever_is_connected_stays_so(page: Page) -> None:
    async def story() -> None:
        one = robot(page, [])
        await within(one.ready())
        assert (await tried(*candidate(page, "demo/r1"))).result == "taken"
        assert (await one.publish("v1/demo/r1/event/alarm", b"x")).code < 0x80
        assert (one.up, one.connections) == (True, 1)
        await one.aclose()

    play(story())


@pytest.mark.parametrize("tls", ["tlsv1.2", "tlsv1.3"])
def test_what_the_broker_says_is_heard(tmp_path: Path, tls: str) -> None:
    async def story(page: Page) -> None:
        first = page.client("demo/r1", "x", "x", [])
        await within(first.ready())
        await first.aclose()
        assert await tried(*candidate(page, "demo/r1")) == Told("taken")
        told = await tried(*candidate(page, "demo/thief"))
        assert (told.result, told.word) == ("refused", "revoked")

    with Page(tmp_path, tls=tls) as page:
        play(story(page))


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x28"])
def test_what_comes_before_the_certificate_was_seen_says_nothing_of_it(page: Page, says: bytes) -> None:
    """Somebody hangs up at once, or speaks no TLS, or has no cipher in common."""

    async def story() -> None:
        async def door(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(says)
            writer.close()

        async with await asyncio.start_server(door, HOST, 0) as server:
            settings, pair = candidate(page, "demo/r1")
            port = server.sockets[0].getsockname()[1]
            assert (await tried(at(settings, port), pair)).result == "unreachable"

    play(story())


def test_who_hangs_up_after_it_was_seen_refuses(page: Page) -> None:
    """As a broker does whose plugin closes the connection without a word."""

    async def story() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(page.folder / "broker.crt", page.folder / "broker.key")
        context.load_verify_locations(page.folder / "robots.pem")
        context.verify_mode = ssl.CERT_REQUIRED

        async def door(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(coming, going, server_side=True)
            coming.write(await reader.read(16_384))
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            writer.write(going.read())
            await reader.read(16_384)
            writer.close()

        async with await asyncio.start_server(door, HOST, 0) as server:
            settings, pair = candidate(page, "demo/r1")
            told = await tried(at(settings, server.sockets[0].getsockname()[1]), pair)
            assert (told.result, told.word) == ("refused", "")

    play(story())


def test_nobody_there(page: Page) -> None:
    async def story() -> None:
        settings, pair = candidate(page, "demo/r1")
        with socket.socket() as held:
            held.bind((HOST, 0))
            assert (await tried(at(settings, held.getsockname()[1]), pair)).result == "unreachable"

    play(story())
