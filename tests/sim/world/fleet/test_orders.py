"""What commands and attacks have come to is told rightly, whatever went wrong."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.contract.fleet.command import Command, State
from agent.sim.world.evidence import Attack, Evidence
from agent.sim.world.fleet import orders
from agent.sim.world.fleet.operator import Ordered

ID = "01930000-0000-7000-8000-00000000000{}"
ROBOT = "sim-0001"


def ordered(number: int, op: str, *states: State, told: int = 1) -> Ordered:
    command = Command(cmd_id=ID.format(number), aud=f"demo/{ROBOT}", seq=number, op=op, iat=0, exp=1)
    return Ordered(command, ROBOT, 0, states=list(states), told=told)


def found(*given: Ordered, did: dict[tuple[str, str], int] | None = None, attacks: tuple[Attack, ...] = ()) -> Evidence:
    return Evidence([], Path(), [], {}, orders=given, did={ROBOT: did or {}}, attacks=attacks, says={ROBOT: ["mqtt: an ack was dropped"]})


def test_commands_that_ended_well_are_counted_by_state() -> None:
    did = {("speak", ID.format(1)): 1, ("forget", ID.format(2)): 2}
    evidence = found(
        *(
            ordered(1, "say", "succeeded"),
            ordered(2, "privacy.forget", "succeeded"),
            ordered(3, "say", "unknown"),
            ordered(4, "ping", "expired"),
        ),
        did=did,
    )
    assert orders.commands(evidence) == (True, "4 commands: 1 expired, 2 succeeded, 1 unknown")
    assert orders.figures(evidence) == {"commands": 4, "commands_lost": 0, "commands_twice": 0}


@pytest.mark.parametrize(
    ("order", "times", "why"),
    [
        (ordered(1, "say"), 0, "nobody answered"),
        (ordered(1, "say", "succeeded", "failed"), 1, "answered as failed and succeeded"),
        (ordered(1, "say", "succeeded"), 2, "done 2 times"),
        (ordered(1, "say", "unknown"), 2, "done 2 times"),
        (ordered(1, "say", "succeeded"), 0, "never done"),
        (ordered(1, "say", "rejected"), 1, "done, and told as rejected"),
        (ordered(1, "say", "expired"), 1, "done, and told as expired"),
    ],
)
def test_what_went_wrong_with_a_command_is_seen(order: Ordered, times: int, why: str) -> None:
    ok, says = orders.commands(found(order, did={("speak", ID.format(1)): times}))
    assert not ok
    assert why in says


def test_a_scenario_without_commands_has_not_shown_anything() -> None:
    assert not orders.commands(found())[0]
    assert not orders.attacks(found(), {})[0]
    assert orders.figures(found()) == {}


@pytest.mark.parametrize(
    ("attack", "ok"),
    [
        (Attack("forged", ROBOT, "audit bad-signature", ID.format(7)), True),
        (Attack("forged", ROBOT, "audit replayed,bad-signature"), True),
        (Attack("forged", ROBOT, "audit expired"), False),
        (Attack("forged", "sim-0002", "audit bad-signature"), False),
        (Attack("ack", ROBOT, "said an ack was dropped"), True),
        (Attack("ack", ROBOT, "said something else"), False),
        (Attack("own cmd/req", ROBOT, "broker Not authorized"), True),
        (Attack("own cmd/req", ROBOT, "broker Success"), False),
        (Attack("replayed", ROBOT, "answered", ID.format(1)), True),
        (Attack("replayed", ROBOT, "answered", ID.format(2)), False),
        (Attack("done", ROBOT, "audit bad-signature", ID.format(3)), False),
        (Attack("replayed time", ROBOT, "clock"), True),
        (Attack("replayed time", "sim-0002", "clock"), False),
    ],
)
def test_an_attack_is_on_record_and_did_no_harm(attack: Attack, *, ok: bool) -> None:
    given = (ordered(1, "say", "succeeded", told=2), ordered(2, "say", "succeeded"))
    did = {("speak", ID.format(1)): 1, ("speak", ID.format(2)): 1, ("speak", ID.format(3)): 1}
    evidence = found(*given, did=did, attacks=(attack,))
    evidence = replace(evidence, clocks={ROBOT: -2.0, "sim-0002": 90.0})
    assert orders.attacks(evidence, {(ROBOT, "bad-signature"): 1})[0] is ok


def test_the_log_must_tell_of_as_many_attacks_as_there_were() -> None:
    evidence = found(attacks=(Attack("forged", ROBOT, "audit bad-signature"),) * 3)
    assert orders.attacks(evidence, {(ROBOT, "bad-signature"): 3})[0]
    ok, says = orders.attacks(evidence, {(ROBOT, "bad-signature"): 2})
    assert not ok
    assert "tells of 2" in says


def test_no_line_of_the_log_stands_for_two_attacks() -> None:
    evidence = found(attacks=(Attack("old", ROBOT, "audit expired,stale"), Attack("older", ROBOT, "audit stale,replayed")))
    assert orders.attacks(evidence, {(ROBOT, "expired"): 1, (ROBOT, "stale"): 1})[0]
    ok, says = orders.attacks(evidence, {(ROBOT, "stale"): 1})
    assert not ok
    assert "2 attacks" in says
