"""log.level: how much the robot tells its journal, until the next start."""

from collections.abc import Mapping
from typing import Any, Literal

from agent.fleet.commands import Arguments, Spec
from agent.ports import Steerable


class LevelArguments(Arguments):
    level: Literal["debug", "info", "warning", "error"]


async def run(robot: Steerable, given: LevelArguments) -> Mapping[str, Any]:
    return await robot.set_log_level(given.level)


LOG_LEVEL = Spec(LevelArguments, run, limit_s=10, idempotent=True, helps=True)
