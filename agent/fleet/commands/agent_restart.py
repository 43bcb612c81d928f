"""agent.restart: the agent ends in good order and its service starts it again."""

from collections.abc import Mapping
from typing import Any

from agent.fleet.commands import Nothing, Spec
from agent.ports import Steerable


async def run(robot: Steerable, _given: Nothing) -> Mapping[str, Any]:
    await robot.restart()
    return {}


AGENT_RESTART = Spec(Nothing, run, limit_s=10, idempotent=False, ends=True, helps=True)
