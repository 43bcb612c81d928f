"""Every command of the registry: that its arguments are exact, its limit named, and that the robot does what it says."""

import asyncio

import pytest

from agent.contract.fleet.command import OPS
from agent.errors import BadInput
from agent.fleet.commands import COMMANDS, Arguments, Nothing, spec
from agent.fleet.scripted import ScriptedSteerable
from agent.ports import Steerable
from tests.fleet.steered import ARGUMENTS, DONE_AS

LIMIT_S_MAX = 600
"""Longer than that nobody waits for one command while others do."""

WRONG: tuple[object, ...] = (None, 7, [], {"a": 1}, "\0" * 3000, "no-such-thing" * 100)
"""What no argument of any command is."""


def test_all_ops_of_the_contract_but_one_are_there() -> None:
    assert set(OPS) - set(COMMANDS) == {"model.update"}
    assert set(COMMANDS) <= set(OPS)


@pytest.mark.parametrize("op", COMMANDS)
def test_a_command_takes_its_arguments_and_no_others(op: str) -> None:
    one = spec(op)
    assert issubclass(one.arguments, Arguments)
    one.given(ARGUMENTS.get(op, {}))
    with pytest.raises(BadInput, match="extra"):
        one.given(ARGUMENTS.get(op, {}) | {"extra": 1})
    for name in ARGUMENTS.get(op, {}):
        for wrong in WRONG:
            with pytest.raises(BadInput) as caught:
                one.given(ARGUMENTS[op] | {name: wrong})
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("op", COMMANDS)
def test_a_command_says_of_itself_what_the_executor_must_know(op: str) -> None:
    one = spec(op)
    assert 0 < one.limit_s <= LIMIT_S_MAX
    assert one.idempotent == (op not in ("say", "agent.restart"))
    assert one.ends == (op == "agent.restart")
    assert one.quick == (op == "ping")
    if op not in ARGUMENTS:
        assert one.arguments is Nothing


@pytest.mark.parametrize("op", COMMANDS)
def test_a_command_asks_the_robot_for_one_thing(op: str) -> None:
    robot = ScriptedSteerable()
    one = spec(op)
    assert isinstance(asyncio.run(one.run(robot, one.given(ARGUMENTS.get(op, {})))), dict)
    assert dict(robot.done) == ({} if op == "ping" else {DONE_AS[op]: 1})


def test_what_the_robot_is_asked_is_what_was_given() -> None:
    robot = ScriptedSteerable()
    for op in COMMANDS:
        one = spec(op)
        asyncio.run(one.run(robot, one.given(ARGUMENTS.get(op, {}))))
    assert {("set_mode", "offline"), ("speak", "Welcome."), ("set_budget", "12.50/day"), ("forget", "s-1")} <= set(robot.given)


def test_a_budget_may_be_taken_away_and_is_by_month_unless_said() -> None:
    robot = ScriptedSteerable()
    one = spec("budget.set")
    asyncio.run(one.run(robot, one.given({"amount": ""})))
    assert robot.given == [("set_budget", "/month")]
    for wrong in ("-1", "1e3", "NaN", " 1", "1.", "1" * 16):
        with pytest.raises(BadInput):
            one.given({"amount": wrong})


def test_the_scripted_robot_does_all_a_robot_can_be_asked() -> None:
    assert {name for name in vars(Steerable) if not name.startswith("_")} == set(DONE_AS.values())
    steerable: Steerable = ScriptedSteerable()
    assert asyncio.run(steerable.forget("s-1")) is True
