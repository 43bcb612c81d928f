"""The speaker: PortAudio's callback takes samples off the line, a driver on the event loop keeps the stream open and watches it.

    running --silent for rest_s--> resting --something is played, somebody stirs--> running
                                   resting --PROBE_SECONDS--> running, until it is seen to live --> resting

A sound server wants a block every 10 ms, and most of a robot's life is silence. Waking takes milliseconds, as long as a block that runs
waits for its turn, and what is played first is heard sooner, for nothing is buffered before it. A device that goes while it rests is
noticed at the next probe. The reference has a block when it is handed out, and silence as far as that while there is none.
"""

import asyncio
import contextlib
from collections import deque
from typing import Any, Protocol

from agent.audio.device.holder import Holder, Say
from agent.audio.device.library import Library, Stream
from agent.audio.device.line import Line, silent
from agent.audio.device.rates import DOWN, LINE_HZ, Down, Rated
from agent.audio.device.system import SoundSystem
from agent.audio.device.watch import ENDED, WHY, Cure, Verdict, Watch
from agent.audio.devices import Device
from agent.clock import Clock
from agent.errors import plainly
from agent.ports import Sounding
from agent.profile import Sound
from agent.tasks import kept, stopped
from agent.values import RATE_HZ, Speech

TICK_SECONDS = 0.1
"""How often the stream is looked at."""

LOOK_SECONDS = 1.0
"""And while it rests: whether it is still the one to be kept."""

PROBE_SECONDS, PROBED_SECONDS = 10.0, 0.25
"""A stream that rests is tried so often, for so long once it runs."""

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
        self._taken = (0, 0.0)  # samples since the stream was opened, and when the last of them were
        self._judged = 0  # of them
        self._played: deque[bytes] = deque(maxlen=blocks)
        self._to_reference = Down()
        self._rated: Rated | None = None
        self._gone_since: float | None = None
        self._resting = False
        self._waking = False  # it goes on, and has not taken anything yet
        self._handed_to = 0.0  # when what was handed out ends, were it to sound at once; the reference knows of all before
        self._rest_at = self._probe_at = 0.0
        self._retiring = False  # what the stream still takes is not heard, for it is about to rest
        self._stirred = asyncio.Event()
        self._underruns = self._underruns_told = 0
        self._keeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Opens the device in the background, as `play` would, only earlier."""
        if self._keeping is None:
            self._keeping = asyncio.create_task(kept(self._keep, self._clock, lambda _: None))

    def play(self, speech: Speech) -> Sounding:
        self.start()
        sounding = self._line.play(speech)
        self.stir()
        return sounding

    def stir(self) -> None:
        """Something may have to be played soon: a stream that rests goes on."""
        self._rest_at = self._clock.monotonic() + self._sound.rest_s
        self._stirred.set()

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
        self._silence_until(self._clock.monotonic())
        played = [self._played.popleft() for _ in range(len(self._played))]
        if self._reference is not None and played:
            self._reference.played(b"".join(map(self._to_reference.take, played)))

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
        try:
            while True:
                await self._look_after(self._holder.stream or await self._open())
        except Exception as error:
            await self._holder.drop(plainly(error))  # speech runs off meanwhile
            raise

    async def _look_after(self, stream: Stream) -> None:
        if self._resting:
            await self._stir_or_look()
        else:
            await self._clock.sleep(TICK_SECONDS)
        still_there = self._holder.stream is stream
        if still_there and not self._resting:
            await self._examine(stream)
            await self._rest_if_idle(stream)
        elif still_there and (self._stirred.is_set() or self._clock.monotonic() >= self._probe_at):
            await self._wake(stream)

    async def _stir_or_look(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._stirred.wait()

    async def _rest_if_idle(self, stream: Stream) -> None:
        now = self._clock.monotonic()
        if self._line.busy():
            self._rest_at = now + self._sound.rest_s
        elif self._sound.rest_s and now >= self._rest_at and self._holder.stream is stream and self._watch.verdict(now) == "fine":
            self._stirred.clear()
            self._probe_at = now + PROBE_SECONDS
            await self._holder.rest(self._retires)
            self._resting, self._retiring = self._retiring, False

    def _retires(self) -> bool:
        """Asked when nothing is left to be waited for: unless somebody has stirred meanwhile."""
        self._retiring = not self._stirred.is_set()
        return self._retiring

    async def _wake(self, stream: Stream) -> None:
        """For good, or to see whether it lives."""
        self._rest_at = max(self._rest_at, self._clock.monotonic() + PROBED_SECONDS)
        self._silence_until(self._clock.monotonic())
        self._taken, self._judged = (0, 0.0), 0
        self._resting, self._waking = False, True
        self._tune(stream)
        await self._holder.wake()

    def _silence_until(self, now: float) -> None:
        """Tells the reference of what did not have to be played."""
        if self._resting:
            samples = max(0, int((now - self._handed_to) * RATE_HZ))
            self._handed_to += samples / RATE_HZ
            if self._reference is not None:
                self._reference.played(bytes(samples * 2))

    async def _open(self) -> Stream:
        self._taken, self._judged = (0, 0.0), 0  # of the stream before
        self._resting = self._waking = self._retiring = False
        stream = await self._holder.open(self._opening)
        self._run_off()
        self._gone_since = None
        self._rest_at = self._clock.monotonic() + self._sound.rest_s
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
        self._taken = (self._taken[0] + samples, now)
        if self._waking:
            self._played.append(silent(max(0, int((now - self._handed_to) * RATE_HZ)) * DOWN))
        self._waking, self._handed_to = False, now + samples / rate_hz
        true_hz = rate_hz * self._cure.true_rate
        if true_hz == LINE_HZ:
            return self._next(samples, now + in_s)
        if self._rated is None or self._rated.rate_hz != true_hz:
            self._rated = Rated(true_hz, self._next)
        return self._rated.take(samples, now + in_s)

    def _next(self, samples: int, at: float) -> bytes:
        pcm = silent(samples) if self._retiring else self._line.fill(samples, at)
        self._played.append(pcm)
        return pcm

    async def _examine(self, stream: Stream) -> None:
        now = self._clock.monotonic()
        taken, at = self._taken
        if taken > self._judged:
            self._watch.got(taken - self._judged, at)
            self._judged = taken
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
