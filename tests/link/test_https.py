"""The HTTPS link against a real TLS server: what it asks, and what each status comes to."""

import asyncio
import gzip

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.wire import INFLIGHT_MAX
from agent.errors import BadInput
from agent.link.https import RETRY_AFTER_MS_MAX, Heard, HttpsLink, after_ms, answer_of
from agent.ports import Answer, Refused, Retry
from agent.sim.clock import SimulatedClock
from tests.link.helpers import Authority, Play, PlayedServer, written
from tests.link.https_helpers import ACK, ACKED, BATCH, GOOD, MARKS, SIGNED, answer_to, played


def said(code: str, **more: object) -> bytes:
    return orjson.dumps({"code": code, "message": f"{code}, it says", "request_id": "1", "latency": 2, **more})


def test_a_batch_arrives_packed_signed_and_with_the_key_and_its_ack_comes_back(trusted: Authority) -> None:
    async def script(link: HttpsLink, server: PlayedServer) -> None:
        assert await link.send(BATCH, MARKS) == ACKED

    [asked] = played(trusted, [Play(GOOD)], script).asked
    assert asked.line == "POST /v1/devices/robot/usage-batches HTTP/1.1"
    assert gzip.decompress(asked.body) == BATCH
    told = {name: asked.headers[name] for name in ("authorization", "vx-key", "vx-sig", "content-encoding") if name in asked.headers}
    assert told == {"authorization": "Bearer vx_1_secret", "vx-key": MARKS["vx-key"], "content-encoding": "gzip"}
    assert asked.headers["vx-signature"] == MARKS["vx-sig"]
    assert asked.headers["accept-encoding"] == "identity"


def test_the_mark_is_asked_with_epoch_and_nonce(trusted: Authority) -> None:
    async def script(link: HttpsLink, server: PlayedServer) -> None:
        assert await link.mark("e" * 32, "a nonce&x=1") == ACKED

    [asked] = played(trusted, [Play(GOOD)], script).asked
    path, _, query = asked.line.split()[1].partition("?")
    assert path == "/v1/devices/robot/usage-state"
    assert dict(httpx.QueryParams(query)) == {"nonce": "a nonce&x=1", "epoch": "e" * 32}


def test_a_strange_name_stays_in_its_place_in_the_path(trusted: Authority) -> None:
    async def script(link: HttpsLink, server: PlayedServer) -> None:
        await link.send(BATCH, MARKS)

    [asked] = played(trusted, [Play(GOOD)], script, device="../a b?c#d/e").asked
    assert asked.line.split()[1] == "/v1/devices/..%2Fa%20b%3Fc%23d%2Fe/usage-batches"


@pytest.mark.parametrize(
    ("status", "content", "expected"),
    [
        (400, said("bad-chain"), Refused("bad-chain", "bad-chain, it says (status 400)")),
        (422, said("bad-shape", retry_after_ms=5), Refused("bad-shape", "bad-shape, it says (status 422)", 5)),
        (401, said("no-token"), Refused("unauthorized", "no-token, it says (status 401)")),
        (403, b"<html>", Refused("forbidden", "no reason given (status 403)")),
        (404, said("x"), Refused("unknown-device", "x, it says (status 404)")),
        (409, said("fork"), Refused("fork", "fork, it says (status 409)")),
        (413, b"", Refused("too-big", "no reason given (status 413)")),
        (415, said("bad-encoding"), Refused("bad-encoding", "bad-encoding, it says (status 415)")),
        (429, said("slow-down", retry_after_ms=70), Retry("slow-down, it says (status 429)", 70)),
        (503, said("busy"), Retry("busy, it says (status 503)")),
        (500, b"oops", Retry("no reason given (status 500)")),
        (502, said("\u001b[31mred\nline"), Retry("[31mred line, it says (status 502)")),
        (408, b"", Retry("no reason given (status 408)")),
    ],
)
def test_each_status_is_a_value(trusted: Authority, status: int, content: bytes, expected: Answer) -> None:
    assert answer_to(trusted, Play(written(status, content))) == expected


@pytest.mark.parametrize("status", [400, 409, 422])
@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'{"code":7}', b'{"code":"","message":""}', b'{"code":"' + b"x" * 5_000])
def test_a_refusal_that_the_backend_did_not_write_refuses_nothing(trusted: Authority, status: int, content: bytes) -> None:
    assert isinstance(answer_to(trusted, Play(written(status, content))), Retry)


def test_a_fork_is_proven_by_the_ack_that_comes_with_it(trusted: Authority) -> None:
    assert answer_to(trusted, Play(written(409, ACK, **SIGNED))) == ACKED


