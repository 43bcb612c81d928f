"""say: the robot says something in its hall."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import StringConstraints

from agent.fleet.commands import Arguments, Spec
from agent.ports import Steerable

TEXT_CHARACTERS_MAX = 1_000
"""Some four minutes of speech: an announcement, not a lecture."""


class SayArguments(Arguments):
    text: Annotated[str, StringConstraints(min_length=1, max_length=TEXT_CHARACTERS_MAX, pattern=r"\S")]


async def run(robot: Steerable, given: SayArguments) -> Mapping[str, Any]:
    return await robot.speak(given.text)


SAY = Spec(SayArguments, run, limit_s=600, idempotent=False)
"""Ten minutes: it waits until nobody has the floor."""
