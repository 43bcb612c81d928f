"""The calls of robots: registration by one-time token, usage keys, batches, the mark."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from sqlalchemy import Connection, select

from agent.billing.access import audit
from agent.billing.access.credentials import Principal
from agent.billing.access.denied import UnknownDevice, UnknownEpoch
from agent.billing.http.backend import SHOWN, Backend, DeviceName, Held, needs
from agent.billing.http.errors import of_refusal
from agent.billing.ingest import Answered
from agent.billing.ledger import devices
from agent.billing.ledger.tables import epoch as epoch_row
from agent.contract.batch import BATCH_BYTES_MAX, BatchTooBig
from agent.contract.encoding import decoded
from agent.contract.registration import NewKey, Registered, Registration
from agent.contract.signing import KEY_MARK, SIGNATURE_MARK, decode, key_id_of
from agent.contract.wire import Refusal
from agent.errors import BadInput

HEADERS = {KEY_MARK: "VX-Key", SIGNATURE_MARK: "VX-Signature"}
"""The two marks of a signature as HTTP headers."""

BATCH_IN_OPENAPI = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/BatchContent"}}}}
}

ACK_IN_OPENAPI: dict[int | str, dict[str, Any]] = {
    200: {"description": "The signed ack.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Ack"}}}}
}

Writer = Annotated[Principal, Depends(needs("usage:write"))]
Epoch = Annotated[str, Query(pattern=r"^[0-9a-f]{32}$", description="Without it: the newest one of the robot.")]
Nonce = Annotated[str, Query(pattern=r"^[!-~]{1,64}$")]
Mark = Annotated[str, Header(max_length=200)]

router = APIRouter(tags=["robots"])


@router.post("/v1/devices", status_code=201)
async def register(asked: Registration, held: Held) -> Registered:
    """Registers a robot by its one-time token. The same token and key again, within the token's life, give the same answer."""
    return await held.access.register(asked)


@router.post("/v1/devices/{device}/keys", status_code=201, dependencies=SHOWN)
async def add_key(device: DeviceName, told: NewKey, held: Held, caller: Writer) -> dict[str, str]:
    """Makes a robot's next usage key known, signed by the key that is known and by itself; before its `key` record."""
    tenant, now = caller.tenant_of(device), held.clock.utc()

    def work(connection: Connection) -> str:
        found = devices.find(connection, tenant, device)
        if found is None:
            raise UnknownDevice(f"no robot is called {device}", "register it first")
        known = devices.device_of_key(connection, key_id_of(decode(told.new)))
        key_id = devices.add_key(connection, found.id, told, audit.stamp(now))
        if known is None:
            audit.append(connection, now, caller.id, "key.added", tenant=tenant, device=device, key=key_id)
        return key_id

    return {"key": await held.store.write(work)}


@router.post("/v1/devices/{device}/usage-batches", responses=ACK_IN_OPENAPI, openapi_extra=BATCH_IN_OPENAPI, dependencies=SHOWN)
async def take(
    *,
    device: DeviceName,
    request: Request,
    held: Held,
    caller: Writer,
    vx_key: Mark = "",
    vx_signature: Mark = "",
    content_encoding: Annotated[str, Header(max_length=40)] = "",
) -> Response:
    """Takes a signed batch; answers with the signed ack after it is committed. 409: a fork, with the ack. 413: send half of it."""
    tenant = caller.tenant_of(device)
    try:
        content = decoded(await request.body(), content_encoding, BATCH_BYTES_MAX)
    except BatchTooBig:
        raise
    except BadInput as error:  # in the words of the other link
        return of_refusal(request.scope, Refusal(code="bad-batch", message=str(error)))
    marks = {mark: value for mark, value in ((KEY_MARK, vx_key), (SIGNATURE_MARK, vx_signature)) if value}
    return _said(request, await held.ingest.take(tenant, device, content, marks))


@router.get("/v1/devices/{device}/usage-state", responses=ACK_IN_OPENAPI, dependencies=SHOWN)
async def mark(*, device: DeviceName, request: Request, held: Held, caller: Writer, nonce: Nonce, epoch: Epoch | None = None) -> Response:
    """The mark: a signed ack with the nonce, of what is held of that epoch, or of the one of the robot that was first heard of last."""
    tenant = caller.tenant_of(device)
    return _said(request, await held.ingest.mark(tenant, device, epoch or await _newest_epoch(held, tenant, device), nonce))


async def _newest_epoch(held: Backend, tenant: str, device: str) -> str:
    """Raises UnknownDevice or UnknownEpoch."""

    def work(connection: Connection) -> str:
        found = devices.find(connection, tenant, device)
        if found is None:
            raise UnknownDevice(f"no robot is called {device}", "register it first")
        of_it = select(epoch_row.c.epoch).where(epoch_row.c.device_id == found.id)
        newest = connection.execute(of_it.order_by(epoch_row.c.begun.desc(), epoch_row.c.id.desc()).limit(1)).scalar()
        if newest is None:
            raise UnknownEpoch(f"nothing of {device} was heard of yet, so it has no epoch here", "send a batch, or name the epoch")
        return str(newest)

    return await held.store.read(work)


def _said(request: Request, answered: Answered) -> Response:
    if answered.refusal is not None:
        return of_refusal(request.scope, answered.refusal)
    headers = {HEADERS[mark]: value for mark, value in answered.marks.items() if mark in HEADERS}
    return Response(answered.content, 409 if answered.fork else 200, headers, "application/json")
