"""config.apply: the robot runs with other settings than its profile's, all of them or none."""

from collections.abc import Mapping
from typing import Any

from agent.contract.fleet.twin import Settings
from agent.fleet.commands import Arguments, Spec
from agent.ports import Steerable


class ConfigArguments(Arguments):
    settings: Settings
    """Table -> key -> value, as in the profile's TOML; what is not named is as the profile has it."""


async def run(robot: Steerable, given: ConfigArguments) -> Mapping[str, Any]:
    return await robot.apply(given.settings)


CONFIG_APPLY = Spec(ConfigArguments, run, limit_s=300, idempotent=True, helps=True)
"""Five minutes: engines may be loaded anew, and a trial that fails is taken back."""
