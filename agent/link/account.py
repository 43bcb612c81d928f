"""What a robot asks of the backend besides carrying records: to be registered and certified, the time, its next key, its end.

Here a fault is an error in one line, for whoever started it.
"""

import datetime
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import orjson
from pydantic import BaseModel, ValidationError

from agent.contract import wire
from agent.contract.record import Open, first_problem
from agent.contract.registration import (
    REVOKED,
    Certified,
    NewKey,
    Registered,
    SignedTime,
    leaving,
    registering,
    requesting,
    time_message,
    trusted_of,
)
from agent.contract.signing import SigningKey, decode, key_record_data, verify
from agent.errors import BadInput, NoLink
from agent.link.https import Heard, authorize, client_of, exchange, line_of, refused
from agent.ports import LinkSettings, Refused, Retry

T = TypeVar("T", bound=Open)


class StruckOff(BadInput):
    """The backend says that it knew this robot and knows it no more."""

    code = REVOKED


class Keys(Open):
    """A JWKS."""

    keys: list[dict[str, Any]]


async def register(settings: LinkSettings, token: str, key: SigningKey, csr: str = "") -> Registered:
    """Makes the robot known to the backend by a one-time token; the same token and key again give the same robot.

    `csr` (PEM) asks for a certificate as well.
    Raises NoLink if there is no answer, BadInput if the backend doesn't take the token or the robot.
    """
    told = registering(token, settings.tenant, settings.device, key, csr)
    heard = await _ask(settings, "POST", "/v1/devices", told)
    if isinstance(heard, Refused):
        raise BadInput(f"the backend doesn't register this robot: {heard.why}", "ask its operator for a new token")
    return _read(heard, Registered)


async def certify(settings: LinkSettings, csr: str, key: SigningKey) -> bytes:
    """Another certificate, PEM with its chain, by the API key and the usage key; the one in use is not shown, it may have expired.

    Raises NoLink if there is no answer, StruckOff, BadInput if the backend gives none.
    """
    told = requesting(settings.tenant, settings.device, csr, key)
    heard = await _ask(_bare(settings), "POST", f"{_device(settings)}/certificates", told, known=True)
    if isinstance(heard, Refused):
        raise _refusal(heard, "the backend issues no certificate")
    return _read(heard, Certified).certificate.encode()


async def leave(settings: LinkSettings, key: SigningKey) -> None:
    """Has the backend strike this robot off. Raises NoLink if there is no answer, StruckOff if it was before, BadInput."""
    heard = await _ask(
        _bare(settings), "POST", f"{_device(settings)}/decommission", leaving(settings.tenant, settings.device, key), known=True
    )
    if isinstance(heard, Refused):
        raise _refusal(heard, "the backend doesn't strike this robot off")


async def server_keys(settings: LinkSettings) -> dict[str, bytes]:
    """The keys of a backend that this robot does not know yet, key id -> raw public key. Raises NoLink.

    Its authority is checked, the dates of its certificate are not.
    """
    heard = await _ask(_bare(settings), "GET", "/.well-known/jwks.json", dated=False)
    if isinstance(heard, Refused):
        raise NoLink(f"the backend doesn't tell its keys: {heard.why}", "check host and port of [sync.https]")
    return trusted_of(_read(heard, Keys).keys)


def _refusal(heard: Refused, what: str) -> BadInput:
    if heard.code == REVOKED:
        return StruckOff("the backend has struck this robot off", "ask its operator for a one-time token, and enrol it again")
    return BadInput(f"{what}: {heard.why}", "ask its operator")


def _bare(settings: LinkSettings) -> LinkSettings:
    """Without the certificate in use: what is asked here must not hang on it."""
    return replace(settings, certificate=None, key=None, pair=None)


def _device(settings: LinkSettings) -> str:
    return f"/v1/devices/{quote(settings.device, safe='')}"


async def add_key(settings: LinkSettings, epoch: str, old: SigningKey, new: SigningKey) -> None:
    """Tells the backend which usage key follows, signed by both; telling it again does no harm. Raises NoLink."""
    told = NewKey.model_validate({"epoch": epoch, **key_record_data(epoch, old, new)})
    heard = await _ask(settings, "POST", f"{_device(settings)}/keys", told, known=True)
    if isinstance(heard, Refused):
        raise NoLink(f"the backend doesn't take the new key: {heard.why}", "the old key signs on; see: voxmeter status")


async def server_time(settings: LinkSettings, nonce: str, trusted: Mapping[str, bytes]) -> datetime.datetime:
    """The backend's time, in UTC, signed by a trusted key (key id -> raw public key) for this nonce. Raises NoLink.

    Certificates are taken whatever their dates: a robot that wakes in 1970 can't judge those, and the signature proves more.
    """
    heard = await _ask(_bare(settings), "GET", f"/v1/time?{httpx.QueryParams(nonce=nonce)}", dated=False)
    if isinstance(heard, Refused):
        raise NoLink(f"the backend doesn't tell the time: {heard.why}", "check host and port of [sync.https]")
    told = _read(heard, SignedTime)
    message = time_message(nonce, told.time)
    if not verify(trusted.get(told.key, b""), message, decode(told.signature)):
        raise NoLink("the time is not signed by a backend this robot trusts", "register this robot again if the backend was replaced")
    return _moment(told.time)


async def _ask(
    settings: LinkSettings, method: str, path: str, message: BaseModel | None = None, *, known: bool = False, dated: bool = True
) -> Heard | Refused:
    """One request of its own, `known`: with the API key, `dated`: only to a certificate that is valid now.

    Raises NoLink where a link would say Retry.
    """
    content = orjson.dumps(message.model_dump()) if message else None
    headers = {"content-type": "application/json"} if message else {}
    async with client_of(settings, wire.ACK_WAIT_MS, dated=dated) as client:
        request = client.build_request(method, path, content=content, headers=headers)
        if known:
            authorize(request, settings)
        heard = await exchange(client, request, wire.ACK_WAIT_MS)
    if isinstance(heard, Heard) and 200 <= heard.status < 300:
        return heard
    answer = heard if isinstance(heard, Retry) else refused(heard, 0)
    if isinstance(answer, Retry):
        where = f"{settings.host}:{settings.port}"
        raise NoLink(f"the backend at {where} can't be reached: {answer.why}", "check [sync.https] and the network, then try again")
    return answer


def _read(heard: Heard, model: type[T]) -> T:
    try:
        return model.model_validate(orjson.loads(heard.content))
    except (ValidationError, ValueError) as error:
        problem = first_problem(error) if isinstance(error, ValidationError) else "not JSON"
        raise NoLink(f"what answers is no backend: {problem}", "check host and port of [sync.https]") from error


def _moment(text: str) -> datetime.datetime:
    """Only UTC: a time that doesn't say where it is meant is none."""
    with suppress(ValueError):
        moment = datetime.datetime.fromisoformat(text)
        if moment.utcoffset() == datetime.timedelta():
            return moment.astimezone(datetime.UTC)
    raise NoLink(f"the backend's time is none: {line_of(text)!r}", "tell its operator")
