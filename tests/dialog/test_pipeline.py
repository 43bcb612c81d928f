"""A turn with scripted engines: every ending of every stage is on the books, once."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.audio.ears import FrameEars
from agent.clock import SystemClock
from agent.dialog.books import Books
from agent.dialog.exchange.robot import Manner, Stages
from agent.dialog.exchange.robot import Robot as Means
from agent.dialog.pipeline import Pipeline
from agent.dialog.telling import told
from agent.engines.host import Hosted, start
from agent.engines.scripted import words
from agent.errors import EngineFailed
from agent.metering.cards import Cards
from agent.ports import EngineSettings
from agent.profile import Hearing
from agent.store.ledger import SqliteLedger
from agent.store.ledger.chain import Identity
from agent.store.reading import LedgerReader
from agent.store.verify import verify_books
from agent.values import Message, Prompt, Speech, Turn
from tests.conftest import tone
from tests.engines.helpers import chunks
from tests.metering.test_rating import card

ROBOT = Identity("demo", "sim-1", "hotel")

LOUD = [chunk.pcm for chunk in chunks(tone(2.0))]
QUIET = [bytes(1024)] * 40


class Robot:
    """Scripted engines, a real ledger."""

    def __init__(self, engines: dict[str, Hosted[Any, Any]], ledger: SqliteLedger, max_tokens: int) -> None:
        clock = SystemClock()
        self.engines = engines
        self.spoken: list[Speech] = []
        names = {"asr": "w@1", "llm": "w@1", "tts": "w@1"}
        self.books = Books(ledger, Cards.of([card()]), "UTC", names, clock)  # type: ignore[arg-type]
        manner = Manner((Message("system", "be kind"),), Prompt((), max_tokens), 500, words, words)
        self._pipeline = Pipeline(Means(Stages(engines["asr"], engines["llm"], engines["tts"]), self.books, manner, clock))
        self._clock = clock

    async def hear(self, frames: list[bytes] = LOUD) -> Turn:
        ears = FrameEars(frames, self.engines["vad"], Hearing(), self._clock)
        return await self._pipeline.turn(ears, self.spoken.append, "s1")


def kill(engine: Hosted[Any, Any]) -> None:
    """Once is enough: a second piece of sound may come before its death is noticed."""
    with contextlib.suppress(ProcessLookupError):
        if engine.process_id:
            os.kill(engine.process_id, signal.SIGKILL)


Test = Callable[[Robot], Awaitable[None]]


def run(state: Path, test: Test, max_tokens: int = 40, **options: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs a test on a robot; returns the usage records it left."""

    async def main() -> None:
        clock = SystemClock()
        ledger = SqliteLedger(state, ROBOT, clock)
        parts = ("asr", "llm", "tts", "vad")
        settings = [EngineSettings(f"{part}_scripted", "script", options=options.get(part, {})) for part in parts]
        engines = dict(zip(parts, await asyncio.gather(*(start(one, clock) for one in settings)), strict=True))
        try:
            await test(Robot(engines, ledger, max_tokens))
        finally:
            await asyncio.gather(*(engine.aclose() for engine in engines.values()))
            await ledger.aclose()

    asyncio.run(main())
    assert verify_books(state).whole
    return [record["data"] for record in LedgerReader(state).records("usage")]


def endings(records: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(record["stage"], record["outcome"]) for record in records]


def test_a_turn_is_heard_answered_spoken_and_settled(tmp_path: Path) -> None:
    async def test(robot: Robot) -> None:
        turn = await robot.hear()
        assert (turn.transcript, turn.reply) == ("what time is breakfast", "Breakfast is served from half past six.")
        assert "".join(piece.text for piece in robot.spoken) == turn.reply
        assert turn.speech_end_to_first_audio_ms is not None

    asr, llm, tts = run(tmp_path, test)
    assert endings([asr, llm, tts]) == [("asr", "completed"), ("llm", "completed"), ("tts", "completed")]
    assert (asr["gen_ai.usage.output_tokens"], asr["audio_in_ms"]) == (4, 2016)
    assert (llm["gen_ai.usage.input_tokens"], llm["gen_ai.usage.output_tokens"]) == (6, 7)
    assert (tts["gen_ai.usage.input_tokens"], tts["characters"], tts["characters_heard"]) == (7, 39, 39)
    assert [record["amount"] for record in (asr, llm, tts)] == ["0.04", "0.13", "0.07"]
    assert len({record["turn_id"] for record in (asr, llm, tts)}) == 1


