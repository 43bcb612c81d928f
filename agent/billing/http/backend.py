"""What every route works with, and how a route says what somebody must be allowed to use it."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Path, Security
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection

from agent.billing.access import Access
from agent.billing.access.credentials import Principal
from agent.billing.fleet import Fleet
from agent.billing.http.metrics import Metrics, Taking
from agent.billing.ledger import Store
from agent.clock import Clock
from agent.contract.signing import SigningKey

BEARER = HTTPBearer(auto_error=False, description="An API key (vx_…), or a token of POST /oauth2/token.")


@dataclass(frozen=True, slots=True)
class Backend:
    """The parts of one backend."""

    store: Store
    ingest: Taking
    access: Access
    key: SigningKey
    clock: Clock
    metrics: Metrics
    fleet: Fleet
    following: Counter[str] = field(default_factory=Counter)
    """Live streams of each credential, by its id."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the backend is to end: no stream begins any more, readiness is over."""


async def backend(connection: HTTPConnection) -> Backend:
    """The parts of the backend that was asked."""
    found: Backend = connection.app.state.backend
    return found


def needs(scope: str) -> Callable[..., Awaitable[Principal]]:
    """A dependency: who asks, allowed for `scope`. Raises Unauthorized or Forbidden."""

    async def found(connection: HTTPConnection, caller: Annotated[Principal, Depends(_caller)]) -> Principal:
        del connection
        caller.demand(scope)
        return caller

    return found


async def _caller(connection: HTTPConnection) -> Principal:
    caller = connection.state.caller
    if isinstance(caller, Principal):
        return caller
    raise caller


Held = Annotated[Backend, Depends(backend)]

SHOWN = [Security(BEARER)]
"""For the OpenAPI page: this route wants a credential. The gate has read it already."""

DeviceName = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""As in a device profile."""
