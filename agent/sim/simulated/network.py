"""Lines between robots and the other side, in virtual time: slow, cut, half open or refused, by a weather and a seed.

    dialled -> carrying -> broken (by chance, by the weather, or by whoever holds an end)
            -> held (half open: nothing arrives, nobody is told) -> carrying, when the weather turns; or broken
            -> refused

What a line carries arrives in the order it was sent, or not at all.
"""

import asyncio
import hashlib
from typing import Literal

from agent.clock import seeded
from agent.sim.world.scenario import GOOD, Weather

NEAREST_MS, FARTHEST_MS = 1.0, 15.0
"""One way, on a good day: the same town, or the other end of the country."""

APART_S = 1e-6
"""Between two arrivals on one line, so that their order never depends on how equal times are sorted."""

Way = Literal["up", "down"]


class Broken(ConnectionError):
    """The line is gone, or never came about."""


class Trace:
    """All that happened, in one number: two runs that differ anywhere differ here."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.events = 0

    def note(self, *told: object) -> None:
        """Texts, numbers and bytes, in the order they happen."""
        self.events += 1
        for part in told:
            self._digest.update(part if isinstance(part, bytes) else str(part).encode())
            self._digest.update(b"\0")
        self._digest.update(f"{asyncio.get_running_loop().time():.6f}\n".encode())

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class Line:
    """One connection. Made by `Network.dial`."""

    def __init__(self, network: "Network", number: int) -> None:
        self._network = network
        self.number = number
        self._loop = asyncio.get_running_loop()
        self.broken: asyncio.Future[None] = self._loop.create_future()
        self._arrived: dict[Way, float] = {"up": 0, "down": 0}
        self._free = asyncio.Event()
        self._fate: asyncio.TimerHandle | None = None
        self.draw()

    @property
    def held(self) -> bool:
        """Nothing arrives, and nobody is told."""
        return not self._free.is_set()

    def draw(self) -> None:
        """Its fate in the present weather."""
        weather, chance = self._network.weather, self._network.chance
        if self._fate is not None:
            self._fate.cancel()
        if chance.random() < weather.half_open:
            self._free.clear()
        else:
            self._free.set()
        if weather.cut:
            self._fate = self._loop.call_later(chance.expovariate(weather.cut), self.cut)

    def cut(self) -> None:
        """Broken for both ends; what is on its way is lost."""
        if self._fate is not None:
            self._fate.cancel()
        if not self.broken.done():
            self.broken.set_result(None)
            self._network.forget(self)

    async def carry(self, way: Way) -> None:
        """Returns when something sent now has arrived. Raises Broken if it never will."""
        at = max(self._loop.time() + self._network.delay_s(), self._arrived[way] + APART_S)
        self._arrived[way] = at
        await self._waited(asyncio.tasks.sleep(at - self._loop.time()))
        if self.held:
            await self._waited(self._free.wait())

    async def _waited(self, work: "object") -> None:
        task = asyncio.ensure_future(work)  # type: ignore[call-overload]
        try:
            await asyncio.wait((task, self.broken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()
        if self.broken.done():
            raise Broken("the connection was cut")


class Network:
    """All lines, and the weather they are in."""

    def __init__(self, seed: int, trace: Trace) -> None:
        self.chance = seeded(seed)
        self.trace = trace
        self.weather = GOOD
        self._lines: dict[Line, None] = {}
        self._dialled = 0

    def turn(self, weather: Weather) -> None:
        """From now on, also for what is open."""
        self.weather = weather
        for line in list(self._lines):
            line.draw() if weather.up else line.cut()

    async def dial(self) -> Line:
        """A new connection. Raises Broken where none comes about."""
        await asyncio.tasks.sleep(self.delay_s())
        if not self.weather.up or self.chance.random() < self.weather.drop:
            raise Broken("connection refused")
        self._dialled += 1
        line = Line(self, self._dialled)
        self._lines[line] = None
        return line

    def forget(self, line: Line) -> None:
        """It is broken."""
        self._lines.pop(line, None)
        self.trace.note("cut", line.number)

    def delay_s(self) -> float:
        """One way, now."""
        return (self.chance.uniform(NEAREST_MS, FARTHEST_MS) + self.chance.uniform(0, 2 * self.weather.delay_ms)) / 1000
