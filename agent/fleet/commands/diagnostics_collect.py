"""diagnostics.collect: how the robot is, for whoever can't stand beside it."""

from collections.abc import Mapping
from typing import Any

from agent.fleet.commands import Nothing, Spec
from agent.ports import Steerable


async def run(robot: Steerable, _given: Nothing) -> Mapping[str, Any]:
    return await robot.diagnostics()


DIAGNOSTICS_COLLECT = Spec(Nothing, run, limit_s=60, idempotent=True, helps=True)
"""A minute: a card that is dying still tells its log."""
