"""The calls of a turn: whoever is stopped while they are announced leaves none that nobody knows of."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.dialog.books import Books
from agent.dialog.exchange.calls import Calls
from agent.dialog.exchange.plan import Verbatim
from agent.dialog.live.asking import may_ask
from agent.metering.cards import Cards
from agent.ports import EngineSettings
from agent.sim.talk.paced import PacedEngine
from agent.store.ledger import SqliteLedger
from agent.values import STAGES, Message, Prompt
from tests.metering.test_rating import card
from tests.store.test_ledger import ROBOT


@pytest.mark.parametrize("after_s", [0.0, 0.0002, 0.0005, 0.001])
def test_an_announcement_that_is_stopped_is_known_and_can_be_taken_up_again(tmp_path: Path, after_s: float) -> None:
    async def main() -> None:
        clock = SystemClock()
        ledger = SqliteLedger(tmp_path, ROBOT, clock)
        books = Books(ledger, Cards.of([card()]), "UTC", dict.fromkeys(STAGES, "w@1"), clock)
        engines = {stage: PacedEngine(EngineSettings(f"{stage}_scripted", "script"), clock) for stage in STAGES}
        calls = Calls(engines, books, clock, "s1")  # type: ignore[arg-type]
        await calls.intend(("asr",))
        announcing = asyncio.create_task(calls.intend(("llm", "tts"), 2))
        await asyncio.sleep(after_s)
        announcing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await announcing
        if not calls.intended(2):
            await calls.intend(("llm", "tts"), 2)
        await calls.close()
        assert await ledger.left_open() == []
        await ledger.aclose()

    asyncio.run(main())


def test_nothing_else_is_asked_of_a_model_that_makes_a_reply(tmp_path: Path) -> None:
    async def main() -> list[bool]:
        clock = SystemClock()
        ledger = SqliteLedger(tmp_path, ROBOT, clock)
        books = Books(ledger, Cards.of([card()]), "UTC", dict.fromkeys(STAGES, "w@1"), clock)
        engines = {stage: PacedEngine(EngineSettings(f"{stage}_scripted", "script"), clock) for stage in STAGES}
        calls = Calls(engines, books, clock, "s1")  # type: ignore[arg-type]
        may = []
        await calls.intend(("llm",))
        running = await calls.begin("llm", engines["llm"])
        may.append(may_ask(Verbatim("x", "phrase", "unknown"), 0, [calls]))
        await running.call.send(Prompt((Message("user", "hello"),)))
        may.append(may_ask(Verbatim("x", "phrase", "unknown"), 0, [calls]))
        await running.call.cancel()
        calls.end(running, "superseded")
        may.append(may_ask(Verbatim("x", "phrase", "unknown"), 0, [calls]))
        await calls.close()
        await ledger.aclose()
        return may

    assert asyncio.run(main()) == [True, False, True]
