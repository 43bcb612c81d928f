"""Who the backend is, what time it is, and tokens for its clients."""

import base64
from pathlib import Path
from typing import Any

import pytest

from agent.billing.access.grants import AUDIENCE, ISSUER
from agent.billing.http.tokens import ASSERTION_TYPE
from agent.contract import jwt
from agent.contract.registration import SignedTime, time_message, trusted_of
from agent.contract.signing import decode, encode, verify
from tests.billing.helpers import BACKEND_KEY, KEY
from tests.billing.serving import Web, bearer, error, with_web

PATH = "/oauth2/token"
GRANT = {"grant_type": "client_credentials"}


def test_the_time_is_signed_with_the_nonce(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        told = SignedTime.model_validate((await web.client.get("/v1/time", params={"nonce": "n-1"})).json())
        trusted = trusted_of((await web.client.get("/.well-known/jwks.json")).json()["keys"])
        assert verify(trusted[told.key], time_message("n-1", told.time), decode(told.signature))
        assert told.time.startswith("2026-11-23T00:00:00")

    with_web(tmp_path, run)


def test_a_client_gets_a_token_by_its_secret_in_form_or_header(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        made = await web.access.create("office", ["statements:read", "admin"])
        secret = made["api_key"].split("_", 2)[2]
        shown = {"client_id": made["id"], "client_secret": secret}
        basic = {"Authorization": "Basic " + base64.b64encode(f"{made['id']}:{secret}".encode()).decode()}
        for form, headers in ((shown, {}), ({}, basic)):
            answer = await web.client.post(PATH, data=GRANT | form | {"scope": "admin"}, headers=headers)
            assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
            token = answer.json()["access_token"]
            claims = jwt.read(token, {BACKEND_KEY.key_id: BACKEND_KEY.public}, jwt.Expected(ISSUER, AUDIENCE, web.clock.utc()))
            assert {"iss", "aud", "exp", "sub", "scope"} <= set(claims)
            assert (await web.client.get("/v1/audit", headers=bearer(token))).status_code == 200
            assert (await web.client.get("/v1/usage/totals", headers=bearer(token))).status_code == 403

    with_web(tmp_path, run)


def test_a_client_gets_a_token_by_signing(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        client = (await web.access.create("exporter", ["admin"], public=KEY.public))["id"]
        claims = {"iss": client, "sub": client, "aud": AUDIENCE, "exp": int(web.clock.utc().timestamp()) + 60, "jti": "1"}
        form = GRANT | {"client_assertion_type": ASSERTION_TYPE, "client_assertion": jwt.issue(claims, KEY)}
        answer = await web.client.post(PATH, data=form)
        assert (await web.client.get("/v1/audit", headers=bearer(answer.json()["access_token"]))).status_code == 200
        answer = await web.client.post(PATH, data=form)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")

    with_web(tmp_path, run)


@pytest.mark.parametrize(
    ("form", "status", "code"),
    [
        ({}, 400, "unsupported_grant_type"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        (GRANT, 401, "invalid_client"),
        (GRANT | {"client_id": "x"}, 401, "invalid_client"),
        (GRANT | {"client_id": "x", "client_secret": "y"}, 401, "invalid_client"),
        (GRANT | {"client_id": "\0", "client_secret": "A" * 43}, 401, "invalid_client"),
        (GRANT | {"client_assertion_type": "x"}, 400, "invalid_request"),
        (GRANT | {"client_assertion_type": ASSERTION_TYPE}, 401, "invalid_client"),
        (GRANT | {"client_assertion_type": ASSERTION_TYPE, "client_assertion": "a.b.c"}, 401, "invalid_client"),
        ({f"f{n}": "x" for n in range(20)}, 400, "invalid_request"),
    ],
    ids=str,
)
def test_a_client_nobody_knows_gets_nothing(tmp_path: Path, form: dict[str, str], status: int, code: str) -> None:
    async def run(web: Web) -> None:
        answer = await web.client.post(PATH, data=form, headers={"Content-Type": "application/x-www-form-urlencoded"})
        assert (answer.status_code, error(answer), answer.json()["error"]) == (status, code, code)

    with_web(tmp_path, run)


@pytest.mark.parametrize("content", [b"grant_type=%ff", b"\xff", b"a=1&a=2", b"%", b"=" * 50_000, b"{}"])
def test_a_form_that_is_none(tmp_path: Path, content: bytes) -> None:
    async def run(web: Web) -> None:
        for kind in ("application/x-www-form-urlencoded; charset=utf-8", "application/json", ""):
            answer = await web.client.post(PATH, content=content, headers={"Content-Type": kind})
            assert answer.status_code == 400

    with_web(tmp_path, run)


def test_no_more_scopes_than_the_client_has(tmp_path: Path) -> None:
    async def run(web: Web) -> None:
        made = await web.access.create("office", ["statements:read"])
        form = GRANT | {"client_id": made["id"], "client_secret": made["api_key"].split("_", 2)[2], "scope": "admin"}
        answer = await web.client.post(PATH, data=form)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")

    with_web(tmp_path, run)


@pytest.mark.parametrize("change", [{"exp": 0}, {"aud": "others"}, {"iss": "them"}, {"exp": None}, {"alg": "none"}, {"alg": "HS256"}])
def test_a_token_that_is_not_good_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    async def run(web: Web) -> None:
        made = await web.access.create("office", ["admin"])
        now = int(web.clock.utc().timestamp())
        claims: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "sub": made["id"], "exp": now + 60, "scope": "admin"}
        assert (await web.client.get("/v1/audit", headers=bearer(jwt.issue(claims, BACKEND_KEY)))).status_code == 200
        header, body, signature = jwt.issue({k: v for k, v in (claims | change).items() if v is not None}, BACKEND_KEY).split(".")
        if "alg" in change:
            header, signature = encode(f'{{"alg":"{change["alg"]}","kid":"{BACKEND_KEY.key_id}"}}'.encode()), ""
        answer = await web.client.get("/v1/audit", headers=bearer(f"{header}.{body}.{signature}"))
        assert (answer.status_code, error(answer)) == (401, "unauthorized")

    with_web(tmp_path, run)
