"""Turns whatever went wrong into one shape: `{code, message, request_id, latency}` with the fitting status.

The framework's own errors (no such path, no such method, a body that does not fit) take the same shape as ours.
"""

import math
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import Scope
from starlette.websockets import WebSocket

from agent.billing.access.denied import Denied, TooMany
from agent.contract.batch import BatchTooBig
from agent.contract.wire import Refusal
from agent.errors import BadInput, LedgerDamaged, LedgerFull, VoxmeterError

AGAIN_MS = 5_000
"""After so long somebody whom the disk has refused may try again."""

PROBLEM_CHARACTERS_MAX = 1000
"""Of what a stranger sent we say back no more."""

STATUS_OF_REFUSAL = {
    "bad-batch": 400,
    "bad-signature": 400,
    "unknown-key": 422,  # it may be registered yet; a 403 would hide the code from robots
    "forbidden": 403,
    "unknown-device": 404,
    "fork": 409,
    "too-big": 413,
}
"""Any other refusal of the ingest asks for patience: 503."""

CODES = {
    400: "bad-request",
    401: "unauthorized",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    408: "too-slow",
    413: "too-big",
}


class ErrorTold(BaseModel):
    """What every error looks like."""

    code: str
    """A stable name."""
    message: str
    """What is wrong; what to do."""
    request_id: str
    latency: int
    """Milliseconds from the first byte of the request."""


def told(
    scope: Scope, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None, after_ms: int = 0, **more: str
) -> Response:
    """The error as an answer; `more` stands beside the four fields."""
    state = scope.get("state", {})
    latency = round((state["clock"].monotonic() - state["begun"]) * 1000) if "begun" in state else 0
    line = " ".join(message.split())[:PROBLEM_CHARACTERS_MAX]
    shown = ErrorTold(code=code, message=line, request_id=state.get("request_id", ""), latency=latency)
    extra = dict(headers or {})
    if after_ms:
        extra["Retry-After"] = str(math.ceil(after_ms / 1000))
    if status == HTTPStatus.UNAUTHORIZED:
        extra.setdefault("WWW-Authenticate", "Bearer")
    return JSONResponse(shown.model_dump() | more, status, extra)


def of_failure(scope: Scope, error: VoxmeterError) -> Response:
    """What one of our own errors is over HTTP."""
    if isinstance(error, TooMany):
        return told(scope, error.status, error.code, str(error), after_ms=error.after_ms)
    if isinstance(error, Denied):
        return told(scope, error.status, error.code, str(error))
    if isinstance(error, BadInput):
        too_big = isinstance(error, BatchTooBig)
        return told(scope, 413 if too_big else 400, "too-big" if too_big else error.code, str(error))
    if isinstance(error, LedgerFull | LedgerDamaged):
        return told(scope, 503, error.code, "the books can't be written just now; try again later", after_ms=AGAIN_MS)
    return told(scope, 500, error.code, "the backend could not do it; report this with the request_id")


def of_refusal(scope: Scope, refusal: Refusal) -> Response:
    """What a refusal of the ingest is over HTTP."""
    status = STATUS_OF_REFUSAL.get(refusal.code, 503)
    after_ms = refusal.retry_after_ms or (AGAIN_MS if status == HTTPStatus.SERVICE_UNAVAILABLE else 0)
    return told(scope, status, refusal.code, refusal.message, after_ms=after_ms)


def install(api: FastAPI) -> None:
    """Makes every error of the app one of these."""
    api.add_exception_handler(VoxmeterError, _ours)
    api.add_exception_handler(RequestValidationError, _does_not_fit)
    api.add_exception_handler(HTTPException, _frameworks)
    api.add_exception_handler(Exception, _unforeseen)


async def _ours(request: Request | WebSocket, error: Exception) -> Response:
    assert isinstance(error, VoxmeterError)
    if isinstance(error, Denied) and error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        await request.state.audit(request.scope, error)
    return of_failure(request.scope, error)


async def _does_not_fit(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return told(request.scope, 422, "bad-request", f"{where}: {first['msg']}")


async def _frameworks(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = CODES.get(error.status_code, HTTPStatus(error.status_code).phrase.lower().replace(" ", "-"))
    return told(request.scope, error.status_code, code, str(error.detail), headers=error.headers)


async def _unforeseen(request: Request, error: Exception) -> Response:
    del error  # the server logs it; a stranger learns nothing from it
    return told(request.scope, 500, "error", "the backend could not do it; report this with the request_id")
