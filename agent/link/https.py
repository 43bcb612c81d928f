"""Carries batches and marks to the backend over HTTPS, one request each, and maps every status and every fault to a value, here only.

A request ends in one of three ways: an answer that was heard whole, a fault on the way (`Retry`), or cancellation.
"""

import asyncio
import datetime
import email.utils
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import httpx
import orjson

from agent.clock import Clock
from agent.contract import wire
from agent.contract.ack import ACK_BYTES_MAX
from agent.contract.encoding import encoded
from agent.contract.registration import REVOKED
from agent.contract.signing import KEY_MARK, SIGNATURE_MARK
from agent.errors import BadInput
from agent.link.tls import check_plain, context_of
from agent.ports import Acked, Answer, LinkSettings, Refused, Retry

CONNECT_S = 10.0
"""For a name, a connection and a handshake: three lost packets on a poor mobile link."""

KEEP_S = 60.0
"""An idle connection is kept for the next batch; most networks forget one that is silent for longer."""

RETRY_AFTER_MS_MAX = 3_600_000
"""Whoever asks for more patience is asked again after an hour: nobody signed that wish."""

WHY_LENGTH_MAX = 200
"""Of what another machine says, in a line for people."""

HOST = re.compile(r"[\w.-]+|[0-9A-Fa-f:.]+")
"""A name, also one that is not ASCII, or an address. What else a URL may hold has no place in a host."""

HEADERS: Final = {KEY_MARK: "VX-Key", SIGNATURE_MARK: "VX-Signature"}
"""What the two marks are called over HTTP."""

CODES: Final = {401: "unauthorized", 403: "forbidden", 404: "unknown-device", 409: "fork", 413: "too-big"}
"""What a status says by itself. Other refusals say their code in the body."""

HOPELESS: Final = frozenset({400, 413, 422})
"""The same event would be refused again."""

PATIENCE: Final = frozenset({408, 425, 429, 503})
"""The same request may well be taken later."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What came back, whole."""

    status: int
    headers: httpx.Headers
    content: bytes

    @property
    def refusal(self) -> wire.Refusal | None:
        """What the backend says is wrong; None where it wasn't the backend that spoke."""
        try:
            return wire.read_refusal(self.content)
        except BadInput:
            return None

    @property
    def marks(self) -> dict[str, str]:
        return {mark: self.headers[name] for mark, name in HEADERS.items() if name in self.headers}

    @property
    def signed_object(self) -> bool:
        return len(self.marks) == len(HEADERS) and isinstance(_value(self.content), dict)


class HttpsLink:
    """Implements the ports Link and Poster. Raises BadInput or BadProfile for settings that make no link, before the first request."""

    name = "https"
    up = True

    def __init__(self, settings: LinkSettings, clock: Clock, *, wait_ms: int = wire.ACK_WAIT_MS) -> None:
        self._settings = settings
        self._clock = clock
        self._wait_ms = wait_ms
        self._client = client_of(settings, wait_ms)
        self._device = f"/v1/devices/{quote(settings.device, safe='')}"
        self._lost = False
        self.connections = 1
        """One more after each time that the way to the backend failed and was found again."""

    async def ready(self) -> None:
        return

    async def send(self, content: bytes, marks: Mapping[str, str]) -> Answer:
        """Posts a batch, compressed where that helps; it was signed before."""
        body, encoding = encoded(content)
        headers = {"content-type": "application/json"} | {name: marks[mark] for mark, name in HEADERS.items() if mark in marks}
        if encoding:
            headers["content-encoding"] = encoding
        return await self._asked(self._client.build_request("POST", f"{self._device}/usage-batches", content=body, headers=headers))

    async def mark(self, epoch: str, nonce: str) -> Answer:
        question = {"nonce": nonce, "epoch": epoch}
        return await self._asked(self._client.build_request("GET", f"{self._device}/usage-state", params=question))

    async def post(self, topic: str, body: bytes, *, retained: bool = False) -> Retry | Refused | None:
        """See the port Poster: events and results, for a robot that has no broker. What a broker would keep nobody keeps here."""
        if retained or not topic.startswith((f"{wire.EVENT}/", f"{wire.RESULT}/")):
            return Refused("not-over-https", f"{topic} needs a broker")
        content, headers = orjson.dumps({"topic": topic, "body": orjson.Fragment(body)}), {"content-type": "application/json"}
        request = self._client.build_request("POST", f"{self._device}/events", content=content, headers=headers)
        try:
            authorize(request, self._settings)
        except BadInput as error:
            return Retry(str(error))
        heard = await exchange(self._client, request, self._wait_ms)
        return heard if isinstance(heard, Retry) else posted(heard, self._clock)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _asked(self, request: httpx.Request) -> Answer:
        try:
            authorize(request, self._settings)
        except BadInput as error:
            return Refused("unauthorized", str(error))
        heard = await exchange(self._client, request, self._wait_ms)
        if isinstance(heard, Retry):
            self._lost = True
            return heard
        self.connections += self._lost
        self._lost = False
        return answer_of(heard, self._clock)


def client_of(settings: LinkSettings, wait_ms: int, *, dated: bool = True) -> httpx.AsyncClient:
    """Nothing of the environment bends it: no proxies, no certificates, no passwords from files of others."""
    return httpx.AsyncClient(
        base_url=_base(settings),
        verify=_context(settings, dated=dated),
        trust_env=False,
        follow_redirects=False,  # a batch goes where the profile says, or nowhere
        timeout=_timeout(wait_ms),
        limits=httpx.Limits(max_connections=wire.INFLIGHT_MAX, max_keepalive_connections=wire.INFLIGHT_MAX, keepalive_expiry=KEEP_S),
        headers={"accept": "application/json", "accept-encoding": "identity", "user-agent": "voxmeter"},
    )


