"""usage.audit: the robot verifies its books from the first record."""

from collections.abc import Mapping
from typing import Any

from agent.fleet.commands import Nothing, Spec
from agent.ports import Steerable


async def run(robot: Steerable, _given: Nothing) -> Mapping[str, Any]:
    return await robot.audit()


USAGE_AUDIT = Spec(Nothing, run, limit_s=600, idempotent=True, helps=True)
"""Ten minutes: half a gigabyte of records read from a slow card."""
