"""What was used: totals by device, stage, model and day, and usage as it is committed, over SSE or a WebSocket."""

import asyncio
import datetime
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.websockets import WebSocket, WebSocketDisconnect

from agent.billing.access.credentials import Principal
from agent.billing.access.denied import Forbidden, TooMany
from agent.billing.http.backend import SHOWN, Held, needs
from agent.billing.http.following import HEARTBEAT_S, RETRY_MS, Following
from agent.billing.ledger.totals import usage_totals
from agent.errors import BadInput

GROUPING = "device,stage,model,day"

SEND_S = 10.0
"""Whoever takes nothing for so long is dropped; the books don't wait for anybody."""

Reader = Annotated[Principal, Depends(needs("statements:read"))]
Word = Annotated[str, Query(max_length=200)]

router = APIRouter(tags=["usage"], dependencies=SHOWN)


@router.get("/v1/usage/totals")
async def totals(
    *,
    held: Held,
    caller: Reader,
    device: Word = "",
    stage: Word = "",
    model: Word = "",
    tenant: Word = "",
    start_date: datetime.date | None = None,
    end_date: datetime.date | None = None,
    group_by: Word = GROUPING,
) -> dict[str, Any]:
    """Sums of what is billed; days in UTC, both included; `group_by`: names with commas between. Amounts are the devices' estimates."""
    tenant, device = _seen(caller, tenant, device)
    if start_date and end_date and end_date < start_date:
        raise BadInput("end_date is before start_date", "swap them")
    groups = tuple(part.strip() for part in group_by.split(",") if part.strip())
    first, last = (day.isoformat() if day else None for day in (start_date, end_date))
    whose = partial(usage_totals, tenant=tenant or None, device=device or None, stage=stage or None, model=model or None)
    lines = await held.store.read(partial(whose, first_day=first, last_day=last, group_by=groups))
    period = {name: day for name, day in (("start_date", first), ("end_date", last)) if day}
    return {"period": period, "group_by": list(groups), "totals": lines}


@router.get("/v1/usage/stream", response_class=EventSourceResponse)
async def stream(*, request: Request, held: Held, caller: Reader, device: Word = "", tenant: Word = "") -> EventSourceResponse:
    """Usage as it is committed: events `usage`, each with a JSON list of records. Ends with the credential, and for whoever is too slow."""
    tenant, device = _seen(caller, tenant, device)
    following = Following(held, caller, request)

    async def events() -> AsyncIterator[ServerSentEvent]:
        with suppress(TooMany), following.open() as watch:
            yield ServerSentEvent(comment="following", retry=RETRY_MS)
            async for seen in following.seen(watch):
                if told := _visible(seen, tenant, device):
                    yield ServerSentEvent(orjson.dumps(told).decode(), event="usage")

    return EventSourceResponse(events(), ping=HEARTBEAT_S, send_timeout=SEND_S)


@router.websocket("/v1/usage/ws")
async def live(websocket: WebSocket, held: Held, caller: Reader, device: Word = "", tenant: Word = "") -> None:
    """Usage as it is committed: each message a JSON list of records. Ends with the credential, and for whoever is too slow."""
    tenant, device = _seen(caller, tenant, device)
    following = Following(held, caller, websocket)
    await websocket.accept()
    listening = asyncio.create_task(_until_gone(websocket))
    telling = asyncio.create_task(_tell(websocket, following, tenant, device))
    try:
        await asyncio.wait({listening, telling}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (listening, telling):
            task.cancel()
        await asyncio.gather(listening, telling, return_exceptions=True)


async def _tell(websocket: WebSocket, following: Following, tenant: str, device: str) -> None:
    with suppress(TooMany), following.open() as watch:
        async for seen in following.seen(watch):
            if told := _visible(seen, tenant, device):
                async with asyncio.timeout(SEND_S):
                    await websocket.send_text(orjson.dumps(told).decode())
    await websocket.close(*following.ended)


async def _until_gone(websocket: WebSocket) -> None:
    """What a watcher says is not listened to."""
    try:
        while True:
            await websocket.receive()
    except (WebSocketDisconnect, RuntimeError):
        return


def _visible(seen: Iterable[dict[str, Any]], tenant: str, device: str) -> list[dict[str, Any]]:
    return [one for one in seen if tenant in ("", one["tenant"]) and device in ("", one["device"])]


def _seen(caller: Principal, tenant: str, device: str) -> tuple[str, str]:
    """The tenant and device to look at; empty: all. Raises Forbidden for what is beyond the credential."""
    if (caller.tenant and tenant not in ("", caller.tenant)) or (caller.device and device not in ("", caller.device)):
        raise Forbidden("this credential does not reach so far", "ask for its own tenant and device")
    return caller.tenant or tenant, caller.device or device
