"""Listens to a microphone without an end and tells what customers do: frames to the detector, pauses to the end-of-turn model.

No frame waits for a verdict. A detector that dies is opened again and hears first what it had not answered; while it can't be, sound
waits in the microphone, which keeps the newest.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

import numpy as np

from agent.audio.turn_end import Endpointer
from agent.clock import Clock
from agent.errors import EngineFailed
from agent.ports import Call, Eot, HeardFrame, Microphone, Vad
from agent.ports.sound import Began, Chunk, Ended, Lull, Resumed, SpeechEvent
from agent.profile import Hearing
from agent.values import FRAME_MS, AudioChunk

IN_FLIGHT_MAX = 16
"""Frames the detector may be behind, half a second; then the microphone waits."""

EVENTS_MAX = 512
"""Events nobody has taken, 16 s of speech; then listening waits."""

VERDICT_FRAMES = 8_000 // FRAME_MS
"""Newest sound of an utterance that the end-of-turn model sees."""

RETRY_SECONDS_FIRST, RETRY_SECONDS_MAX = 0.1, 5.0
"""Pause before the detector is opened again, doubling while it fails without having answered."""

GONE_SECONDS = 2.0
"""So long a microphone may be gone in the middle of an utterance; then that is over, for whoever speaks when it is back may be another."""

SILENCE_DBFS = -100.0

NO_PARTIALS, NO_VERDICTS = 1, 2
"""From which `sparing` on."""


class Listening:
    """One microphone's events. `events` may be iterated once."""

    def __init__(
        self,
        microphone: Microphone,
        vad: Vad,
        eot: Eot | None,
        hearing: Hearing,
        clock: Clock,
        *,
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`told` takes lines for the log."""
        self.level = SILENCE_DBFS
        """Of the last frame, dBFS."""
        self.lag_ms = 0
        """Age of the last frame when its turn came: what the customer waits for in vain."""
        self.failures = 0
        """Of either engine, so far."""
        self.frames = 0
        """Heard so far."""
        self.sparing = 0
        """What is left undone; see the port Listener."""
        self._microphone, self._vad, self._eot = microphone, vad, eot
        self._clock, self._told = clock, told
        self._endpointer = Endpointer(hearing)
        self._there_at = clock.monotonic()  # the microphone, when last looked at
        self._inbox: asyncio.Queue[HeardFrame | None] = asyncio.Queue()
        self._waiting: deque[HeardFrame] = deque()  # of these the detector has not yet said anything
        self._all_sent = False
        self._room = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._events: asyncio.Queue[SpeechEvent | None] = asyncio.Queue()
        self._taken = asyncio.Event()
        self._utterance: deque[bytes] = deque(maxlen=VERDICT_FRAMES)
        self._asking: asyncio.Task[None] | None = None  # of the end-of-turn model, about the lull there is
        self._verdicts: set[asyncio.Task[None]] = set()  # those under way; cancelled ones too

    async def events(self) -> AsyncGenerator[SpeechEvent]:
        """What happens, as it happens; ends only where the microphone's sound does. Raises what the microphone raises."""
        tasks = [asyncio.create_task(self._pump()), asyncio.create_task(self._listen())]
        try:
            while (event := await self._events.get()) is not None:
                self._taken.set()
                yield event
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in ended:
                task.result()
        finally:
            tasks += self._verdicts
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def speaking(self) -> bool:
        """A customer is in the middle of an utterance."""
        return self._endpointer.speaking

    @property
    def stirring(self) -> bool:
        """The same, or somebody seems to begin."""
        return self._endpointer.stirring

    @property
    def robot_speaks(self) -> bool:
        """The robot's own voice sounds: who interrupts must be louder and longer than who begins."""
        return self._endpointer.robot_speaks

    @robot_speaks.setter
    def robot_speaks(self, speaks: bool) -> None:
        self._endpointer.robot_speaks = speaks

    def hint(self, *, unfinished: bool, complete: bool = False, ends: float | None = None, until_ms: int | None = None) -> None:
        """Whether the transcript so far, of `until_ms` of this utterance's sound, ends in the middle of a sentence, is surely all, or with
        which probability it ends there."""
        self._emit(self._endpointer.hint(unfinished=unfinished, complete=complete, ends=ends, until_ms=until_ms))

    def press(self) -> None:
        """The key of push to talk goes down."""
        self._emit(self._endpointer.press(self._clock.monotonic()))

    def release(self) -> None:
        self._emit(self._endpointer.release())

    def look(self) -> None:
        """Ends what a customer does where the microphone has been gone for a while."""
        now = self._clock.monotonic()
        if self._microphone.health()["hearing"]:
            self._there_at = now
        elif now - self._there_at >= GONE_SECONDS:
            self._emit(self._endpointer.finish())

    async def _pump(self) -> None:
        """Takes frames from the microphone while the detector keeps up."""
        try:
            async with contextlib.aclosing(self._microphone.frames()) as frames:
                async for frame in frames:
                    await self._room.acquire()
                    self._inbox.put_nowait(frame)
        finally:
            self._inbox.put_nowait(None)

    async def _listen(self) -> None:
        """One call of the detector, and another whenever it dies."""
        pause, ended = RETRY_SECONDS_FIRST, False
        try:
            while not ended:
                heard = self.frames
                try:
                    ended = await self._one_call()
                except EngineFailed as error:
                    self._failed(error)
                    pause = RETRY_SECONDS_FIRST if self.frames > heard else min(pause * 2, RETRY_SECONDS_MAX)
                    await self._clock.sleep(pause)
            self._emit(self._endpointer.finish())
        finally:
            self._events.put_nowait(None)

    async def _one_call(self) -> bool:
        """True when all sound was heard. Raises EngineFailed when the detector dies before."""
        call, self._all_sent = self._vad.open(), False
        feeding = asyncio.create_task(self._feed(call))
        try:
            async for probability in call:
                self._room.release()
                self._heard(self._waiting.popleft(), probability)
                while self._events.qsize() >= EVENTS_MAX:
                    self._taken.clear()
                    await self._taken.wait()
            if not self._all_sent:
                raise EngineFailed(f"{self._vad.name} stopped listening", "it is being opened again")
            return True
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            await call.cancel()

    async def _feed(self, call: Call[AudioChunk, float]) -> None:
        for frame in list(self._waiting):  # what a call that died did not answer
            await call.send(AudioChunk(frame.pcm))
        while (new := await self._inbox.get()) is not None:
            self._waiting.append(new)
            await call.send(AudioChunk(new.pcm))
        self._inbox.put_nowait(None)  # the end is still the end if this call dies
        self._all_sent = True
        await call.finish()

    def _heard(self, frame: HeardFrame, probability: float) -> None:
        self.frames += 1
        self.level = dbfs(frame.pcm)
        self.lag_ms = round((self._clock.monotonic() - frame.at) * 1000)
        self._emit(self._endpointer.step(frame.pcm, probability if frame.guest else 0.0, frame.at, self.level))

    def _emit(self, events: list[SpeechEvent]) -> None:
        for event in events:
            match event:
                case Began(chunks):
                    self._utterance.clear()
                    self._utterance.extend(chunk.pcm for chunk in chunks)
                case Chunk(chunk):
                    self._utterance.append(chunk.pcm)
                    event = Chunk(replace(chunk, partial=False)) if self.sparing >= NO_PARTIALS else event  # noqa: PLW2901  the same sound
                case Lull(chunk):
                    self._utterance.append(chunk.pcm)
                    self._ask()
                case Resumed() | Ended():
                    self._unask()
            self._events.put_nowait(event)

    def _ask(self) -> None:
        if self._eot is not None and self.sparing < NO_VERDICTS:
            self._asking = asyncio.create_task(self._verdict(self._eot, b"".join(self._utterance)))
            self._verdicts.add(self._asking)
            self._asking.add_done_callback(self._verdicts.discard)

    def _unask(self) -> None:
        """What is answered from now on is about sound that is no longer the last. The task itself may be who says that it is over."""
        if self._asking is not None and self._asking is not asyncio.current_task():
            self._asking.cancel()
        self._asking = None

    async def _verdict(self, eot: Eot, pcm: bytes) -> None:
        call = eot.open()
        try:
            await call.send(pcm)
            await call.finish()
            async for probability in call:
                self._emit(self._endpointer.verdict(probability))
        except EngineFailed as error:
            self._failed(error)
        finally:
            await call.cancel()

    def _failed(self, error: EngineFailed) -> None:
        self.failures += 1
        self._told(str(error))


def dbfs(pcm: bytes) -> float:
    """Level of a piece of sound; a sine at full scale is at -3."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768)
    power = float(np.dot(samples, samples)) / len(samples) if len(samples) else 0.0
    return max(SILENCE_DBFS, 10 * float(np.log10(power))) if power > 0 else SILENCE_DBFS
