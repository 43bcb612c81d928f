"""The Clock port: the only place that reads time or randomness, so that a simulation can bend both."""

import asyncio
import ctypes
import datetime
import random
import time
import uuid
from pathlib import Path
from typing import Literal, Protocol

ClockQuality = Literal["none", "floor", "ntp", "signed"]
"""How far wall time can be believed: not at all, only that it is not before FLOOR, synchronised, or signed by the backend."""

FLOOR = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
"""No robot with this code lived before this moment; an earlier wall clock has lost its battery."""

LIBC = ctypes.CDLL(None)

TIME_ERROR = 5
"""What adjtimex(2) returns while the kernel's clock is not synchronised."""


class Clock(Protocol):
    """Time, waiting, identity and chance."""

    def utc(self) -> datetime.datetime:
        """Wall time as the machine believes it; see `quality` before trusting it."""
        ...

    def quality(self) -> ClockQuality: ...

    def monotonic(self) -> float:
        """Seconds, for durations within one process."""
        ...

    def boottime_ms(self) -> int:
        """Milliseconds since this boot, sleep included; orders events together with `boot_id`."""
        ...

    def boot_id(self) -> str:
        """32 hex digits, new at every boot."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    def new_id(self) -> str:
        """A UUIDv7 (RFC 9562): sorts by the time it was made, as far as that is known."""
        ...

    def new_epoch(self) -> str:
        """32 random lowercase hex digits."""
        ...

    def seed(self) -> int:
        """A fresh 32-bit seed for a sampler."""
        ...

    def secret(self, size: int) -> bytes:
        """Bytes nobody can guess, for keys; a simulated clock repeats them."""
        ...


class Settable(Clock, Protocol):
    """A clock that believes what somebody trustworthy says of the time."""

    def attest(self, moment: datetime.datetime) -> None:
        """It is `moment` now, in UTC; from here on it counts by itself, as `signed`, unless it knows better."""
        ...


class SystemClock:
    """The machine's own clock and entropy. Where the kernel is not synchronised and the time was attested, that time, counted on."""

    def __init__(self) -> None:
        self._booted: datetime.datetime | None = None
        """When the boot clock began, by what was attested."""
        self._boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")

    def attest(self, moment: datetime.datetime) -> None:
        self._booted = moment - datetime.timedelta(milliseconds=self.boottime_ms())

    def utc(self) -> datetime.datetime:
        if self._booted is not None and not _kernel_says_synchronised():
            return self._booted + datetime.timedelta(milliseconds=self.boottime_ms())
        return datetime.datetime.now(datetime.UTC)

    def quality(self) -> ClockQuality:
        if _kernel_says_synchronised():
            return "ntp"
        if self._booted is not None:
            return "signed"
        return "floor" if self.utc() >= FLOOR else "none"

    def monotonic(self) -> float:
        return time.monotonic()

    def boottime_ms(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000

    def boot_id(self) -> str:
        return self._boot_id

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def new_id(self) -> str:
        milliseconds = int(self.utc().timestamp() * 1000)
        chance = random.SystemRandom().getrandbits(74)
        value = (milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | (chance >> 62) << 64 | 0b10 << 62 | chance & (1 << 62) - 1
        return str(uuid.UUID(int=value))

    def new_epoch(self) -> str:
        return f"{random.SystemRandom().getrandbits(128):032x}"

    def seed(self) -> int:
        return random.SystemRandom().getrandbits(32)

    def secret(self, size: int) -> bytes:
        return random.SystemRandom().randbytes(size)


def seeded(seed: int) -> random.Random:
    """A repeatable source of chance, for samplers and simulations."""
    return random.Random(seed)  # noqa: S311  a sampler needs repeatability, not secrecy


def _kernel_says_synchronised() -> bool:
    """Asks adjtimex(2), which any time daemon keeps honest, whichever it is."""
    request = ctypes.create_string_buffer(512)  # struct timex is 208 bytes; modes = 0 only reads
    return int(LIBC.adjtimex(request)) not in (-1, TIME_ERROR)
