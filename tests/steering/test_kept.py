"""A part of who steers that dies of something nobody foresaw is begun again, later each time, and said once."""

import asyncio
import itertools
from pathlib import Path

from agent.log import Log
from agent.sim.clock import SimulatedClock
from agent.steering import AGAIN_S_MAX, AGAIN_S_MIN, FromAfar


def test_what_dies_is_begun_again_after_a_pause_that_grows_and_said_once(tmp_path: Path) -> None:
    async def main() -> None:
        clock, said, begun = SimulatedClock(), list[str](), list[float]()
        afar = FromAfar("scripted", Log(), tmp_path, clock, said.append)

        async def dies() -> None:
            begun.append(clock.monotonic())
            if len(begun) == 10:
                await clock.sleep(AGAIN_S_MAX)  # so long nothing was amiss
            if len(begun) < 12:
                raise RuntimeError("two\nlines")

        await afar._kept(dies)
        pauses = [round(after - before) for before, after in itertools.pairwise(begun)]
        assert pauses == [AGAIN_S_MIN, 2, 4, 8, 16, 32, 60, 60, 60, AGAIN_S_MAX + AGAIN_S_MIN, 2]
        assert said == ["from afar: RuntimeError: two lines"]

    asyncio.run(main())
