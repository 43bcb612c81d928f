"""A worker with a played ledger, backend and links, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from agent.contract.wire import INFLIGHT_MAX
from agent.sim.world.loop import RobotClock, run
from agent.sync.worker import Worker
from tests.sync.helpers import TRUSTED, Backend, Books, PlayedBacklog, PlayedLink, epoch_of

ONE = epoch_of(1)


@dataclass
class Robot:
    """A worker and everything it is given."""

    links: list[PlayedLink]
    backend: Backend
    backlog: PlayedBacklog = field(default_factory=lambda: PlayedBacklog(Books()))
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = RobotClock(1)
        self.worker = Worker(
            self.backlog, self.links, lambda: TRUSTED, self.clock, self.said.append, device="sim-0001", first_wait_ms_max=0
        )
        self.running = asyncio.ensure_future(self.worker.run())

    async def until(self, true: Callable[[], bool], seconds_max: float = 7200) -> float:
        """Simulated seconds until something is so, to a hundredth."""
        began = self.clock.monotonic()
        while not true():
            waited = self.clock.monotonic() - began
            assert waited < seconds_max, self.worker.status()
            assert not self.running.done() or self.running.result()
            await asyncio.sleep(max(0.001, waited / 100))
        return self.clock.monotonic() - began

    async def acked(self, seconds_max: float = 7200) -> float:
        return await self.until(lambda: not any(map(self.backlog.books.left, self.backlog.books.names)), seconds_max)

    @property
    def cursor(self) -> int:
        return self.backlog.books.cursor.get(self.backlog.epoch, 0)


def played(test: Callable[[Robot], Awaitable[None]], *links: str, up: bool = True) -> Robot:
    """Runs a test with links of those names (by default the two) in virtual time."""

    async def main() -> Robot:
        backend = Backend()
        robot = Robot([PlayedLink(name, backend, up=up) for name in links or ("mqtt", "https")], backend)
        try:
            await test(robot)
        finally:
            robot.running.cancel()
            await asyncio.gather(robot.running, return_exceptions=True)
        assert all(link.in_flight_max <= INFLIGHT_MAX for link in robot.links)
        return robot

    return run(main())
