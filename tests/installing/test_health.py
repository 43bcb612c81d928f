"""What is held against a version that runs, and that it is looked at again before it gives way."""

import asyncio
from typing import Any

import pytest

from agent.installing.health import JUDGED_LOOKS_MAX, Look, ailing, judged, verdict
from agent.sim.clock import SimulatedClock

WELL: dict[str, Any] = {"running": True, "stuck": [], "hearing": {"hearing": True, "why": ""}}
FIRST = Look("active", "0", "a", WELL)


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (FIRST, ""),
        (Look("reloading", "0", "a", WELL), ""),
        (Look("failed", "0", "a", None), "it has ended"),
        (Look("activating", "1", "a", None), "it has ended"),
        (Look("active", "1", "a", WELL), "it has ended and was started again"),
        (Look("active", "0", "b", WELL), "it has ended and was started again"),
        (Look("active", "0", "a", None), "it does not answer: voxmeter status"),
        (Look("active", "0", "a", WELL | {"running": False}), "it does not answer: voxmeter status"),
        (Look("active", "0", "a", WELL | {"stuck": ["sync stands", "ledger stands"]}), "sync stands"),
        (Look("active", "0", "a", WELL | {"hearing": None}), ""),  # the installer's short look is no time to judge ears
    ],
)
def test_what_is_held_against_it(now: Look, says: str) -> None:
    assert verdict(FIRST, now) == says


@pytest.mark.parametrize(
    ("hearing", "says"),
    [
        ({"hearing": True}, ""),
        ({"hearing": False, "why": "no such device"}, "it does not hear, as the version before did: no such device"),
        ({"hearing": False}, "it does not hear, as the version before did: it has no microphone"),
        (None, "it does not hear, as the version before did: it has no microphone"),
    ],
)
def test_one_that_must_hear_and_does_not(hearing: dict[str, Any] | None, says: str) -> None:
    assert ailing(WELL | {"hearing": hearing}, heard=True) == says
    assert ailing(WELL | {"hearing": hearing}) == ""


@pytest.mark.parametrize(("bad", "holds"), [(0, True), (1, True), (JUDGED_LOOKS_MAX - 1, True), (JUDGED_LOOKS_MAX, False)])
def test_it_is_looked_at_again_before_it_gives_way(bad: int, holds: bool) -> None:
    told = iter([None] * bad + [WELL] * 10)
    assert (asyncio.run(judged(lambda: next(told), SimulatedClock(), heard=True)) == "") is holds
