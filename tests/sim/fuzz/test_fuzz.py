"""The campaign finds what it is for, and finds nothing in the readers there are."""

from dataclasses import replace

import pytest

from agent.clock import SystemClock
from agent.sim.fuzz import campaign
from agent.sim.fuzz.campaign import fuzz
from agent.sim.fuzz.targets import Target, targets

READERS = ["command", "twin", "batch", "ack"]


def test_readers_take_nothing_that_is_none_and_never_break() -> None:
    told = fuzz(5, count=8_000, signed=400, seconds=0, clock=SystemClock()).told()
    assert (told["accepted"], told["crashes"], told["broken"]) == (0, 0, [])
    assert told["inputs"] >= 8_000
    assert told["signed"] >= 400
    assert set(told["by_reader"]) == set(READERS)


def test_a_run_can_be_repeated() -> None:
    one, two = (fuzz(9, count=2_000, signed=100, seconds=0, clock=SystemClock()).told() for _ in range(2))
    assert one == two


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_that_breaks_or_takes_anything_is_found(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = targets()[reader]
    for wrong in (replace(target, bare=_breaks), replace(target, bare=bytes), replace(target, whole=bytes)):
        monkeypatch.setattr(campaign, "targets", lambda wrong=wrong: {reader: wrong})
        assert fuzz(5, count=2_000, signed=200, seconds=0, clock=SystemClock()).broken


@pytest.mark.parametrize("reader", READERS)
def test_good_messages_are_taken_both_ways_and_the_second_opinion_agrees(reader: str) -> None:
    target: Target = targets()[reader]
    for text in target.good:
        target.bare(text)
        assert target.is_good(text)
    assert len(target.means) == len(target.wired)


def _breaks(text: bytes) -> None:
    raise RecursionError(f"{len(text)}")
