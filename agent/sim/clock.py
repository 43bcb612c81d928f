"""A clock that goes only when told to, and repeats itself from a seed."""

import asyncio
import datetime
import uuid

from agent.clock import FLOOR, ClockQuality, seeded


class SimulatedClock:
    """Implements the port Clock. Sleeping advances it and lets others run; steps of wall time do not touch the rest."""

    def __init__(self, seed: int = 0, start: datetime.datetime = FLOOR, quality: ClockQuality = "ntp") -> None:
        self._chance = seeded(seed)
        self._start = start
        self._elapsed = 0.0
        self._step = datetime.timedelta()
        self.believed: ClockQuality = quality
        self._boot = self._hex()

    def advance(self, seconds: float) -> None:
        self._elapsed += seconds

    def step_wall(self, by: datetime.timedelta) -> None:
        """What a wrong battery or a hostile time server does."""
        self._step += by

    def attest(self, moment: datetime.datetime) -> None:
        """See `Settable`; where it is synchronised it knows better."""
        if self.believed != "ntp":
            self._step += moment - self.utc()
            self.believed = "signed"

    def reboot(self) -> None:
        self._boot, self._elapsed = self._hex(), 0.0

    def utc(self) -> datetime.datetime:
        return self._start + datetime.timedelta(seconds=self._elapsed) + self._step

    def quality(self) -> ClockQuality:
        return self.believed

    def monotonic(self) -> float:
        return self._elapsed

    def boottime_ms(self) -> int:
        return int(self._elapsed * 1000)

    def boot_id(self) -> str:
        return self._boot

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.tasks.sleep(0)

    def new_id(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    def new_epoch(self) -> str:
        return self._hex()

    def seed(self) -> int:
        return self._chance.getrandbits(32)

    def secret(self, size: int) -> bytes:
        return self._chance.randbytes(size)

    def _hex(self) -> str:
        return f"{self._chance.getrandbits(128):032x}"