def test_silence_leaves_only_the_listening(tmp_path: Path) -> None:
    async def test(robot: Robot) -> None:
        turn = await robot.hear(QUIET)
        assert (turn.transcript, turn.reply, turn.problems) == ("", "", ())

    (asr,) = run(tmp_path, test)
    assert (asr["outcome"], asr["gen_ai.usage.output_tokens"], asr["audio_in_ms"], asr["amount"]) == ("completed", 0, 0, "0")


def test_sound_without_words_leaves_only_the_listening(tmp_path: Path) -> None:
    async def test(robot: Robot) -> None:
        assert (await robot.hear()).reply == ""

    (asr,) = run(tmp_path, test, asr={"transcripts": [""]})
    assert asr["audio_in_ms"] == 2016


def test_a_failed_mind_is_on_the_books_and_the_next_turn_works(tmp_path: Path) -> None:
    async def test(robot: Robot) -> None:
        assert (await robot.hear()).problems == ("no idea",)
        assert (await robot.hear()).reply == "Good day."

    records = run(tmp_path, test, llm={"replies": ["fail: no idea", "Good day."]})
    assert endings(records) == [("asr", "completed"), ("llm", "failed"), ("asr", "completed"), ("llm", "completed"), ("tts", "completed")]
    assert records[1]["gen_ai.usage.input_tokens"] == 6
    assert records[1]["amount"] == "0.00"


def test_a_mind_with_nothing_to_say_is_no_fault(tmp_path: Path) -> None:
    async def test(robot: Robot) -> None:
        turn = await robot.hear()
        assert (turn.reply, turn.problems) == ("", ())

    assert endings(run(tmp_path, test, llm={"replies": [""]})) == [("asr", "completed"), ("llm", "completed")]


@pytest.mark.parametrize("part", ["asr", "tts", "vad"])
def test_an_engine_killed_in_mid_turn_ends_the_turn_and_the_next_one_works(tmp_path: Path, part: str) -> None:
    """The killed stage is failed; no later stage is billed for what nobody hears; the next turn is as good as any."""

    async def test(robot: Robot) -> None:
        def kill(speech: Speech) -> None:
            os.kill(robot.engines["tts"].process_id, signal.SIGKILL)

        if part == "tts":
            robot.spoken = type("Killing", (list,), {"append": staticmethod(kill)})()
            turn = await robot.hear()
        else:
            endless = asyncio.create_task(robot.hear(LOUD * 400))
            await asyncio.sleep(0.3)
            os.kill(robot.engines[part].process_id, signal.SIGKILL)
            turn = await endless
        assert any("was killed (SIGKILL)" in problem for problem in turn.problems)
        robot.spoken = []
        assert (await robot.hear()).problems == ()

    reply = "One long sentence to begin with. " + "Then another one that goes on. " * 12
    records = run(tmp_path, test, llm={"replies": [reply]}, tts={"ms_per_character": 400})
    failed, later = records[: len(records) - 3], records[-3:]
    assert endings(later) == [("asr", "completed"), ("llm", "completed"), ("tts", "completed")]
    assert [stage for stage, outcome in endings(failed) if outcome == "failed"] == ["tts" if part == "tts" else "asr"]
    assert len(failed) == (3 if part == "tts" else 1)
    assert len({record["turn_id"] for record in failed}) == 1


