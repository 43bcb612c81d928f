"""The backend over HTTP: builds the app out of its routes, behind the gate."""

from fastapi import FastAPI

from agent.billing.access import Access
from agent.billing.fleet import Fleet
from agent.billing.http import errors, operations, tokens, usage
from agent.billing.http.backend import Backend
from agent.billing.http.gate import Gate, Limits
from agent.billing.http.metrics import Metrics, Taking
from agent.billing.http.robots import certificates, devices, events
from agent.billing.ledger import Store
from agent.clock import Clock
from agent.contract.signing import SigningKey

ERRORS = (400, 401, 403, 404, 409, 413, 422, 429, 500, 503)


def app(
    store: Store,
    ingest: Taking,
    access: Access,
    key: SigningKey,
    clock: Clock,
    *,
    limits: Limits = Limits(),  # noqa: B008  frozen
    metrics: Metrics | None = None,
    fleet: Fleet | None = None,
) -> FastAPI:
    """The app; `app.state.backend` holds its parts. Every error has one shape, on the OpenAPI page as well."""
    counted = metrics or Metrics()
    counted.follow(ingest)
    api = FastAPI(
        title="voxmeter billing",
        version="1",
        description="Takes the usage of robots in, once in effect, and tells what it comes to.",
        docs_url=None,  # the framework's page loads its scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        responses={status: {"model": errors.ErrorTold} for status in ERRORS},
    )
    api.state.backend = Backend(store, ingest, access, key, clock, counted, fleet or Fleet(store, key, clock))
    for part in (devices, certificates, events, usage, tokens, operations):
        api.include_router(part.router)
    errors.install(api)
    operations.describe(api)
    api.add_middleware(Gate, access=access, clock=clock, limits=limits, metrics=counted)
    return api
