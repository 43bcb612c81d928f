"""Registering, the next key and the signed time, against a real TLS server; a fault is one line that says what to do."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest

from agent.contract.registration import (
    CertificateRequest,
    Decommissioning,
    NewKey,
    Registered,
    Registration,
    holds_its_key,
    jwks,
    leaves,
    requests,
    time_message,
)
from agent.contract.signing import SigningKey, check_key_record, encode
from agent.errors import BadInput, BadProfile, NoLink
from agent.link.account import StruckOff, add_key, certify, leave, register, server_time
from agent.ports import LinkSettings
from tests.link.helpers import NOW, Asked, Authority, Play, PlayedServer, written

T = TypeVar("T")

KEY, NEXT, BACKEND = (SigningKey.from_seed(bytes([number]) * 32) for number in (1, 2, 3))
TRUSTED = {BACKEND.key_id: BACKEND.public}
REGISTERED = {"tenant": "t", "device": "robot", "account": "a", "api_key": "vx_1_secret", "keys": jwks([BACKEND.public])}
TIME = "2026-11-05T06:07:08.900Z"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def settings_of(authority: Authority, port: int) -> LinkSettings:
    return LinkSettings("t", "robot", "127.0.0.1", port, authority.pem, token=lambda: "vx_1_secret")


def asking(
    authority: Authority, raw: bytes, ask: Callable[[LinkSettings], Awaitable[T]], *, expired: bool = False, cut: bool = False
) -> tuple[T, Asked]:
    """What asking a server that plays that comes to, and what it was asked."""

    async def main() -> tuple[T, Asked]:
        context = authority.server(days=1, now=NOW - timedelta(days=5)) if expired else authority.server()
        async with PlayedServer([Play(raw, "close" if cut else "keep")], context) as server:
            return await ask(settings_of(authority, server.port)), server.asked[-1]

    return asyncio.run(main())


def json(status: int, value: Any) -> bytes:
    return written(status, orjson.dumps(value))


def told_time(time: str = TIME, nonce: str = "n", key: SigningKey = BACKEND, **more: str) -> bytes:
    signature = encode(key.sign(time_message(nonce, time)))
    return json(200, {"time": time, "nonce": nonce, "key": key.key_id, "signature": signature} | more)


def registering(settings: LinkSettings) -> Awaitable[Registered]:
    return register(settings, "one-time", KEY)


def telling(settings: LinkSettings) -> Awaitable[None]:
    return add_key(settings, "e" * 32, KEY, NEXT)


def timing(settings: LinkSettings) -> Awaitable[datetime]:
    return server_time(settings, "n", TRUSTED)


def test_a_robot_registers_with_a_token_and_shows_that_it_holds_its_key(authority: Authority) -> None:
    registered, asked = asking(authority, json(201, REGISTERED), registering)
    assert registered.api_key == "vx_1_secret"
    assert asked.line == "POST /v1/devices HTTP/1.1"
    told = Registration.model_validate(orjson.loads(asked.body))
    assert holds_its_key(told)
    assert (told.token, told.tenant, told.device, told.key) == ("one-time", "t", "robot", encode(KEY.public))


def test_who_has_no_key_yet_registers_without_one(authority: Authority) -> None:
    async def bare(settings: LinkSettings) -> Registered:
        def none() -> str:
            raise BadInput("no API key")

        return await register(LinkSettings("t", "robot", settings.host, settings.port, authority.pem, token=none), "one-time", KEY)

    _, asked = asking(authority, json(201, REGISTERED), bare)
    assert "authorization" not in asked.headers


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_a_token_that_is_not_taken_is_bad_input_and_says_why(authority: Authority, status: int) -> None:
    with pytest.raises(BadInput, match=r"doesn't register.*token is used up.*new token"):
        asking(authority, json(status, {"code": "used-token", "message": "the token is used up"}), registering)


@pytest.mark.parametrize("ask", [registering, telling, timing])
@pytest.mark.parametrize("raw", [json(500, {}), json(302, {}), json(429, {"code": "slow", "message": "later"}), b"", b"junk\r\n\r\n"])
def test_no_answer_is_no_link_in_one_line(authority: Authority, ask: Callable[[LinkSettings], Awaitable[object]], raw: bytes) -> None:
    with pytest.raises(NoLink, match=r"can't be reached: .*; check"):
        asking(authority, raw, ask, cut=True)


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"{}", orjson.dumps(REGISTERED | {"api_key": ""}), b"[" * 9_999])
def test_an_answer_of_something_else_is_no_link(authority: Authority, content: bytes) -> None:
    with pytest.raises(NoLink, match="no backend"):
        asking(authority, written(200, content), registering)


def test_a_new_key_is_told_signed_by_both(authority: Authority) -> None:
    for status in (200, 201, 204):
        _, asked = asking(authority, written(status), telling)
        assert asked.line == "POST /v1/devices/robot/keys HTTP/1.1"
        assert asked.headers["authorization"] == "Bearer vx_1_secret"
        told = NewKey.model_validate(orjson.loads(asked.body))
        assert (told.old, told.new) == (encode(KEY.public), encode(NEXT.public))
        assert check_key_record(told.epoch, told.model_dump())


def test_a_key_that_is_not_taken_leaves_the_old_one_signing(authority: Authority) -> None:
    with pytest.raises(NoLink, match="old key signs on"):
        asking(authority, json(403, {"code": "forbidden", "message": "not yours"}), telling)


def test_the_time_is_believed_when_it_is_signed_for_this_question(authority: Authority) -> None:
    moment, asked = asking(authority, told_time(), timing)
    assert moment == datetime(2026, 11, 5, 6, 7, 8, 900_000, UTC)
    assert asked.line == "GET /v1/time?nonce=n HTTP/1.1"


def test_a_robot_that_can_t_judge_dates_of_certificates_gets_the_time_and_shows_no_key(authority: Authority) -> None:
    moment, asked = asking(authority, told_time(), timing, expired=True)
    assert moment.year == 2026
    assert "authorization" not in asked.headers


def test_only_the_time_is_asked_past_an_expired_certificate(authority: Authority) -> None:
    with pytest.raises(NoLink, match="expired"):
        asking(authority, json(201, REGISTERED), registering, expired=True)


def test_a_stranger_s_certificate_is_never_taken_for_the_time_either(authority: Authority, tmp_path: Path) -> None:
    async def other(settings: LinkSettings) -> datetime:
        return await server_time(settings_of(Authority(tmp_path / "other"), settings.port), "n", TRUSTED)

    with pytest.raises(NoLink, match="can't be reached"):
        asking(authority, told_time(), other)


@pytest.mark.parametrize(
    "raw",
    [
        told_time(nonce="another"),
        told_time(key=KEY),
        told_time(key=KEY).replace(KEY.key_id.encode(), BACKEND.key_id.encode()),
        told_time(time="2026-11-05T06:07:08Z").replace(b"06:07", b"06:08"),
        told_time(signature="A" * 86),
    ],
)
def test_a_time_that_is_not_signed_for_this_question_is_not_believed(authority: Authority, raw: bytes) -> None:
    with pytest.raises(NoLink, match="not signed by a backend this robot trusts"):
        asking(authority, raw, timing)


@pytest.mark.parametrize("time", ["noon", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "2026-11-05T06:07:08"])
def test_a_time_that_is_none_is_one_line(authority: Authority, time: str) -> None:
    with pytest.raises(NoLink, match="time is none"):
        asking(authority, told_time(time=time), timing)


def test_without_tls_no_other_machine_is_registered_with(authority: Authority) -> None:
    with pytest.raises(BadProfile, match="without TLS"):
        asyncio.run(register(LinkSettings("t", "robot", "192.0.2.1", 80, plain=True), "one-time", KEY))


def certifying(settings: LinkSettings) -> Awaitable[bytes]:
    return certify(settings, "csr", KEY)


def leaving(settings: LinkSettings) -> Awaitable[None]:
    return leave(settings, KEY)


def test_another_certificate_is_asked_for_by_both_keys_and_without_the_old_one(authority: Authority) -> None:
    async def broken(settings: LinkSettings) -> bytes:
        return await certify(replace(settings, certificate=Path("gone"), key=Path("gone")), "csr", KEY)

    chain, asked = asking(authority, json(201, {"certificate": "pem"}), broken)
    assert chain == b"pem"
    assert asked.line == "POST /v1/devices/robot/certificates HTTP/1.1"
    assert asked.headers["authorization"] == "Bearer vx_1_secret"
    assert requests(CertificateRequest.model_validate(orjson.loads(asked.body)), "t", "robot", KEY.public)


def test_leaving_is_signed_for_this_robot_alone(authority: Authority) -> None:
    _, asked = asking(authority, json(200, {}), leaving)
    assert asked.line == "POST /v1/devices/robot/decommission HTTP/1.1"
    told = Decommissioning.model_validate(orjson.loads(asked.body))
    assert leaves(told, "t", "robot", KEY.public)
    assert not leaves(told, "t", "other", KEY.public)


@pytest.mark.parametrize("ask", [certifying, leaving])
@pytest.mark.parametrize(
    ("status", "code", "error"), [(401, "revoked", StruckOff), (401, "unauthorized", BadInput), (404, "no-authority", BadInput)]
)
def test_who_was_struck_off_is_told_from_who_is_not_known(
    authority: Authority, ask: Callable[[LinkSettings], Awaitable[object]], status: int, code: str, error: type[BadInput]
) -> None:
    with pytest.raises(BadInput) as raised:
        asking(authority, json(status, {"code": code, "message": "no"}), ask)
    assert type(raised.value) is error
    assert (raised.value.code == "revoked") == (code == "revoked")


@pytest.mark.parametrize("ask", [certifying, leaving])
def test_a_backend_that_wants_patience_is_no_link(authority: Authority, ask: Callable[[LinkSettings], Awaitable[object]]) -> None:
    for status in (429, 500, 503):
        with pytest.raises(NoLink):
            asking(authority, json(status, {"code": "slow", "message": "later"}), ask)
