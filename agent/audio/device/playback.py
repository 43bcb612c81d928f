"""The speaker: PortAudio's callback takes samples off the line, a driver on the event loop keeps the stream open and watches it."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import soxr

from agent.audio.device.frames import QUALITY
from agent.audio.device.holder import Holder, Say
from agent.audio.device.library import Library, Stream
from agent.audio.device.line import Line
from agent.audio.device.system import SoundSystem
from agent.audio.device.watch import ENDED, WHY, Cure, Verdict, Watch
from agent.audio.devices import Device
from agent.clock import Clock
from agent.ports import Sounding
from agent.profile import Sound
from agent.tasks import stopped
from agent.values import RATE_HZ, Speech

LINE_HZ = 48_000
"""What most devices play natively; another rate is resampled on the way out."""

TICK_SECONDS = 0.1
"""How often the stream is looked at."""

POLL_SECONDS = 0.01

REFERENCE_SECONDS = 2
"""Played sound that nobody has fetched; a microphone that is gone fetches none."""


class Reference(Protocol):
    """Learns what is played, so that it can be taken out of what is heard."""

    def played(self, pcm: bytes) -> None:
        """What goes out, silence included: s16le mono at RATE_HZ, of any length, without gaps while the device plays."""
        ...

    def disturbed(self) -> None:
        """The device has stalled: what comes back of it is later from now on."""
        ...


class DeviceSpeaker:
    """Implements the port Speaker. Speech waits while the device is being opened, and runs off unheard while it can't be."""

    def __init__(self, sound: Sound, system: SoundSystem, clock: Clock, say: Say, *, reference: Reference | None = None) -> None:
        self._sound = sound
        self._clock = clock
        self._say = say
        self._reference = reference
        self._line = Line(LINE_HZ, clock, sound.duck_db, self._run_off)
        self._cure = Cure()
        self._holder = Holder(("output", sound.output), system, clock, say, self._cure, busy=self._line.busy, gone=self._lose)
        self._watch = Watch(LINE_HZ, 0)
        blocks = REFERENCE_SECONDS * 1000 // sound.block_ms
        self._taken: deque[tuple[int, float]] = deque(maxlen=blocks)
        self._played: deque[bytes] = deque(maxlen=blocks)
        self._to_reference = soxr.ResampleStream(LINE_HZ, RATE_HZ, 1, dtype="int16", quality=QUALITY)
        self._rated: _Rated | None = None
        self._gone_since: float | None = None
        self._underruns = self._underruns_told = 0
        self._keeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Opens the device in the background, as `play` would, only earlier."""
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep())

    def play(self, speech: Speech) -> Sounding:
        self.start()
        return self._line.play(speech)

    def duck(self, *, on: bool) -> None:
        self._line.duck(on=on)

    def pause(self, *, on: bool) -> None:
        self._line.pause(on=on)

    def stop(self) -> None:
        self._line.stop()

    async def quiet(self) -> None:
        while self._line.busy():
            await self._clock.sleep(POLL_SECONDS)

    def hand_over(self) -> None:
        """Tells the reference what was played since the last call; whoever cleans what is heard calls it just before."""
        if self._underruns != self._underruns_told and self._reference is not None:
            self._reference.disturbed()
        self._underruns_told = self._underruns
        while self._played:
            pcm = self._played.popleft()
            if self._reference is not None:
                self._reference.played(self._to_reference.resample_chunk(np.frombuffer(pcm, "<i2")).tobytes())

    def health(self) -> dict[str, Any]:
        """`{device, speaking, why, underruns, gaps, reopened}`: `speaking` False names why nobody would hear it."""
        why = self._holder.why
        counts = {"underruns": self._underruns, "gaps": self._line.gaps, "reopened": self._holder.reopened}
        return {"device": self._holder.device, "speaking": not why, "why": why, **counts}

    async def aclose(self) -> None:
        try:
            if self._keeping is not None:
                await stopped(self._keeping)
        finally:
            self._lose()
            await self._holder.aclose()

    async def _keep(self) -> None:
        while True:
            stream = self._holder.stream or await self._open()
            await self._clock.sleep(TICK_SECONDS)
            if self._holder.stream is stream:
                await self._examine(stream)

    async def _open(self) -> Stream:
        self._taken.clear()  # of the stream before
        stream = await self._holder.open(self._opening)
        self._run_off()
        self._gone_since = None
        self._tune(stream)
        return stream

    def _opening(self, library: Library, device: Device) -> Stream:
        rates_hz = (LINE_HZ, device.rate_hz)
        return library.open_output(device, rates_hz, self._sound.block_ms, self._sound.latency_ms, self._wanted)

    def _tune(self, stream: Stream) -> None:
        self._watch = Watch(stream.rate_hz * self._cure.true_rate, self._clock.monotonic())

    def _wanted(self, samples: int, rate_hz: int, in_s: float, ran_dry: bool) -> bytes:
        now = self._clock.monotonic()
        self._underruns += ran_dry
        self._taken.append((samples, now))
        true_hz = rate_hz * self._cure.true_rate
        if true_hz == LINE_HZ:
            return self._next(samples, now + in_s)
        if self._rated is None or self._rated.rate_hz != true_hz:
            self._rated = _Rated(true_hz, self._next)
        return self._rated.take(samples, now + in_s)

    def _next(self, samples: int, at: float) -> bytes:
        pcm = self._line.fill(samples, at)
        self._played.append(pcm)
        return pcm

    async def _examine(self, stream: Stream) -> None:
        while self._taken:
            self._watch.got(*self._taken.popleft())
        now = self._clock.monotonic()
        verdict: Verdict = self._watch.verdict(now) if stream.running else "dead"
        rate = self._watch.rate(now)
        action = self._cure.after(verdict, rate, now)
        if action == "retune":
            self._say(f"speaker {self._holder.device}: its clock is off: {self._cure.true_rate:.0%} of {stream.rate_hz} Hz; resampled")
            self._tune(stream)
        elif action == "reopen":
            await self._holder.drop(WHY[verdict].format(rate=rate) if stream.running else ENDED)
        elif await self._holder.named_one_is_back():
            await self._holder.drop(f"{self._sound.output} is back")

    def _lose(self) -> None:
        """Nobody hears what is played from now on."""
        if self._gone_since is None:
            self._line.lost()
            self._gone_since = self._clock.monotonic()

    def _run_off(self) -> None:
        """Speech goes on in real time while the device is gone."""
        if self._gone_since is not None:
            samples = int((self._clock.monotonic() - self._gone_since) * LINE_HZ)
            self._gone_since += samples / LINE_HZ
            self._line.skip(samples)


class _Rated:
    """Between the line and a device of another rate."""

    def __init__(self, rate_hz: float, take: Callable[[int, float], bytes]) -> None:
        self.rate_hz = rate_hz
        self._take = take
        self._resampler = soxr.ResampleStream(LINE_HZ, rate_hz, 1, dtype="int16", quality=QUALITY)
        self._held = bytearray()

    def take(self, samples: int, at: float) -> bytes:
        while len(self._held) < samples * 2:
            at_there = at + len(self._held) / 2 / self.rate_hz
            pcm = self._take(max(1, round(samples * LINE_HZ / self.rate_hz)), at_there)
            self._held += self._resampler.resample_chunk(np.frombuffer(pcm, "<i2")).tobytes()
        taken = bytes(self._held[: samples * 2])
        del self._held[: samples * 2]
        return taken
