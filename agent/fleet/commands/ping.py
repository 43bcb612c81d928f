"""ping: the robot is there and takes commands."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from agent.fleet.commands import Arguments, Spec
from agent.ports import Steerable


class PingArguments(Arguments):
    echo: Annotated[str, Field(max_length=200)] = ""
    """Comes back as it is."""


async def run(_robot: Steerable, given: PingArguments) -> Mapping[str, Any]:
    return {"echo": given.echo}


PING = Spec(PingArguments, run, limit_s=5, idempotent=True, quick=True, helps=True)
