"""What has become of certificates is told rightly, whatever went wrong; and time that is hurried is hurried for those who wait alone."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.sim.world import loop
from agent.sim.world.evidence import Certificate, Evidence
from agent.sim.world.fleet.certificates import checked, figures
from agent.sim.world.fleet.certified import Hasty
from agent.sim.world.loop import RobotClock

GOOD = Certificate("good", 1000.0, connected=True, revoked=False, expired=True, words=frozenset(), mute=0)
GONE = Certificate("revoked", 0.0, connected=False, revoked=True, expired=False, words=frozenset({"revoked"}), mute=0)
SAYS = {"gone": ["certificate: this robot was struck off: its operator must enrol it again"]}


def found(says: dict[str, list[str]] | None = None, **told: Certificate) -> Evidence:
    return Evidence([], Path(), [], {}, certificates={"good": GOOD, "gone": GONE} | told, says=SAYS if says is None else says)


def test_robots_that_ended_as_they_should_are_counted() -> None:
    ok, says = checked(found(), {"gone": 3})
    assert (ok, says) == (True, "1 good, 1 expired on the way; 1 struck off; brokers said expired to 0, revoked to 1")
    assert figures(found(), 3) == {"revoked": 1, "withheld": 3}


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"state": "expired"}, "its certificate is expired"),
        ({"left_s": 0.0}, "ends in 0 s"),
        ({"connected": False}, "not let in"),
        ({"mute": 1}, "1 turns could not be held"),
    ],
)
def test_a_good_robot_that_is_not_well_is_seen(told: dict[str, Any], why: str) -> None:
    ok, says = checked(found(good=GOOD._replace(**told)), {"gone": 3})
    assert not ok
    assert why in says


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"state": "good"}, "says good"),
        ({"connected": True}, "let in"),
        ({"words": frozenset()}, "no broker refused it"),
        ({"mute": 2}, "2 turns"),
    ],
)
def test_a_revoked_robot_that_is_let_in_or_does_not_know_is_seen(told: dict[str, Any], why: str) -> None:
    ok, says = checked(found(gone=GONE._replace(**told)), {"gone": 3})
    assert not ok
    assert why in says


def test_a_revoked_robot_must_say_so_and_must_have_gone_on() -> None:
    assert "says revoked" in checked(found(says={}), {"gone": 3})[1]
    assert "no records of its own" in checked(found(), {})[1]


def test_a_winter_in_which_nothing_expired_or_nobody_was_revoked_has_shown_nothing() -> None:
    for evidence in (found(good=GOOD._replace(expired=False)), found(gone=GOOD)):
        ok, says = checked(evidence, {"gone": 3})
        assert not ok
        assert says.startswith("nothing was shown")
    empty = replace(found(), certificates={})
    assert not checked(empty, {})[0]
    assert figures(empty, 0) == {}


def test_a_hasty_clock_hurries_waits_and_no_time_that_is_told() -> None:
    async def main() -> tuple[float, float, float]:
        clock = RobotClock(1)
        hasty, began = Hasty(clock, 600), asyncio.get_running_loop().time()
        utc, monotonic = hasty.utc(), hasty.monotonic()
        await hasty.sleep(600)
        assert hasty.boot_id() == clock.boot_id()
        return asyncio.get_running_loop().time() - began, (hasty.utc() - utc).total_seconds(), hasty.monotonic() - monotonic

    assert loop.run(main()) == pytest.approx((1, 1, 600))
