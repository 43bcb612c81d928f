"""Lets a request in or not, before any of its body is read: by address, by credential, by rate, by size.

    address allowed? -> who asks? -> within their rate? -> small enough? -> the route decides what they may do

Who asks is looked up in the books only within the rate of the address it comes from.

A credential that is no good is not refused here, since some routes need none; the route that does refuses it.
"""

import asyncio
import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.billing.access import Access
from agent.billing.access.credentials import Principal
from agent.billing.access.denied import Denied, Forbidden, TooMany, Unauthorized
from agent.billing.http.errors import of_failure, told
from agent.billing.http.metrics import Metrics
from agent.clock import Clock
from agent.contract.batch import BATCH_BYTES_MAX
from agent.link.bucket import Bucket

BODY_BYTES_MAX = 2 * BATCH_BYTES_MAX
"""The largest batch, made no smaller by its compression, fits; what is between, the ingest refuses in its own words."""

CLIENTS_MAX = 10_000
"""Clients whose rate is remembered, some 5 MB. Beyond, who was away longest begins anew."""

TOO_BIG = f"a body of more than {BODY_BYTES_MAX} bytes; send less at once"

BODY_S = 60.0
"""For a whole body: the largest batch at 18 kbit/s. A robot has given up by then."""

TOO_SLOW = f"the body did not come within {BODY_S:.0f} seconds; send it at once, or less"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Limits:
    """Who may come, and how often."""

    per_second: int = 100
    """Requests of one client, on average and at once."""
    allowed: tuple[Network, ...] = ()
    """Empty: from anywhere."""
    connections: int = 256
    """At once from one address. A robot needs one to eight; a site behind one address, or a proxy, has many robots."""

    def allow(self, address: str) -> bool:
        """Whether one may come from there."""
        found = parsed(address) if self.allowed else None
        return not self.allowed or (found is not None and any(found in network for network in self.allowed))


class Gate:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, access: Access, clock: Clock, limits: Limits, metrics: Metrics) -> None:
        self._app, self._access, self._clock = app, access, clock
        self._limits, self._metrics = limits, metrics
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        state = scope["state"] = dict(scope.get("state") or {})
        state |= {"clock": self._clock, "begun": self._clock.monotonic(), "request_id": self._clock.new_id(), "audit": self._audit}

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.answered(scope, message["status"])
                message["headers"] = [*message.get("headers", []), (b"x-request-id", state["request_id"].encode())]
            await send(message)

        await self._passed(scope, receive, sent)

    async def _passed(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._check_address(scope)
            await self._recognise(scope)
            caller = scope["state"]["caller"]
            self._check_rate(scope, caller.id if isinstance(caller, Principal) else address_of(scope))
        except Denied as error:
            await self._audit(scope, error)
            await of_failure(scope, error)(scope, receive, send)
            return
        if (scope["type"] == "http") and _announced(scope) > BODY_BYTES_MAX:
            await told(scope, 413, "too-big", TOO_BIG, headers={"Connection": "close"})(scope, receive, send)
            return
        await self._app(scope, _limited(receive) if scope["type"] == "http" else receive, send)

    def _check_address(self, scope: Scope) -> None:
        if not self._limits.allow(address_of(scope)):
            raise Forbidden("your address is not on the allow-list", "ask the operator")

    async def _recognise(self, scope: Scope) -> None:
        """Puts a Principal, or why there is none, into the request's state."""
        scheme, _, shown = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            scope["state"]["caller"] = Unauthorized("this needs a credential", "send Authorization: Bearer with an API key or a token")
            return
        shown = shown.strip()
        if not self._access.remembers(shown):
            self._check_rate(scope, address_of(scope))
        scope["state"]["again"] = partial(self._access.who, shown)
        try:
            scope["state"]["caller"] = await self._access.who(shown)
        except Unauthorized as error:
            scope["state"]["caller"] = error

    def _check_rate(self, scope: Scope, client: str) -> None:
        """A stranger counts by address, so that nobody gets a new rate by inventing credentials. A request counts once for each client."""
        counted = scope["state"].setdefault("counted", set())
        if client in counted:
            return
        counted.add(client)
        bucket = self._buckets.get(client)
        if bucket is None:
            bucket = self._buckets[client] = Bucket(self._clock, self._limits.per_second, self._limits.per_second)
            if len(self._buckets) > CLIENTS_MAX:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(client)
        if not bucket.take():
            raise TooMany(f"more than {self._limits.per_second} requests a second", "wait as Retry-After says", bucket.wait_ms())

    async def _audit(self, scope: Scope, error: Denied) -> None:
        """A refused authorisation is put on record; a rate is no matter of who may."""
        if isinstance(error, TooMany):
            return
        caller = scope["state"].get("caller")
        if isinstance(caller, Principal):
            who = {"tenant": caller.tenant, "device": caller.device}
            await self._access.noted(caller.id, "refused", why=str(error), path=scope["path"], **who)
        else:
            await self._access.noted(address_of(scope), "refused", why=str(error), path=scope["path"])


def address_of(scope: Scope) -> str:
    """Of the peer itself: what a proxy says of others is believed by nobody."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IPv4 address is one, also where it came over an IPv6 socket."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _announced(scope: Scope) -> int:
    text = Headers(scope=scope).get("content-length", "0")
    return int(text) if text.isdecimal() and len(text) < len(str(2**63)) else BODY_BYTES_MAX + 1


def _limited(receive: Receive) -> Receive:
    """Gives up on a body that goes on beyond the limit, in bytes, whatever it had announced, or in time."""
    seen, whole, until = 0, False, asyncio.get_running_loop().time() + BODY_S

    async def counted() -> Message:
        nonlocal seen, whole
        try:
            async with asyncio.timeout_at(None if whole else until):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(408, TOO_SLOW, {"Connection": "close"}) from error
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if seen > BODY_BYTES_MAX:
                raise HTTPException(413, TOO_BIG, {"Connection": "close"})
        return message

    return counted
