"""What operators look at: is it alive, is it ready, its figures, the audit log, and a page that lists the calls."""

import html
import ipaddress
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from sqlalchemy import select
from starlette.responses import HTMLResponse, JSONResponse

from agent.billing.access import audit
from agent.billing.access.credentials import Principal
from agent.billing.access.tables import AUDIT
from agent.billing.http.backend import SHOWN, Held, needs
from agent.billing.http.errors import told
from agent.billing.http.gate import address_of, parsed
from agent.contract.ack import Ack
from agent.contract.batch import BatchContent
from agent.errors import VoxmeterError

SCHEMAS = "#/components/schemas/{model}"

METHODS = ("get", "put", "post", "delete")

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>
body{{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222;background:#fff}}
code{{font-size:.95em}} td{{padding:.3em 1em .3em 0;vertical-align:top;border-top:1px solid #ddd}} table{{border-collapse:collapse}}
</style><h1>{title}</h1><p>The whole description, for programs: <a href="/openapi.json">/openapi.json</a>.</p><table>{rows}</table>"""

Admin = Annotated[Principal, Depends(needs("admin"))]

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def alive() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def ready(request: Request, held: Held) -> Response:
    """The books can be read, and the backend isn't stopping; else 503."""
    try:
        await held.store.read(lambda connection: connection.execute(select(AUDIT.c.id).limit(1)).first())
    except VoxmeterError:
        return told(request.scope, 503, "not-ready", "the books can't be read", after_ms=1000)
    if held.stopping.is_set():
        return told(request.scope, 503, "not-ready", "the backend is stopping", after_ms=1000)
    return JSONResponse({"status": "ok"})


@router.get("/metrics", dependencies=SHOWN)
async def metrics(request: Request, held: Held) -> Response:
    """Figures for Prometheus; from this machine, or with scope admin."""
    address = parsed(address_of(request.scope))
    if not isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address) or not address.is_loopback:
        caller = request.state.caller
        if not isinstance(caller, Principal):
            raise caller
        caller.demand("admin")
    return Response(held.metrics.told(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/audit", dependencies=SHOWN)
async def log(
    held: Held,
    caller: Admin,
    after: Annotated[int, Query(ge=0, lt=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=audit.PAGE_LINES_MAX)] = 100,
) -> dict[str, Any]:
    """The audit log, oldest first, each line with the hash that chains it; `next` is the `after` of the next page."""
    return await held.store.read(lambda connection: audit.page(connection, tenant=caller.tenant, after=after, limit=limit))


@router.get("/docs", include_in_schema=False)
async def page(request: Request) -> HTMLResponse:
    """The calls, for people. Nothing is loaded from elsewhere."""
    told = request.app.openapi()
    rows = [
        f"<tr><td><code>{method.upper()}</code></td><td><code>{html.escape(path)}</code></td>"
        f"<td>{html.escape(call.get('description') or call['summary'])}</td></tr>"
        for path, calls in told["paths"].items()
        for method, call in calls.items()
        if method in METHODS
    ]
    return HTMLResponse(PAGE.format(title=html.escape(told["info"]["title"]), rows="".join(rows)))


def describe(api: FastAPI) -> None:
    """The OpenAPI page, with the models of the contract that travel as signed bytes and so pass by the framework."""

    def described() -> dict[str, Any]:
        if api.openapi_schema is None:
            spec = get_openapi(title=api.title, version=api.version, description=api.description, routes=api.routes)
            _, wired = models_json_schema([(BatchContent, "validation"), (Ack, "validation")], ref_template=SCHEMAS)
            spec.setdefault("components", {}).setdefault("schemas", {}).update(wired["$defs"])
            api.openapi_schema = spec
        return api.openapi_schema

    api.openapi = described  # type: ignore[method-assign]  # the way the framework's documentation has it
