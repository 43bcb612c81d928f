"""Events and results of robots that have no broker, and what people ask of the fleet's events."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from agent.billing.access.credentials import Principal
from agent.billing.fleet import books
from agent.billing.http.backend import SHOWN, DeviceName, Held, needs
from agent.contract import wire
from agent.errors import BadInput

SEQUENCE_MAX = 2**53

Writer = Annotated[Principal, Depends(needs("usage:write"))]
Commander = Annotated[Principal, Depends(needs("fleet:command"))]
Word = Annotated[str, Query(max_length=200)]

router = APIRouter(tags=["fleet"], dependencies=SHOWN)


class Told(BaseModel):
    """What a robot would have published."""

    topic: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^(event|cmd/res)/[A-Za-z0-9._-]+$")]
    """Below its own subtree: `event/{name}` or `cmd/res/{id}`."""
    body: dict[str, Any]


@router.post("/v1/devices/{device}/events")
async def take(device: DeviceName, told: Told, held: Held, caller: Writer) -> dict[str, str]:
    """Takes an event or a command's result of a robot, as over MQTT; the same once more changes nothing. 429: later."""
    tenant = caller.tenant_of(device)
    if not told.topic.startswith((f"{wire.EVENT}/", f"{wire.RESULT}/")):
        raise BadInput(f"{told.topic!r} is no event and no result", "send event/NAME or cmd/res/ID")
    try:
        content = orjson.dumps(told.body)
    except TypeError as error:
        raise BadInput(f"the body can't be kept: {error}", "send numbers of at most 64 bits, and text that is UTF-8") from error
    await held.fleet.hear(tenant, device, told.topic, content)
    return {"taken": told.topic}


@router.get("/v1/fleet/events")
async def log(
    *,
    held: Held,
    caller: Commander,
    device: Word = "",
    name: Word = "",
    after: Annotated[int, Query(ge=0, lt=SEQUENCE_MAX)] = 0,
    limit: Annotated[int, Query(ge=1, le=books.EVENTS_A_PAGE_MAX)] = 100,
) -> dict[str, Any]:
    """What robots told, oldest first: `handoff`, `alarm`, `refused`, `result` …; `next` is the `after` of the next page."""
    whose = {"tenant": caller.tenant, "device_name": caller.device or device}
    return await held.store.read(lambda connection: books.events(connection, **whose, name=name, after=after, limit=limit))
