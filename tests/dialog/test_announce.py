"""What a robot says by itself is read aloud as an answer is, on the books, and costs once."""

import asyncio
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agent.dialog.announce import Announcer
from agent.dialog.exchange.sounds import Sounds
from agent.dialog.wording.numbers import aloud
from agent.engines.scripted import TtsScripted
from agent.ports import EngineSettings
from agent.sim.clock import SimulatedClock
from agent.store.ledger import SqliteLedger
from agent.store.reading import LedgerReader
from agent.values import Speech
from tests.audio.local import LocalEngine
from tests.dialog.test_books import books_on
from tests.store.test_ledger import ROBOT


def test_numbers_are_read_aloud_and_what_is_said_again_costs_nothing(tmp_path: Path) -> None:
    async def main() -> list[list[Speech]]:
        clock = SimulatedClock(1)
        ledger = SqliteLedger(tmp_path, ROBOT, clock)
        robot: Any = SimpleNamespace(
            manner=SimpleNamespace(read=partial(aloud, language="en"), count_spoken=len),
            stages=SimpleNamespace(tts=LocalEngine(TtsScripted(EngineSettings("tts_scripted", "script")))),
            sounds=Sounds(),
            books=books_on(ledger, clock),
            clock=clock,
        )
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
