"""The live listener on scripted engines: verdicts, hints, and engines that die."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

import pytest

from agent.audio.listening import SILENCE_DBFS, VERDICT_FRAMES, Listening, dbfs
from agent.clock import SystemClock
from agent.engines.host import start
from agent.engines.scripted import EotScripted, VadScripted
from agent.ports import Began, Chunk, Ended, EngineSettings, HeardFrame, Lull, SpeechEvent
from agent.profile import Hearing
from agent.sim.clock import SimulatedClock
from tests.audio.local import ListMicrophone, LocalEngine
from tests.audio.test_turn_end import chunks
from tests.conftest import tone
from tests.engines.helpers import chunks as pieces

HEARING = Hearing(lull_ms=64, whole_ms=192, window_ms=608, open_ms=1504, whole_above=0.5)
LOUD = [chunk.pcm for chunk in pieces(tone(0.96))]
QUIET = [bytes(1024)] * 60


def vad(broken: Callable[[int], bool] = lambda _: False) -> LocalEngine:
    return LocalEngine(VadScripted(EngineSettings("vad_scripted", "script")), broken)


def eot(*probabilities: float, broken: Callable[[int], bool] = lambda _: False) -> LocalEngine:
    return LocalEngine(EotScripted(EngineSettings("eot_scripted", "script", options={"probabilities": probabilities})), broken)


def listening(frames: Iterable[bytes], hears: LocalEngine, judges: LocalEngine | None, **more: Any) -> Listening:
    clock = SimulatedClock()
    return Listening(ListMicrophone(iter(frames), clock), hears, judges, more.pop("hearing", HEARING), clock, **more)


def heard(ears: Listening, act: Callable[[SpeechEvent], None] = lambda _: None) -> list[SpeechEvent]:
    async def main() -> list[SpeechEvent]:
        events = []
        async for event in ears.events():
            events.append(event)
            act(event)
        return events

    return asyncio.run(asyncio.wait_for(main(), 20))


def kinds(events: list[SpeechEvent]) -> str:
    return " ".join(type(event).__name__ for event in events if not isinstance(event, Chunk))


def whys(events: list[SpeechEvent]) -> list[str]:
    return [event.why for event in events if isinstance(event, Ended)]


def test_the_end_of_turn_model_shortens_and_lengthens_the_silence() -> None:
    judge = eot(0.9, 0.1)
    events = heard(listening(LOUD + QUIET + LOUD + QUIET, vad(), judge))
    assert kinds(events) == "Onset Began Lull Ended Onset Began Lull Ended"
    assert whys(events) == ["whole", "open"]
    assert [len(asked) for asked in judge.asked] == [(30 + 2) * 1024, (30 + 2 + 10) * 1024]  # with what came before it


def test_without_the_model_a_fixed_window_ends_the_turn() -> None:
    assert whys(heard(listening(LOUD + QUIET, vad(), None))) == ["window"]


def test_the_model_sees_the_newest_seconds_of_a_long_utterance() -> None:
    judge = eot(0.9)
    heard(listening(LOUD * 12 + QUIET, vad(), judge))
    assert len(judge.asked[0]) == VERDICT_FRAMES * 1024
    assert judge.asked[0].endswith(bytes(2 * 1024))


def test_a_slow_verdict_holds_up_no_frame_and_is_dropped_when_the_customer_goes_on() -> None:
    judge = eot(0.9)
    late, never = asyncio.Event(), asyncio.Event()

    async def wait(asked: int) -> None:
        await (late if asked == 1 else never).wait()

    lulls = []

    def act(event: SpeechEvent) -> None:
        lulls.extend([event] * isinstance(event, Lull))
        if len(lulls) == 2:
            late.set()

    judge.before = wait
    events = heard(listening(LOUD + [bytes(1024)] * 5 + LOUD + QUIET, vad(), judge), act)
    assert kinds(events) == "Onset Began Lull Resumed Lull Ended"
    assert whys(events) == ["window"]
    assert len(judge.asked) == 2


def test_a_model_that_dies_leaves_the_fixed_window() -> None:
    lines: list[str] = []
    events = heard(listening(LOUD + QUIET, vad(), eot(0.9, broken=lambda _: True), told=lines.append))
    assert whys(events) == ["window"]
    assert lines == ["EotScripted was killed (SIGKILL) in mid-turn"]


def test_a_hint_that_the_words_are_not_all_keeps_the_turn_open() -> None:
    def act(event: SpeechEvent) -> None:
        if isinstance(event, Lull):
            ears.hint(unfinished=True)

    ears = listening(LOUD + QUIET, vad(), eot(0.9))
    assert whys(heard(ears, act)) == ["open"]


@pytest.mark.parametrize("at", [1, 10, 33, 90])
def test_a_detector_that_dies_is_opened_again_and_no_frame_is_lost(at: int) -> None:
    lines: list[str] = []
    detector = vad(lambda asked: asked == at)
    ears = listening(LOUD + QUIET, detector, None, told=lines.append)
    events = heard(ears)
    assert kinds(events) == "Onset Began Lull Ended"
    assert [chunk.pcm for chunk in chunks(events)] == (LOUD + QUIET)[:32]
    assert (detector.calls, ears.failures, len(lines)) == (2, 1, 1)


def test_a_detector_that_keeps_dying_is_tried_until_it_lives() -> None:
    detector = vad(lambda asked: asked < 10)
    ears = listening(LOUD + QUIET, detector, None)
    assert kinds(heard(ears)) == "Onset Began Lull Ended"
    assert ears.frames == len(LOUD + QUIET)


def test_the_robots_own_voice_is_nobodys_speech() -> None:
    class Own(ListMicrophone):
        async def frames(self) -> AsyncGenerator[HeardFrame]:
            async for frame in super().frames():
                yield HeardFrame(frame.pcm, frame.at, guest=False)

    ears = Listening(Own(iter(LOUD + QUIET), clock := SimulatedClock()), vad(), None, HEARING, clock)
    assert heard(ears) == []
    assert kinds(heard(listening(LOUD + QUIET, vad(), None))) == "Onset Began Lull Ended"


def test_push_to_talk() -> None:
    def act(event: SpeechEvent) -> None:
        if isinstance(event, Lull):
            ears.release()

    ears = listening(LOUD + QUIET, vad(), None, hearing=HEARING.model_copy(update={"push_to_talk": True}))
    assert heard(ears, act) == []
    ears = listening(LOUD + QUIET, vad(), None, hearing=HEARING.model_copy(update={"push_to_talk": True}))
    ears.press()
    assert whys(heard(ears, act)) == ["released"]


def test_level_and_lag() -> None:
    ears = listening(LOUD, vad(), None)
    heard(ears)
    assert ears.level == pytest.approx(dbfs(LOUD[-1]))
    assert ears.lag_ms == 0
    assert dbfs(bytes(1024)) == dbfs(b"") == SILENCE_DBFS
    assert dbfs((tone(0.032, size=1.0) * 32767).astype("<i2").tobytes()) == pytest.approx(-3, abs=0.3)


def test_what_the_microphone_raises_comes_out() -> None:
    class Broken(ListMicrophone):
        async def frames(self) -> AsyncGenerator[HeardFrame]:
            async for frame in super().frames():
                yield frame
            raise RuntimeError("unplugged by a bug")

    clock = SimulatedClock()
    with pytest.raises(RuntimeError, match="unplugged"):
        heard(Listening(Broken(iter(LOUD), clock), vad(), None, HEARING, clock))


def test_whoever_stops_taking_events_leaves_nothing_running() -> None:
    async def main() -> None:
        events = listening(LOUD + QUIET, vad(), eot(0.9)).events()
        async for event in events:
            if isinstance(event, Began):
                break
        await events.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_a_detectors_process_killed_in_mid_speech_is_replaced() -> None:
    async def main() -> None:
        hears = await start(EngineSettings("vad_scripted", "script"), SystemClock())
        killed = []

        def frames() -> Iterable[bytes]:
            for index, pcm in enumerate(LOUD + QUIET):
                if index == 20:
                    killed.append(hears.process_id)
                    os.kill(hears.process_id, signal.SIGKILL)
                yield pcm

        clock, lines = SystemClock(), list[str]()
        ears = Listening(ListMicrophone(iter(frames()), SimulatedClock()), hears, None, HEARING, clock, told=lines.append)
        try:
            events = [event async for event in ears.events()]
        finally:
            await hears.aclose()
        assert kinds(events) == "Onset Began Lull Ended"
        assert [chunk.pcm for chunk in chunks(events)] == (LOUD + QUIET)[:32]
        assert len(killed) == len(lines) == 1
        assert "was killed (SIGKILL)" in lines[0]

    asyncio.run(main())
