"""Nobody waits, and the same beginning has the same end."""

import asyncio
import datetime
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sim.world import loop
from agent.sim.world.loop import RobotClock, Stalled


def test_a_day_passes_in_no_time() -> None:
    async def main() -> float:
        before = asyncio.get_running_loop().time()
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time() - before

    began = time.monotonic()
    assert loop.run(main()) == pytest.approx(86_400)
    assert time.monotonic() - began < 60


@given(st.lists(st.floats(0, 1_000), min_size=1, max_size=8))
def test_sleepers_wake_in_the_order_of_their_times(waits: list[float]) -> None:
    woken: list[float] = []

    async def one(wait: float) -> None:
        await asyncio.sleep(wait)
        woken.append(wait)

    async def main() -> None:
        await asyncio.gather(*map(one, waits))

    loop.run(main())
    assert woken == sorted(waits)


def test_work_for_a_thread_is_done_at_once_in_order() -> None:
    done: list[int] = []

    async def main() -> int:
        first = asyncio.get_running_loop().run_in_executor(None, done.append, 1)
        assert first.done()
        return await asyncio.to_thread(lambda: done.append(2) or 7)  # type: ignore[func-returns-value]

    assert loop.run(main()) == 7
    assert done == [1, 2]


def test_what_fails_in_a_thread_reaches_whoever_waits() -> None:
    def fail() -> None:
        raise OSError("the disk")

    async def main() -> None:
        with pytest.raises(OSError, match="the disk"):
            await asyncio.to_thread(fail)

    loop.run(main())


def test_time_outs_are_of_the_same_time() -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.sleep(31)
        assert asyncio.get_running_loop().time() == pytest.approx(30)

    loop.run(main())


def test_a_wait_without_end_is_an_error() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stalled, match="nothing is due"):
        loop.run(main())


def test_work_without_end_at_one_moment_is_an_error() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Stalled, match="busy for ever"):
        loop.run(main())


def test_a_robots_clock_leaps_is_set_and_begins_a_boot_anew() -> None:
    async def main() -> None:
        clock, other = RobotClock(1), RobotClock(2)
        assert clock.boot_id() != other.boot_id()
        await clock.sleep(5)
        began, boot = clock.utc(), clock.boot_id()
        clock.leap(3600)
        assert clock.boottime_ms() == 3_605_000
        assert clock.utc() - began == datetime.timedelta(hours=1)
        clock.step_wall(datetime.timedelta(days=-1))
        assert clock.boottime_ms() == 3_605_000
        assert clock.monotonic() == pytest.approx(3_605)
        assert clock.utc() < began
        clock.reboot()
        assert clock.boottime_ms() == 0
        assert clock.boot_id() != boot
        assert other.boottime_ms() == 5_000

    loop.run(main())


def test_a_robots_clock_repeats_itself_from_its_seed() -> None:
    async def drawn(seed: int) -> list[object]:
        clock = RobotClock(seed)
        return [clock.new_id(), clock.new_epoch(), clock.seed(), clock.secret(16), clock.boot_id()]

    assert loop.run(drawn(3)) == loop.run(drawn(3))
    assert loop.run(drawn(3)) != loop.run(drawn(4))
