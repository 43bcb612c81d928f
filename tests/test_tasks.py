"""Who ends background work is not spared its own end: a cancellation that comes meanwhile is told, after the work has settled."""

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from agent.audio.device.playback import DeviceSpeaker
from agent.audio.device.system import SoundSystem
from agent.clock import SystemClock
from agent.engines.host import Hosted
from agent.link.mqtt.steady import Mqtt
from agent.ports import EngineSettings, LinkSettings
from agent.profile import Sound
from agent.sim.clock import SimulatedClock
from agent.sim.sound.scripted import ScriptedDevice, ScriptedLibrary
from agent.sim.world.loop import RobotClock, run
from agent.tasks import AGAIN_S_MAX, AGAIN_S_MIN, Errands, kept, stopped, to_its_end, unhurried

Close = Callable[[], Awaitable[object]]


def test_work_is_ended_and_what_it_raises_is_raised() -> None:
    async def fails() -> None:
        raise ValueError("no")

    async def main() -> None:
        await stopped(asyncio.create_task(asyncio.sleep(1000)))
        task = asyncio.create_task(fails())
        await asyncio.wait({task})
        with pytest.raises(ValueError, match="no"):
            await stopped(task)

    asyncio.run(main())


def test_a_cancellation_is_told_after_the_work_has_settled() -> None:
    settled: list[str] = []

    async def slow(go: asyncio.Event) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await go.wait()
            settled.append("settled")

    async def main() -> None:
        go = asyncio.Event()
        work = asyncio.create_task(slow(go))
        await asyncio.sleep(0)
        stopping = asyncio.create_task(stopped(work))
        await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.sleep(0)
        assert not stopping.done()
        go.set()
        await asyncio.wait({stopping})
        assert (stopping.cancelled(), settled) == (True, ["settled"])

    asyncio.run(main())


def test_work_in_a_thread_returns_or_raises() -> None:
    async def main() -> None:
        assert await to_its_end(lambda: 7) == 7
        with pytest.raises(ValueError, match="no"):
            await to_its_end(lambda: int("no"))

    asyncio.run(main())


def test_work_in_a_thread_is_waited_for_however_often_it_is_not_to_be() -> None:
    async def main() -> None:
        go = threading.Event()
        waiting = asyncio.create_task(to_its_end(lambda: go.wait(30)))
        for _ in range(2):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            waiting.cancel()
        await asyncio.sleep(0)
        assert not waiting.done()
        go.set()
        await asyncio.wait({waiting})
        assert waiting.cancelled()

    asyncio.run(main())


async def engine() -> Close:
    host: Hosted[Any, Any] = Hosted(EngineSettings("vad_scripted", "script"), SystemClock())
    await host.start()
    return host.aclose


async def link() -> Close:
    mqtt = Mqtt(LinkSettings("demo", "r1", "127.0.0.1", 1, plain=True), "r1", SystemClock(), [], lambda _: None)
    mqtt.start()
    return mqtt.aclose


async def speaker() -> Close:
    clock = RobotClock(seed=1)
    library = ScriptedLibrary(clock, ScriptedDevice("voice", "output"))
    made = DeviceSpeaker(Sound(output="voice"), SoundSystem(library, clock), clock, lambda _: None)
    made.start()
    await clock.sleep(1)
    return made.aclose


@pytest.mark.parametrize(("made", "play"), [(engine, asyncio.run), (link, asyncio.run), (speaker, run)])
def test_whoever_closes_something_and_is_cancelled_hears_of_it(made: Callable[[], Awaitable[Close]], play: Any) -> None:
    async def main() -> None:
        close = await made()
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(close())
        await asyncio.sleep(0)
        assert not closing.done()
        closing.cancel()
        await asyncio.wait({closing})
        assert closing.cancelled()
        await close()

    play(main())


def test_what_fails_while_it_is_stopped_is_not_begun_again() -> None:
    async def main() -> None:
        begun: list[str] = []

        async def fails_at_the_end() -> None:
            begun.append("once")
            if len(begun) > 1:
                return
            try:
                await asyncio.sleep(1000)
            finally:
                raise OSError("gone")

        said: list[str] = []
        task = asyncio.create_task(kept(fails_at_the_end, SimulatedClock(), said.append))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=10)
        assert task.done()
        assert (str(task.exception()), said) == ("gone", [])

    asyncio.run(main())


def test_errands_are_stopped_and_none_is_begun_after_the_end() -> None:
    async def main() -> None:
        errands, done = Errands(), list[str]()

        async def errand(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            done.append(name)

        errands.begin(errand("short", 0))
        errands.begin(errand("long", 1000))
        assert errands
        await asyncio.sleep(0.01)
        await errands.aclose()
        errands.begin(errand("late", 0))
        await asyncio.sleep(0.01)
        assert (done, bool(errands)) == (["short"], False)

    asyncio.run(main())


def test_what_dies_is_begun_again_after_a_pause_that_grows_and_said_once() -> None:
    async def main() -> None:
        clock, said, begun = SimulatedClock(), list[str](), list[float]()

        async def dies() -> None:
            begun.append(clock.monotonic())
            if len(begun) == 10:
                await clock.sleep(AGAIN_S_MAX)  # so long nothing was amiss
            if len(begun) < 12:
                raise RuntimeError("two\nlines")

        await kept(dies, clock, said.append)
        pauses = [round(after - before) for before, after in itertools.pairwise(begun)]
        assert pauses == [AGAIN_S_MIN, 2, 4, 8, 16, 32, 60, 60, 60, AGAIN_S_MAX + AGAIN_S_MIN, 2]
        assert said == ["RuntimeError: two lines"]

    asyncio.run(main())


@pytest.mark.parametrize(("refuses", "told"), [(False, asyncio.CancelledError), (True, OSError)])
def test_what_is_begun_on_the_books_ends_before_a_cancel_is_told_and_a_refusal_is_told_first(
    refuses: bool, told: type[BaseException]
) -> None:
    async def main() -> None:
        go, done = asyncio.Event(), list[str]()

        async def closes() -> None:
            await go.wait()
            done.append("closed")
            if refuses:
                raise OSError("read-only")

        waiting = asyncio.create_task(unhurried(closes()))
        for _ in range(3):
            await asyncio.sleep(0)
            waiting.cancel()
        go.set()
        with pytest.raises(told):
            await waiting
        assert done == ["closed"]

    asyncio.run(main())
