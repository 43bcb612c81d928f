"""budget.set: from which amount on the robot raises an alarm."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import StringConstraints

from agent.fleet.commands import Arguments, Spec
from agent.ports import Steerable


class BudgetArguments(Arguments):
    amount: Annotated[str, StringConstraints(pattern=r"^([0-9]{1,15}(\.[0-9]{1,12})?)?$")]
    """Decimal, in the currency of the rate card; empty: no budget."""
    period: Literal["day", "month"] = "month"


async def run(robot: Steerable, given: BudgetArguments) -> Mapping[str, Any]:
    return await robot.set_budget(given.amount, given.period)


BUDGET_SET = Spec(BudgetArguments, run, limit_s=30, idempotent=True)
