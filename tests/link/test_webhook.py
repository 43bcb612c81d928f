"""A webhook's receiver: taken, refused, slow, dead, or somebody else; and addresses nobody should tell anything."""

import asyncio
import hashlib
import hmac
from pathlib import Path

import pytest

from agent.errors import BadInput, BadProfile
from agent.link.webhook import ID_HEADER, SIGNATURE_HEADER, Webhook
from agent.ports import Retry
from agent.sim.clock import SimulatedClock
from tests.link.helpers import Authority, Play, PlayedServer, written

SECRET = b"0123456789abcdef0123456789abcdef"
BODY = b'{"name":"fork"}'
SCHEME = "https:" + "//"
PLAIN = "http:" + "//"


def told(trusted: Authority, play: Play, secret: bytes = SECRET, authority: str | None = None) -> tuple[Retry | None, PlayedServer]:
    async def main() -> tuple[Retry | None, PlayedServer]:
        async with PlayedServer([play], trusted.server()) as server:
            believed = trusted.pem if authority is None else authority
            webhook = Webhook(f"{SCHEME}127.0.0.1:{server.port}/alarms?key=1", secret, SimulatedClock(), authority=believed, wait_s=0.5)
            try:
                return await webhook.post("id-1", BODY), server
            finally:
                await webhook.aclose()

    return asyncio.run(main())


def test_an_alarm_is_posted_and_signed(trusted: Authority) -> None:
    answer, server = told(trusted, Play(written(204)))
    assert answer is None
    (asked,) = server.asked
    assert (asked.line.split()[:2], asked.body) == (["POST", "/alarms?key=1"], BODY)
    expected = "sha256=" + hmac.new(SECRET, BODY, hashlib.sha256).hexdigest()
    assert (asked.headers[ID_HEADER.lower()], asked.headers[SIGNATURE_HEADER.lower()]) == ("id-1", expected)


def test_without_a_secret_nothing_claims_to_be_signed(trusted: Authority) -> None:
    assert SIGNATURE_HEADER.lower() not in told(trusted, Play(written(200)), b"")[1].asked[0].headers


@pytest.mark.parametrize("status", [301, 400, 404, 410, 500, 503])
def test_whatever_is_no_success_is_told_again(trusted: Authority, status: int) -> None:
    answer, server = told(trusted, Play(written(status, location=f"{SCHEME}example.com/")))
    assert answer == Retry(f"status {status}")
    assert len(server.asked) == 1


def test_patience_that_is_asked_for_is_had(trusted: Authority) -> None:
    assert told(trusted, Play(written(429, retry_after="9")))[0] == Retry("status 429", 9000)


@pytest.mark.parametrize(
    "play", [Play(then="hang"), Play(b"HTTP/1.1 200", then="drip"), Play(then="close"), Play(b"rubbish\r\n\r\n", then="close")]
)
def test_a_slow_or_broken_receiver_is_a_value(trusted: Authority, play: Play) -> None:
    assert isinstance(told(trusted, play)[0], Retry)


def test_an_endless_answer_keeps_nobody(trusted: Authority) -> None:
    assert told(trusted, Play(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", then="drip"))[0] is None


def test_a_receiver_nobody_vouches_for_is_told_nothing(trusted: Authority, tmp_path: Path) -> None:
    answer, server = told(trusted, Play(written(200)), authority=Authority(tmp_path / "other").pem)
    assert isinstance(answer, Retry)
    assert server.asked == []


def test_a_dead_receiver_is_a_value() -> None:
    async def main() -> None:
        webhook = Webhook(f"{PLAIN}127.0.0.1:1/", b"", SimulatedClock())
        assert isinstance(await webhook.post("id", BODY), Retry)
        await webhook.aclose()

    asyncio.run(main())


@pytest.mark.parametrize(
    "url", ["", "alarms", "ftp:" + "//127.0.0.1/", SCHEME, f"{PLAIN}192.0.2.1/", f"{PLAIN}example.com/", f"{SCHEME}a:b:c/"]
)
def test_addresses_nobody_tells_anything(url: str) -> None:
    with pytest.raises((BadInput, BadProfile)):
        Webhook(url, b"", SimulatedClock())


def test_a_short_secret_is_none() -> None:
    with pytest.raises(BadInput, match="16"):
        Webhook(f"{SCHEME}example.com/", b"short", SimulatedClock())
