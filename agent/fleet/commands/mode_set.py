"""mode.set: where the robot's engines may be."""

from collections.abc import Mapping
from typing import Any, Literal

from agent.fleet.commands import Arguments, Spec
from agent.ports import Steerable


class ModeArguments(Arguments):
    mode: Literal["auto", "online", "offline"]


async def run(robot: Steerable, given: ModeArguments) -> Mapping[str, Any]:
    return await robot.set_mode(given.mode)


MODE_SET = Spec(ModeArguments, run, limit_s=30, idempotent=True)
