"""The calls of robots about themselves: another certificate in time, and the end."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from agent.billing.access.credentials import Principal
from agent.billing.http.backend import SHOWN, DeviceName, Held, needs
from agent.contract.registration import CertificateRequest, Certified, Decommissioning

Writer = Annotated[Principal, Depends(needs("usage:write"))]

router = APIRouter(tags=["robots"])


@router.post("/v1/devices/{device}/certificates", status_code=201, dependencies=SHOWN)
async def renew(device: DeviceName, asked: CertificateRequest, held: Held, caller: Writer) -> Certified:
    """Another certificate for a robot; the request is signed by its usage key. For the same key the same one, while it is fresh."""
    return await held.access.robots.renew(caller, device, asked)


@router.post("/v1/devices/{device}/decommission", dependencies=SHOWN)
async def decommission(device: DeviceName, asked: Decommissioning, held: Held, caller: Writer) -> dict[str, Any]:
    """Strikes the robot off by its own word, signed by its usage key: its credential and its certificates end."""
    told = await held.access.robots.decommission(caller, device, asked)
    return {name: told[name] for name in ("robot", "credentials", "certificates")}
