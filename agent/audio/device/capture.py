"""The microphone: PortAudio's callback fills a ring, a driver on the event loop makes frames of it, watches the rate and repairs.

The driver is woken when there is enough in the ring, which who leads the conversation decides from block to block: each block while the
robot is to give way at once, a frame, or more while nobody speaks, and less of that as soon as it is not still. What came together is
cleaned together.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

from agent.audio.device.frames import FULL, Cleaner, Framer, clipped, loud, peak, still
from agent.audio.device.holder import Holder, Say
from agent.audio.device.library import Library, Stream
from agent.audio.device.system import SoundSystem
from agent.audio.device.watch import ENDED, WHY, ZEROS_S, Cure, Verdict, Watch
from agent.audio.devices import Device
from agent.clock import Clock
from agent.ports import HeardFrame
from agent.profile import Sound
from agent.values import FRAME_MS, RATE_HZ

RING_SECONDS = 2
"""An event loop that is held up for longer loses sound, and it is counted."""

BLOCK_MS_MIN = 20
"""Two of what is cleaned at a time. With calls of 10 ms a frame of 32 ms is whole 4 ms sooner on average, for twice the wake-ups."""

STIR_MS = 128
"""A block that is not still is heard when so much lies there, however patient whoever listens is."""

TOGETHER_SECONDS = 0.26
"""What has piled up is made frames of in steps of so much, so that no more than this is cleaned in one go. The event loop gets its turn
only where whoever takes the frames waits for something."""

TICK_SECONDS = 0.3
"""A stream is looked at this often, whether it gives anything or not; longer than anybody's patience."""

BUSY_ABOVE, BUSY_SECONDS = 0.01, 1.0
"""-40 dB of full scale so recently: somebody may be speaking."""

CLIPPED_SHARE, CLIPPED_BLOCKS = 0.1, 100
"""More clipped blocks than this among so many are worth a line: the gain is too high."""