def test_a_turn_somebody_stops_is_interrupted_with_what_it_used(tmp_path: Path) -> None:
    async def test(robot: Robot) -> None:
        turn = asyncio.create_task(robot.hear(LOUD * 300))
        await asyncio.sleep(0.3)
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        assert (await robot.hear()).problems == ()

    records = run(tmp_path, test)
    assert endings(records)[0] == ("asr", "interrupted")
    assert records[0]["audio_in_ms"] > 0
    assert len(records) == 4


def test_a_question_too_long_for_the_model_keeps_its_end_and_says_so(tmp_path: Path) -> None:
    async def test(robot: Robot) -> None:
        turn = await robot.hear()
        assert turn.notes == ("the question is too long for the model: its first 318 of 800 words were left out",)

    run(tmp_path, test, asr={"transcripts": ["word " * 800]})


def test_a_refusing_ledger_is_told_not_swallowed(tmp_path: Path) -> None:
    async def test(robot: Robot) -> None:
        async def refuse(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        robot.books.settle = refuse  # type: ignore[method-assign]
        with pytest.raises(OSError, match="No space left"):
            await robot.hear()

    assert run(tmp_path, test) == []


def test_a_turn_stopped_twice_is_on_the_books_all_the_same(tmp_path: Path) -> None:
    async def test(robot: Robot) -> None:
        turn = asyncio.create_task(robot.hear(LOUD * 300))
        await asyncio.sleep(0.3)
        for _ in range(40):
            turn.cancel()
            await asyncio.sleep(0.0005)
        with pytest.raises(asyncio.CancelledError):
            await turn

    (asr,) = run(tmp_path, test)
    assert (asr["stage"], asr["outcome"]) == ("asr", "interrupted")


def test_what_settles_is_what_was_used_in_the_end(tmp_path: Path) -> None:
    """A voice that dies stops the thinking; its record has the tokens of the very last step."""
    opened: list[Any] = []

    async def test(robot: Robot) -> None:
        llm = robot.engines["llm"]
        plain = llm.open
        llm.open = lambda: opened.append(plain()) or opened[-1]  # type: ignore[method-assign,func-returns-value]
        robot.spoken = type("Killing", (list,), {"append": lambda *_: kill(robot.engines["tts"])})()
        await robot.hear()

    reply = "One long sentence to begin with. " + "Then another one that goes on. " * 4000
    records = run(tmp_path, test, 30_000, llm={"replies": [reply]}, tts={"ms_per_character": 400})
    llm = next(record for record in records if record["stage"] == "llm")
    assert 0 < llm["gen_ai.usage.output_tokens"] == opened[0].usage.output_tokens < 20_000


def test_a_stage_that_died_before_it_could_count_is_unknown_everywhere(tmp_path: Path) -> None:
    """A begun call of which nothing was reported: no figure in the record, none in what `ask --json` tells."""

    async def test(robot: Robot) -> None:
        llm = robot.engines["llm"]
        plain = llm.begin

        async def begin_and_die(call: Any) -> None:
            os.kill(llm.process_id, signal.SIGSTOP)  # it hears of the call and never answers
            await plain(call)
            llm.kill()

        llm.begin = begin_and_die  # type: ignore[method-assign]
        turn = await robot.hear()
        stage = told(turn, card(), reply_audio=None, problems=[])["stages"][1]
        assert (stage["origin"], stage["outcome"]) == ("unknown", "failed")
        assert {stage[name] for name in ("input_tokens", "output_tokens", "billed_tokens", "amount")} == {None}

    _, llm = run(tmp_path, test)
    assert (llm["origin"], llm["outcome"]) == ("unknown", "failed")
    assert not {"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "amount", "tokenizer"} & set(llm)


def test_an_engine_that_never_heard_of_the_call_leaves_no_record(tmp_path: Path) -> None:
    async def test(robot: Robot) -> None:
        async def refuse(*_: object) -> None:
            raise EngineFailed("no room for another process")

        robot.engines["llm"].begin = refuse  # type: ignore[method-assign,assignment]
        assert (await robot.hear()).problems == ("no room for another process",)

    assert endings(run(tmp_path, test)) == [("asr", "completed")]
