"""The HTTPS link where the network, the other side or its certificate is bad: every fault ends in a value, and in time."""

import asyncio
import gzip
from datetime import timedelta
from pathlib import Path

import pytest

from agent.contract.ack import ACK_BYTES_MAX
from agent.errors import BadInput, BadProfile
from agent.link.https import HttpsLink
from agent.ports import Answer, Retry
from agent.sim.clock import SimulatedClock
from tests.link.helpers import NOW, Authority, Play, PlayedServer, written
from tests.link.https_helpers import ACK, ACKED, BATCH, GOOD, MARKS, QUICK_MS, SIGNED, answer_to, played, settings


@pytest.mark.parametrize(
    "play",
    [
        Play(b"", "close"),
        Play(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "close"),
        Play(b"\x00" * 500, "close"),
        Play(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n", "close"),
        Play(b"HTTP/1.1 200 OK\r\n" + b"x-a: " + b"a" * 300_000, "close"),
        Play(GOOD[:-1], "close"),
        Play(GOOD[:30], "close"),
        Play(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "close"),
        Play(written(200, b'{"a":"' + b"x" * ACK_BYTES_MAX + b'"}', **SIGNED)),
        Play(GOOD[:30], "corrupt"),
        Play(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n" + b"x" * (ACK_BYTES_MAX + 1), "hang"),
        Play(written(200, gzip.compress(ACK), content_encoding="gzip", **SIGNED)),
        Play(written(200, b"<html>sign in to the hotel</html>", **SIGNED)),
        Play(written(200, b"[1]", **SIGNED)),
        Play(written(200, b"[" * 50_000, **SIGNED)),
        Play(written(200, ACK)),
        Play(written(200, ACK, VX_Key="key")),
        Play(written(204)),
        Play(written(101, b"")),
    ],
)
def test_what_is_no_whole_answer_is_tried_again(trusted: Authority, play: Play) -> None:
    answer = answer_to(trusted, play)
    assert isinstance(answer, Retry)
    assert 0 < len(answer.why.splitlines()[0]) == len(answer.why) < 300


@pytest.mark.parametrize(
    "play",
    [Play(b"", "hang"), Play(GOOD[:-1], "hang"), Play(b"HTTP/1.1 200 OK\r\nx-a: b", "drip"), Play(written(200, ACK * 100)[:-1200], "drip")],
)
def test_an_answer_that_does_not_end_is_not_waited_for_for_ever(trusted: Authority, play: Play) -> None:
    assert answer_to(trusted, play, wait_ms=QUICK_MS) == Retry("no answer within 0.3 s")


def test_a_server_that_never_shakes_hands_is_not_waited_for_for_ever(trusted: Authority) -> None:
    async def main() -> Answer:
        silent = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
        link = HttpsLink(settings(silent.sockets[0].getsockname()[1], trusted), SimulatedClock(), wait_ms=QUICK_MS)
        answer = await link.send(BATCH, MARKS)
        await link.aclose()
        silent.close()
        for writer in held:
            writer.transport.abort()
        return answer

    held: list[asyncio.StreamWriter] = []
    assert asyncio.run(main()) == Retry("no connection in time")


def test_where_nobody_listens_it_is_tried_again(trusted: Authority) -> None:
    async def script(link: HttpsLink, server: PlayedServer) -> None:
        await server.__aexit__(None, None, None)
        assert isinstance(await link.send(BATCH, MARKS), Retry)

    played(trusted, [Play(GOOD)], script)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 300, "-"])
def test_a_host_that_is_none_is_tried_again(trusted: Authority, host: str) -> None:
    async def main() -> Answer:
        link = HttpsLink(settings(443, trusted, host=host), SimulatedClock(), wait_ms=10_000)
        answer = await link.send(BATCH, MARKS)
        await link.aclose()
        return answer

    assert isinstance(asyncio.run(main()), Retry)


@pytest.mark.parametrize("host", ["a b", "a/b", "a\nb", "user@host", "", "[::1", "ü" * 70, "ü..ü"])
def test_a_host_that_can_t_be_one_is_refused_in_one_line(trusted: Authority, host: str) -> None:
    with pytest.raises(BadInput, match=r"no name of a host"):
        HttpsLink(settings(443, trusted, host=host), SimulatedClock())


def test_a_certificate_of_a_stranger_is_not_believed(trusted: Authority, stranger: Authority) -> None:
    answer = answer_to(trusted, Play(GOOD), context=stranger.server())
    assert isinstance(answer, Retry)
    assert "certificate" in answer.why.lower()


def test_an_expired_certificate_is_not_believed(trusted: Authority) -> None:
    context = trusted.server(days=1, now=NOW - timedelta(days=2))
    assert "expired" in str(answer_to(trusted, Play(GOOD), context=context))


def test_a_certificate_of_another_host_is_not_believed(trusted: Authority) -> None:
    assert "mismatch" in str(answer_to(trusted, Play(GOOD), context=trusted.server("127.0.0.2")))


def test_a_backend_that_wants_to_know_the_robot_is_shown_its_certificate(trusted: Authority, stranger: Authority) -> None:
    context = trusted.server(clients=trusted.pem)
    mine, other = trusted.device("robot"), stranger.device("robot")
    assert answer_to(trusted, Play(GOOD), context=context, certificate=mine[0], key=mine[1]) == ACKED
    assert isinstance(answer_to(trusted, Play(GOOD), context=context, certificate=other[0], key=other[1]), Retry)
    assert isinstance(answer_to(trusted, Play(GOOD), context=context), Retry)


def test_a_certificate_that_is_none_is_one_line(trusted: Authority, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        HttpsLink(settings(443, trusted, certificate=tmp_path / "gone", key=None), SimulatedClock())


@pytest.mark.parametrize("host", ["192.0.2.1", "example.invalid", "127.0.0.1.invalid"])
def test_without_tls_only_this_machine_is_spoken_to(trusted: Authority, host: str) -> None:
    with pytest.raises(BadProfile, match="without TLS"):
        HttpsLink(settings(80, trusted, host=host, plain=True), SimulatedClock())


def test_without_tls_this_machine_is_spoken_to(trusted: Authority) -> None:
    async def main() -> Answer:
        async with PlayedServer([Play(GOOD)]) as server:
            link = HttpsLink(settings(server.port, trusted, plain=True), SimulatedClock())
            answer = await link.send(BATCH, MARKS)
            await link.aclose()
            return answer

    assert asyncio.run(main()) == ACKED


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(trusted: Authority, status: int) -> None:
    async def script(link: HttpsLink, server: PlayedServer) -> None:
        assert isinstance(await link.send(BATCH, MARKS), Retry)

    server = played(trusted, [Play(written(status, location="/elsewhere"))], script)
    assert len(server.asked) == 1


def test_proxies_and_certificates_of_the_environment_change_nothing(trusted: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, ":".join(["http", "//127.0.0.1", "1"]))
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    assert answer_to(trusted, Play(GOOD)) == ACKED
