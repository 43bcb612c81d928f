"""Tells somebody's web server of an alarm: one signed POST, and every status and every fault mapped to a value, here only.

VX-Webhook-Id         of what is told; the same again is the same once more
VX-Webhook-Signature  sha256=HEX, the HMAC-SHA256 of the body with the secret both sides hold; absent without one
"""

import asyncio
import hashlib
import hmac
import ssl
from typing import Final

import httpx

from agent.clock import Clock
from agent.errors import BadInput
from agent.link.https import Heard, after_ms, line_of
from agent.link.tls import check_plain, client_context
from agent.ports import Retry

ID_HEADER: Final = "VX-Webhook-Id"
SIGNATURE_HEADER: Final = "VX-Webhook-Signature"

WAIT_S: Final = 10.0
"""For an answer: whoever listens has only to note that something came."""

SECRET_BYTES_MIN: Final = 16
"""A shorter secret can be guessed from one signature."""


def signature_of(secret: bytes, body: bytes) -> str:
    """What stands in SIGNATURE_HEADER; a receiver compares it in constant time."""
    return f"sha256={hmac.new(secret, body, hashlib.sha256).hexdigest()}"


class Webhook:
    """One address. Nothing raises for what a network or a receiver does."""

    def __init__(self, url: str, secret: bytes, clock: Clock, *, authority: str = "", wait_s: float = WAIT_S) -> None:
        """`secret` empty: unsigned. `authority`: PEM of whom to believe, else this machine's list. Raises BadInput, BadProfile."""
        self._url, plain = _checked(url)
        if secret and len(secret) < SECRET_BYTES_MIN:
            raise BadInput(f"the webhook's secret has {len(secret)} bytes", f"give at least {SECRET_BYTES_MIN} random ones")
        self._secret, self._clock, self._wait_s = secret, clock, wait_s
        self._client = httpx.AsyncClient(
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else client_context(authority),  # the first believes nobody
            trust_env=False,
            follow_redirects=False,  # an alarm goes where the operator said, or nowhere
            timeout=httpx.Timeout(wait_s, connect=wait_s / 2),
            limits=httpx.Limits(max_connections=1),
            headers={"content-type": "application/json", "user-agent": "voxmeter"},
        )

    @property
    def host(self) -> str:
        """For lines to people: the rest of the address may hold a secret."""
        return self._url.host

    async def post(self, id_: str, body: bytes) -> Retry | None:
        """None when a receiver has taken it (2xx); else why not."""
        headers = {ID_HEADER: id_} | ({SIGNATURE_HEADER: signature_of(self._secret, body)} if self._secret else {})
        try:
            async with asyncio.timeout(self._wait_s):
                request = self._client.build_request("POST", self._url, content=body, headers=headers)
                answer = await self._client.send(request, stream=True)  # what it says beside its status nobody reads
                await answer.aclose()
        except (httpx.TimeoutException, TimeoutError):
            return Retry(f"no answer within {self._wait_s:g} s")
        except (httpx.HTTPError, httpx.StreamError, OSError) as error:
            return Retry(line_of(str(error)) or type(error).__name__)
        if answer.is_success:
            return None
        return Retry(f"status {answer.status_code}", after_ms(Heard(answer.status_code, answer.headers, b""), self._clock))

    async def aclose(self) -> None:
        await self._client.aclose()


def _checked(url: str) -> tuple[httpx.URL, bool]:
    """The address, and whether it is spoken to without TLS. Raises BadInput, BadProfile for another machine without TLS."""
    try:
        found = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise BadInput(f"the webhook's address can't be read: {error}", "give an https address") from error
    if found.scheme not in ("http", "https") or not found.host:
        raise BadInput(f"{line_of(url)!r} is no address of a webhook", "give an https address")
    if found.scheme == "http":
        check_plain(found.host)
    return found, found.scheme == "http"
