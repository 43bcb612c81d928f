"""A robot tells how it is as often as its profile says."""

import asyncio
import itertools
from pathlib import Path

import pytest

from agent.contract import wire
from agent.contract.fleet.presence import read_telemetry
from agent.fleet.telemetry import JITTER
from agent.sim.clock import SimulatedClock
from tests.fleet.scripted_link import ScriptedLink
from tests.steering.started import started


@pytest.mark.parametrize("seconds", [5, 600])
def test_telemetry_is_told_at_the_interval_of_the_profile(tmp_path: Path, seconds: int) -> None:
    async def main() -> None:
        link = ScriptedLink()
        afar, running = started(tmp_path, SimulatedClock(), settings={"fleet": {"telemetry_s": seconds}})
        assert afar._helm is not None
        *_, telling, _renewing = afar._helm.works(running, link)
        task = asyncio.ensure_future(telling())
        async with asyncio.timeout(20):
            while len(link.sent) < 4:
                await asyncio.sleep(0.001)
        task.cancel()
        assert {one.topic for one in link.sent} == {wire.TELEMETRY}
        ups = [read_telemetry(one.body).uptime_s for one in link.sent]
        assert all(abs(later - earlier - seconds) <= seconds * JITTER + 1 for earlier, later in itertools.pairwise(ups))

    asyncio.run(main())
