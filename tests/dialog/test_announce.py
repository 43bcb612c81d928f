"""What a robot says by itself is read aloud as an answer is, on the books, and costs once."""

import asyncio
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.dialog.announce import Announcer
from agent.dialog.exchange.sounds import Sounds
from agent.dialog.wording.numbers import aloud
from agent.engines.scripted import TtsScripted
from agent.ports import EngineSettings, OpenCall
from agent.sim.clock import SimulatedClock
from agent.store.ledger import SqliteLedger
from agent.store.reading import LedgerReader
from agent.values import Speech
from tests.audio.local import LocalEngine
from tests.dialog.test_books import books_on
from tests.store.test_ledger import ROBOT


def robot_on(ledger: SqliteLedger, clock: SimulatedClock) -> Any:
    """As far as an announcer knows one."""
    return SimpleNamespace(
        manner=SimpleNamespace(read=partial(aloud, language="en"), count_spoken=len),
        stages=SimpleNamespace(tts=LocalEngine(TtsScripted(EngineSettings("tts_scripted", "script")))),
        sounds=Sounds(),
        books=books_on(ledger, clock),
        clock=clock,
    )


def test_numbers_are_read_aloud_and_what_is_said_again_costs_nothing(tmp_path: Path) -> None:
    async def main() -> list[list[Speech]]:
        clock = SimulatedClock(1)
        ledger = SqliteLedger(tmp_path, ROBOT, clock)
        robot = robot_on(ledger, clock)
        times: list[list[Speech]] = [[], []]
        for pieces in times:
            await Announcer(robot).say("It closes at 10:30 pm.", pieces.append, "s1")
        await ledger.aclose()
        return times

    first, again = asyncio.run(main())
    assert first == again
    assert "".join(one.text for one in first) == "It closes at ten thirty PM."
    (record,) = [one["data"] for one in LedgerReader(tmp_path).records("usage")]
    assert (record["stage"], record["outcome"], record["characters"]) == ("tts", "completed", len("It closes at ten thirty PM."))


@pytest.mark.parametrize("steps", range(1, 6))
def test_who_is_stopped_while_its_intent_is_written_leaves_no_call_open(tmp_path: Path, steps: int) -> None:
    async def main() -> list[OpenCall]:
        clock = SimulatedClock(1)
        ledger = SqliteLedger(tmp_path, ROBOT, clock)
        saying = asyncio.create_task(Announcer(robot_on(ledger, clock)).say("Hello.", lambda _: None, "s1"))
        for _ in range(steps):
            await asyncio.sleep(0)
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)
        await ledger.aclose()
        after = SqliteLedger(tmp_path, ROBOT, clock)
        left = [entry.call for entry, _ in await after.left_open()]
        await after.aclose()
        return left

    assert asyncio.run(main()) == []
