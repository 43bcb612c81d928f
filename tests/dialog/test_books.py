"""What a power cut leaves of a turn's books: each call that was begun ends once, with what was noted, or with nobody knowing."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.clock import FLOOR, Clock
from agent.dialog.books import Books
from agent.metering.cards import Cards
from agent.ports import OpenCall
from agent.sim.clock import SimulatedClock
from agent.store.ledger import SqliteLedger
from agent.store.reading import LedgerReader
from agent.store.verify import verify_books
from agent.values import Placement, Stage, StageResult, StageTimes, StageUsage
from tests.metering.test_rating import card
from tests.store.test_ledger import ROBOT

HEARD = StageUsage(output_tokens=4, audio_in_ms=900)


def call(stage: Stage = "asr", attempt: int = 1, placement: Placement = "device") -> OpenCall:
    return OpenCall("t1", "s1", stage, f"{stage}_scripted", "m", placement, attempt)


def books_on(ledger: SqliteLedger, clock: Clock) -> Books:
    return Books(ledger, Cards.of([card()]), "UTC", {"asr": "w@1", "llm": "w@1", "tts": "w@1"}, clock)


def after_power_cut(tmp_path: Path, doing: Callable[[Books], Awaitable[Any]]) -> list[dict[str, Any]]:
    """The usage that a next start finds, and settles, when power goes right after `doing`; a start after that adds nothing."""
    clock = SimulatedClock(1)

    async def first() -> None:
        ledger = SqliteLedger(tmp_path / "robot", ROBOT, clock)
        await doing(books_on(ledger, clock))
        shutil.copytree(tmp_path / "robot", tmp_path / "cut")
        await ledger.aclose()

    async def later() -> None:
        ledger = SqliteLedger(tmp_path / "cut", ROBOT, SimulatedClock(2))
        await books_on(ledger, clock).recover()
        assert await ledger.left_open() == []
        await ledger.aclose()

    asyncio.run(first())
    asyncio.run(later())
    once = list(LedgerReader(tmp_path / "cut").bodies())
    asyncio.run(later())
    assert list(LedgerReader(tmp_path / "cut").bodies()) == once
    assert verify_books(tmp_path / "cut").whole
    return [record["data"] for record in LedgerReader(tmp_path / "cut").records("usage")]


def test_a_call_on_the_device_that_never_began_leaves_no_record(tmp_path: Path) -> None:
    async def doing(books: Books) -> None:
        await books.intend([call("asr"), call("llm")])

    assert after_power_cut(tmp_path, doing) == []


def test_a_call_that_began_and_noted_nothing_is_unknown_never_0(tmp_path: Path) -> None:
    async def doing(books: Books) -> None:
        await books.intend([call()], begin=[call()])

    (record,) = after_power_cut(tmp_path, doing)
    assert (record["outcome"], record["origin"]) == ("cut_off", "unknown")
    assert not [name for name in record if "tokens" in name or name == "amount"]


def test_a_call_that_noted_something_is_settled_with_it(tmp_path: Path) -> None:
    async def doing(books: Books) -> None:
        intent = await books.intend([call(), call("llm")], begin=[call()])
        await books.note([(call(), HEARD)])
        assert intent.sequence == 2

    (record,) = after_power_cut(tmp_path, doing)
    assert (record["outcome"], record["origin"]) == ("cut_off", "estimated")
    assert (record["gen_ai.usage.output_tokens"], record["audio_in_ms"], record["amount"]) == (4, 900, "0.04")
    assert record["intent"]["sequence"] == 2


def test_a_call_in_the_cloud_may_have_cost_something_once_it_was_announced(tmp_path: Path) -> None:
    async def doing(books: Books) -> None:
        await books.intend([call("llm", placement="cloud")])

    (record,) = after_power_cut(tmp_path, doing)
    assert (record["placement"], record["outcome"], record["origin"]) == ("cloud", "cut_off", "unknown")


def test_an_attempt_decided_in_mid_turn_is_announced_and_ends_like_any_other(tmp_path: Path) -> None:
    async def doing(books: Books) -> None:
        intent = await books.intend([call("llm")], begin=[call("llm")])
        failed = StageResult("llm", "llm_scripted", "m", "failed", StageUsage(origin="unknown"), StageTimes(0, None, 1))
        await books.settle(call("llm"), failed, intent)
        await books.intend([call("llm", attempt=2)], begin=[call("llm", attempt=2)])

    records = after_power_cut(tmp_path, doing)
    assert [(record["attempt"], record["outcome"]) for record in records] == [(1, "failed"), (2, "cut_off")]
    assert [record["intent"]["sequence"] for record in records] == [2, 4]


def test_a_note_that_was_overtaken_by_the_end_opens_nothing_again(tmp_path: Path) -> None:
    async def doing(books: Books) -> None:
        intent = await books.intend([call()], begin=[call()])
        await books.settle(call(), StageResult("asr", "asr_scripted", "m", "completed", HEARD, StageTimes(0, None, 1)), intent)
        await books.note([(call(), HEARD)])

    assert [record["outcome"] for record in after_power_cut(tmp_path, doing)] == ["completed"]


@pytest.mark.parametrize("believed", ["none", "floor", "ntp"])
def test_a_clock_from_before_every_card_still_prices(tmp_path: Path, believed: Any) -> None:
    clock = SimulatedClock(1, start=FLOOR.replace(year=1970), quality=believed)
    ledger = SqliteLedger(tmp_path, ROBOT, clock)
    assert books_on(ledger, clock).card == card()
    asyncio.run(ledger.aclose())
