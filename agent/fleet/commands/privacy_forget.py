"""privacy.forget: what was said in a session can never be read again."""

from collections.abc import Mapping
from typing import Any

from agent.contract.record import Name
from agent.fleet.commands import Arguments, Spec
from agent.ports import Steerable


class ForgetArguments(Arguments):
    session_id: Name


async def run(robot: Steerable, given: ForgetArguments) -> Mapping[str, Any]:
    return {"forgotten": await robot.forget(given.session_id)}


PRIVACY_FORGET = Spec(ForgetArguments, run, limit_s=60, idempotent=True, helps=True)
