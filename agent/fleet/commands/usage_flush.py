"""usage.flush: all that waits on the books is sent now."""

from collections.abc import Mapping
from typing import Any

from agent.fleet.commands import Nothing, Spec
from agent.ports import Steerable


async def run(robot: Steerable, _given: Nothing) -> Mapping[str, Any]:
    return await robot.flush()


USAGE_FLUSH = Spec(Nothing, run, limit_s=600, idempotent=True, helps=True)
"""Ten minutes: the backlog of weeks over a thin link."""