class DeviceMicrophone:
    """Implements the port Microphone. One `frames()` at a time may be under way."""

    def __init__(
        self,
        sound: Sound,
        system: SoundSystem,
        clock: Clock,
        say: Say,
        *,
        cleaner: Cleaner | None = None,
        before_cleaning: Callable[[], object] | None = None,
        zeros_s: float = ZEROS_S,
    ) -> None:
        """`before_cleaning` is called before each block is cleaned: it tells the canceller what was played meanwhile."""
        self._sound = sound
        self._clock = clock
        self._say = say
        self._cleaner = cleaner
        self._before_cleaning = before_cleaning
        self._block_ms = max(sound.block_ms, BLOCK_MS_MIN)
        self._ring: deque[tuple[bytes, float, float]] = deque(maxlen=RING_SECONDS * 1000 // self._block_ms)
        self._together = max(1, int(TOGETHER_SECONDS * 1000) // self._block_ms)
        self.patience_ms: Callable[[], int] = lambda: FRAME_MS
        """How much sound may lie in the ring before frames are made of it; none, where not a whole frame. Asked in the sound system's
        thread whenever there is a whole frame."""
        self._urgent = False  # it was none when last asked
        self._over_ms = 0.0  # of the next frame there is already
        self._got = (0, 0.0)  # samples since the stream was opened, in all its channels, and when the last of them came
        self._judged = 0  # of them
        self._look_at = float("-inf")
        self._came = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cure = Cure(zeros_s)
        self._holder = Holder(("input", sound.input), system, clock, say, self._cure, busy=self._busy)
        self._watch = Watch(RATE_HZ, 0)
        self._framer = Framer(RATE_HZ, 1, cleaner)
        self._loud_at = float("-inf")
        self._overruns = self._clipped = 0
        self._clips: deque[bool] = deque(maxlen=CLIPPED_BLOCKS)
        self._said_clipped = False

    async def frames(self) -> AsyncGenerator[HeardFrame]:
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                stream = self._holder.stream or await self._open()
                await self._something()
                while self._ring:
                    for frame in self._heard(stream):
                        yield frame
                if self._holder.stream is stream and (self._clock.monotonic() >= self._look_at or not stream.running):
                    await self._examine(stream)
        finally:
            await self.aclose()

    def health(self) -> dict[str, Any]:
        rate = self._watch.rate(self._clock.monotonic()) * self._cure.true_rate if self._holder.stream else 0.0
        counts = {"overruns": self._overruns, "reopened": self._holder.reopened, "clipped": self._clipped}
        why = self._why()
        return {"device": self._holder.device, "hearing": not why, "why": why, "rate": round(rate, 3), **counts}

    @property
    def tries(self) -> int:
        """To open it, so far; grows for as long as it can't be."""
        return self._holder.tries

    async def aclose(self) -> None:
        await self._holder.aclose()

    async def _open(self) -> Stream:
        self._ring.clear()  # of the stream before
        self._got, self._judged = (0, 0.0), 0
        stream = await self._holder.open(self._opening)
        self._tune(stream)
        return stream

    def _opening(self, library: Library, device: Device) -> Stream:
        rates_hz = (RATE_HZ, device.rate_hz)
        return library.open_input(device, rates_hz, self._block_ms, self._sound.latency_ms, self._arrived)

    def _tune(self, stream: Stream) -> None:
        rate_hz = stream.rate_hz * self._cure.true_rate
        self._watch = Watch(rate_hz, self._clock.monotonic(), self._cure.zeros_s)
        self._framer = Framer(rate_hz, stream.channels, self._cleaner)

    def _arrived(self, pcm: bytes, age_s: float, lost: bool) -> None:
        self._overruns += lost or len(self._ring) == self._ring.maxlen
        now = self._clock.monotonic()
        self._ring.append((pcm, now, age_s))
        self._got = (self._got[0] + len(pcm) // 2, now)
        if self._loop is not None and self._enough(pcm):
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
                self._loop.call_soon_threadsafe(self._came.set)

    def _enough(self, newest: bytes) -> bool:
        if self._urgent:
            return True
        lying_ms = len(self._ring) * self._block_ms + self._over_ms
        if lying_ms < FRAME_MS:
            return False
        patience_ms = self.patience_ms()
        return lying_ms >= patience_ms or (patience_ms > STIR_MS <= lying_ms and not still(newest))

    async def _something(self) -> None:
        """Sound has come, or it is time to look why not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK_SECONDS):
                await self._came.wait()
        self._came.clear()

    def _heard(self, stream: Stream) -> list[HeardFrame]:
        """The frames in what has come."""
        blocks = [self._ring.popleft() for _ in range(min(len(self._ring), self._together))]
        pcm, (_, came_at, age_s) = b"".join(block for block, _, _ in blocks), blocks[-1]
        loudest = peak(pcm)
        self._watch.sounded(len(pcm) / 2 / stream.channels / stream.rate_hz, zeros=not loudest)
        self._count_clipped([loudest >= FULL and clipped(block) for block, _, _ in blocks])
        if loudest > BUSY_ABOVE * FULL and loud(pcm, BUSY_ABOVE):
            self._loud_at = came_at
        if self._before_cleaning is not None:
            self._before_cleaning()
        frames = self._framer.take(pcm, came_at - age_s)
        self._urgent, self._over_ms = not self.patience_ms(), self._framer.over_s * 1000
        return frames

    def _count_clipped(self, clips: list[bool]) -> None:
        if not (any(clips) or self._said_clipped):
            self._clips.extend(clips)
            return
        self._clipped += sum(clips)
        self._clips.extend(clips)
        many = sum(self._clips) > CLIPPED_SHARE * CLIPPED_BLOCKS
        if many and not self._said_clipped:
            self._say(f"microphone {self._holder.device}: it clips; lower its gain")
        self._said_clipped = many

    async def _examine(self, stream: Stream) -> None:
        if self._holder.stream is not stream:
            return  # the sound system took it
        now = self._clock.monotonic()
        self._look_at = now + TICK_SECONDS
        got, at = self._got
        if got > self._judged:
            self._watch.got((got - self._judged) // stream.channels, at)
            self._judged = got
        verdict: Verdict = self._watch.verdict(now) if stream.running else "dead"
        rate = self._watch.rate(now)
        action = self._cure.after(verdict, rate, now, silent=not self._watch.alive)
        if action == "retune":
            self._say(f"microphone {self._holder.device}: its clock is off: {self._cure.true_rate:.0%} of {stream.rate_hz} Hz; resampled")
            self._tune(stream)
        elif action == "reopen":
            await self._holder.drop(WHY[verdict].format(rate=rate) if stream.running else ENDED)
        elif await self._holder.named_one_is_back():
            await self._holder.drop(f"{self._sound.input} is back")

    def _why(self) -> str:
        if self._holder.why:
            return self._holder.why
        return WHY["zeros"] if self._cure.zeros_s > self._cure.zeros_s_first else ""

    def _busy(self) -> bool:
        return self._clock.monotonic() - self._loud_at < BUSY_SECONDS