def _timeout(wait_ms: int) -> httpx.Timeout:
    """Reading, writing and waiting for one of the connections share the wait for an ack, which `exchange` ends.

    Connection and handshake have a third of it each at the most, so that both are over before: the vendor leaves a socket open
    where a handshake is cancelled.
    """
    wait_s = wait_ms / 1000
    return httpx.Timeout(wait_s, connect=min(CONNECT_S, wait_s / 3))


def _base(settings: LinkSettings) -> httpx.URL:
    try:
        if HOST.fullmatch(settings.host):
            return httpx.URL(scheme="http" if settings.plain else "https", host=settings.host, port=settings.port)
    except httpx.InvalidURL:
        pass  # a name that is not ASCII has rules of its own
    raise BadInput(f"{settings.host[:WHY_LENGTH_MAX]!r} is no name of a host", "set host in [sync.https]")


def _context(settings: LinkSettings, *, dated: bool) -> ssl.SSLContext:
    if settings.plain:
        check_plain(settings.host)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used, and believes nobody
    return context_of(settings, dated=dated)


def authorize(request: httpx.Request, settings: LinkSettings) -> None:
    if token := settings.token():
        request.headers["authorization"] = f"Bearer {token}"


async def exchange(client: httpx.AsyncClient, request: httpx.Request, wait_ms: int) -> Heard | Retry:
    """Sends and reads, at most `wait_ms` in all: the vendor's own time-outs start anew with every byte."""
    try:
        async with asyncio.timeout(wait_ms / 1000):
            answer = await client.send(request, stream=True)
            try:
                return await _whole(answer)
            finally:
                await answer.aclose()
    except httpx.ConnectTimeout:
        return Retry("no connection in time")
    except (httpx.TimeoutException, TimeoutError):
        return Retry(f"no answer within {wait_ms / 1000:g} s")
    except (httpx.HTTPError, httpx.StreamError, OSError) as error:  # OpenSSL's own errors come through as they are
        return Retry(line_of(str(error)) or type(error).__name__)


async def _whole(answer: httpx.Response) -> Heard | Retry:
    content = bytearray()
    async for piece in answer.aiter_raw():
        content += piece
        if len(content) > ACK_BYTES_MAX:
            return Retry(f"the answer has more than {ACK_BYTES_MAX} bytes, which no ack has")
    return Heard(answer.status_code, answer.headers, bytes(content))


def answer_of(heard: Heard, clock: Clock) -> Answer:
    """A fork is answered with 409 and the ack that proves it: signed, so it goes the same way as any ack."""
    wait_ms = after_ms(heard, clock)
    if heard.status in (200, 409) and heard.signed_object:
        return Acked(heard.content, heard.marks)
    if heard.status == 200:
        return Retry("the answer is not a signed ack", wait_ms)
    return refused(heard, wait_ms)


def posted(heard: Heard, clock: Clock) -> Retry | Refused | None:
    """Only for what is wrong with the message itself it is given up: a robot that is not known yet may be tomorrow."""
    if 200 <= heard.status < 300:
        return None
    answer = refused(heard, after_ms(heard, clock))
    return answer if heard.status in HOPELESS and isinstance(answer, Refused) else Retry(answer.why, answer.after_ms)


def refused(heard: Heard, wait_ms: int) -> Retry | Refused:
    refusal = heard.refusal
    said = line_of(refusal.message) if refusal else ""
    why = f"{said or 'no reason given'} (status {heard.status})"
    if not 400 <= heard.status < 500 or heard.status in PATIENCE:
        return Retry(why, wait_ms)
    if heard.status == 409 and not refusal:
        return Retry(why, wait_ms)  # a new epoch is not begun on the word of something between here and the backend
    if refusal and refusal.code == REVOKED:
        return Refused(REVOKED, why, wait_ms)
    code = CODES.get(heard.status) or (refusal.code if refusal else "")
    return Refused(code, why, wait_ms) if code else Retry(why, wait_ms)


def after_ms(heard: Heard, clock: Clock) -> int:
    """How long to wait, as asked in the header, in either of its forms, or in the body; 0 where nothing was."""
    asked = heard.headers.get("retry-after", "")
    told = min(int(asked), RETRY_AFTER_MS_MAX) * 1000 if asked.isascii() and asked.isdigit() and len(asked) < 10 else 0
    if (until := _date(asked)) is not None:
        # By the other side's own clock where it says what that is: this machine's may be wrong by years.
        now = _date(heard.headers.get("date", "")) or clock.utc()
        told = round((until - now) / datetime.timedelta(milliseconds=1))
    refusal = heard.refusal
    return max(0, min(max(told, refusal.retry_after_ms if refusal else 0), RETRY_AFTER_MS_MAX))


def _date(text: str) -> datetime.datetime | None:
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def _value(content: bytes) -> object:
    try:
        return orjson.loads(content)
    except ValueError:
        return None


def line_of(text: str) -> str:
    """What another machine says, as part of one line for people."""
    return "".join(sign if sign.isprintable() else " " for sign in text).strip()[:WHY_LENGTH_MAX]
