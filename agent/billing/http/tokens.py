"""Who the backend is and what time it is, for anyone; tokens for clients of the API (OAuth2 client credentials)."""

import base64
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import JSONResponse

from agent.billing.access.audit import stamp
from agent.billing.access.denied import Denied, Unauthorized
from agent.billing.access.grants import BadScope
from agent.billing.http.backend import Backend, Held
from agent.billing.http.errors import told
from agent.contract.registration import SignedTime, jwks, signed_time
from agent.errors import BadInput

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

FIELDS_MAX = 10
"""Of a form; a request for a token has at most five."""

FORM = "application/x-www-form-urlencoded"

TOKEN_IN_OPENAPI = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "required": ["grant_type"],
                    "properties": {
                        "grant_type": {"const": "client_credentials"},
                        "client_id": {"type": "string"},
                        "client_secret": {"type": "string"},
                        "client_assertion_type": {"const": ASSERTION_TYPE},
                        "client_assertion": {"type": "string"},
                        "scope": {"type": "string"},
                    },
                }
            }
        },
    }
}

Nonce = Annotated[str, Query(pattern=r"^[!-~]{1,64}$")]

router = APIRouter(tags=["identity"])


@router.get("/v1/time")
async def time(nonce: Nonce, held: Held) -> SignedTime:
    """The time, signed together with the nonce, so that a robot that wakes in 1970 can start."""
    return signed_time(nonce, stamp(held.clock.utc()), held.key)


@router.get("/.well-known/jwks.json")
async def keys(held: Held) -> dict[str, list[dict[str, Any]]]:
    """The keys that sign acks, time and tokens."""
    return {"keys": jwks([held.key.public])}


@router.post("/oauth2/token", openapi_extra=TOKEN_IN_OPENAPI)
async def token(request: Request, held: Held) -> Response:
    """A token for a client: by secret, in the form or as HTTP Basic, or by an assertion that the client signs (private_key_jwt)."""
    try:
        form = _form(await request.body(), request.headers.get("content-type", ""))
        if form.get("grant_type") != "client_credentials":
            return _refused(request, 400, "unsupported_grant_type", "only client_credentials are taken; set grant_type")
        granted = await _granted(held, form, request.headers.get("authorization", ""))
    except Denied as error:
        await request.state.audit(request.scope, error)
        return _refused(request, 401, "invalid_client", str(error))
    except BadInput as error:
        return _refused(request, 400, error.code if isinstance(error, BadScope) else "invalid_request", str(error))
    return JSONResponse(granted, headers={"Cache-Control": "no-store"})


async def _granted(held: Backend, form: dict[str, str], authorization: str) -> dict[str, Any]:
    scope = form.get("scope", "")
    if form.get("client_assertion_type"):
        if form["client_assertion_type"] != ASSERTION_TYPE:
            raise BadInput("this kind of client assertion is not known", f"set client_assertion_type to {ASSERTION_TYPE}")
        return await held.access.grant_signed(form.get("client_assertion", ""), scope)
    scheme, _, shown = authorization.partition(" ")
    client, secret = _basic(shown) if scheme.lower() == "basic" else (form.get("client_id", ""), form.get("client_secret", ""))
    if not client or not secret:
        raise Unauthorized("the client does not say who it is", "send client_id and client_secret")
    return await held.access.grant(client, secret, scope)


def _form(body: bytes, kind: str) -> dict[str, str]:
    if kind.partition(";")[0].strip().lower() != FORM:
        raise BadInput(f"the request is no {FORM}", "send a form")
    try:
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict")
    except ValueError as error:
        raise BadInput("the form can't be read", "send it URL-encoded, in UTF-8") from error
    if len(dict(fields)) != len(fields):
        raise BadInput("a field stands twice in the form", "send each once")
    return dict(fields)


def _basic(shown: str) -> tuple[str, str]:
    try:
        client, _, secret = base64.b64decode(shown, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return client, secret


def _refused(request: Request, status: int, code: str, message: str) -> Response:
    """In our shape and in OAuth2's (RFC 6749, 5.2) at once."""
    return told(request.scope, status, code, message, headers={"Cache-Control": "no-store"}, error=code, error_description=message)
