"""The operator of a scenario publishes until he is answered, also if he looks away when he is told something."""

import asyncio

from agent.contract import wire
from agent.contract.fleet import command, presence
from agent.contract.fleet.command import State
from agent.contract.fleet.presence import Birth, ConnId
from agent.sim.world import loop
from agent.sim.world.fleet.operator import AGAIN_S, Operator, Ordered
from agent.sim.world.loop import RobotClock

ROBOT = "sim-0001"


def birth(nonce: str) -> bytes:
    told = {"device": f"demo/{ROBOT}", "conn_id": ConnId(boot=1, connect=1), "nonce": nonce * 32, "software": "1", "profile": "simulated"}
    return presence.written(Birth.model_validate(told | {"groups": [], "ops": ["ping"], "clock": "floor"}))


def result(one: Ordered, state: State, code: str = "") -> bytes:
    told = {
        "cmd_id": one.command.cmd_id,
        "device": f"demo/{ROBOT}",
        "op": one.command.op,
        "seq": one.command.seq,
        "state": state,
        "code": code,
    }
    return command.written(command.Result.model_validate(told))


def nonce_of(one: Ordered, operator: Operator) -> str:
    _, told = command.read(operator.published(one), operator.trusted)
    return told.session_nonce


def test_a_birth_that_was_missed_is_found_where_the_broker_keeps_it() -> None:
    async def main() -> None:
        operator = Operator("demo", RobotClock(1), 1)
        operator.listen(wire.BIRTH, birth("a"))
        operator.listen(wire.BIRTH, birth("b"), looking=False)
        before = operator.order(ROBOT)
        assert [nonce_of(one, operator) for one in operator.due()] == ["a" * 32]
        await asyncio.tasks.sleep(AGAIN_S)
        assert operator.due() == [before]  # with the words it had: another text would be a forgery
        assert nonce_of(before, operator) == "a" * 32
        assert nonce_of(operator.order(ROBOT), operator) == "b" * 32

    loop.run(main())


def test_what_is_answered_is_published_no_more_and_what_came_too_late_is_ordered_anew() -> None:
    async def main() -> None:
        operator = Operator("demo", RobotClock(1), 1)
        first, late = operator.order(ROBOT), operator.order(ROBOT)
        operator.listen(f"{wire.RESULT}/{first.command.cmd_id}", result(first, "succeeded"), looking=False)
        assert (first.told, first.answered) == (1, False)
        operator.listen(f"{wire.RESULT}/{first.command.cmd_id}", result(first, "succeeded"))
        operator.listen(f"{wire.RESULT}/{late.command.cmd_id}", result(late, "expired", "stale"))
        assert (first.told, first.answered) == (2, True)
        (again,) = operator.due()
        assert again.command.seq == 3
        assert operator.waiting == {ROBOT: 1}

    loop.run(main())