def test_the_ack_may_come_in_chunks(trusted: Authority) -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nvx-key: key\r\nvx-signature: signature\r\n\r\n"
    chunks = b"5\r\n" + ACK[:5] + b"\r\n" + f"{len(ACK) - 5:x}\r\n".encode() + ACK[5:] + b"\r\n0\r\n\r\n"
    assert answer_to(trusted, Play(head + chunks)) == ACKED


def test_without_an_api_key_nothing_is_sent(trusted: Authority) -> None:
    def none() -> str:
        raise BadInput("this robot has no API key", "register it")

    async def script(link: HttpsLink, server: PlayedServer) -> None:
        assert await link.send(BATCH, MARKS) == Refused("unauthorized", "this robot has no API key; register it")

    assert not played(trusted, [Play(GOOD)], script, token=none).asked


def test_batches_one_after_the_other_share_a_connection(trusted: Authority) -> None:
    async def script(link: HttpsLink, server: PlayedServer) -> None:
        assert [await link.send(BATCH, MARKS) for _ in range(5)] == [ACKED] * 5
        assert link.connections == 1

    assert played(trusted, [Play(GOOD)], script).accepted == 1


def test_many_at_once_share_few_connections(trusted: Authority) -> None:
    async def script(link: HttpsLink, server: PlayedServer) -> None:
        assert await asyncio.gather(*(link.send(BATCH, MARKS) for _ in range(40))) == [ACKED] * 40

    assert 1 < played(trusted, [Play(GOOD)], script).open_most <= INFLIGHT_MAX


def test_connections_rise_once_when_the_backend_is_found_again(trusted: Authority) -> None:
    async def script(link: HttpsLink, server: PlayedServer) -> None:
        counts = []
        for _ in range(6):
            await link.send(BATCH, MARKS)
            counts.append(link.connections)
        assert counts == [1, 1, 1, 2, 2, 2]

    cut = Play(b"", "close")
    played(trusted, [Play(GOOD), cut, cut, Play(GOOD), Play(written(503)), Play(GOOD)], script)


def test_a_send_that_is_cancelled_leaves_the_link_as_it_was(trusted: Authority) -> None:
    async def script(link: HttpsLink, server: PlayedServer) -> None:
        for _ in range(2 * INFLIGHT_MAX):
            task = asyncio.ensure_future(link.send(BATCH, MARKS))
            while not server.asked:
                await asyncio.sleep(0.01)
            server.asked.clear()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        server._script[:] = [Play(GOOD)]
        assert await link.send(BATCH, MARKS) == ACKED

    played(trusted, [Play(b"", "hang")], script)


def heard(**headers: str) -> Heard:
    return Heard(429, httpx.Headers([(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]), b"")


@pytest.mark.parametrize(
    ("headers", "expected_ms"),
    [
        ({}, 0),
        ({"retry_after": "0"}, 0),
        ({"retry_after": "2"}, 2_000),
        ({"retry_after": "999999999"}, RETRY_AFTER_MS_MAX),
        ({"retry_after": "-3"}, 0),
        ({"retry_after": "soon"}, 0),
        ({"retry_after": "²"}, 0),
        ({"retry_after": "Sun, 01 Nov 2026 00:00:07 GMT"}, 7_000),
        ({"retry_after": "Sat, 31 Oct 2026 00:00:07 GMT"}, 0),
        ({"retry_after": "Mon, 01 Nov 2100 00:00:07 GMT"}, RETRY_AFTER_MS_MAX),
        ({"retry_after": "Thu, 01 Jan 2032 00:00:07 GMT", "date": "Thu, 01 Jan 2032 00:00:02 GMT"}, 5_000),
        ({"retry_after": "Thu, 01 Jan 2032 00:00:07 -0000", "date": "junk"}, RETRY_AFTER_MS_MAX),
    ],
)
def test_patience_is_asked_for_in_seconds_or_by_a_date(headers: dict[str, str], expected_ms: int) -> None:
    assert after_ms(heard(**headers), SimulatedClock()) == expected_ms


WORDS = st.text(st.characters(codec="utf-8"))


@given(WORDS, WORDS)
def test_whatever_is_asked_for_the_wait_is_bounded(asked: str, date: str) -> None:
    assert 0 <= after_ms(heard(retry_after=asked, date=date), SimulatedClock()) <= RETRY_AFTER_MS_MAX


@given(st.binary(max_size=60), st.integers(100, 599))
def test_whatever_the_body_is_a_status_is_a_value(content: bytes, status: int) -> None:
    assert isinstance(answer_of(Heard(status, httpx.Headers(), content), SimulatedClock()), Retry | Refused)
