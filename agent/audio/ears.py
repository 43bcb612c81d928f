"""Feeds sound to the voice activity model and gives on what is speech, while more sound arrives."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Iterable

from agent.audio.endpoint import Listener
from agent.clock import Clock
from agent.ports import Vad
from agent.profile import Hearing
from agent.values import AudioChunk

IN_FLIGHT_MAX = 16
"""Frames the model may be behind, half a second; a file waits here instead of piling up."""


class FrameEars:
    """One utterance out of ready frames: a file, a test. Implements the port Ears."""

    def __init__(self, frames: Iterable[bytes], vad: Vad, hearing: Hearing, clock: Clock) -> None:
        self._frames = frames
        self._vad = vad.open()
        self._listener = Listener(hearing)
        self._clock = clock
        self._waiting: deque[bytes] = deque()  # sent to the model, its answer not yet here
        self._room = asyncio.Semaphore(IN_FLIGHT_MAX)
        self.ended_at: float | None = None
        self.lulled = False  # a file is fed faster than anybody could answer

    async def speech(self) -> AsyncGenerator[AudioChunk]:
        feeding = asyncio.create_task(self._feed())
        try:
            async for probability in self._vad:
                self._room.release()
                for chunk in self._listener.step(self._waiting.popleft(), probability):
                    yield chunk
            await feeding  # raises what reading the file raised
        finally:
            feeding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await feeding
            await self._vad.cancel()

    async def _feed(self) -> None:
        try:
            for frame in self._frames:
                await self._room.acquire()
                self._waiting.append(frame)
                await self._vad.send(AudioChunk(frame))
        finally:
            self.ended_at = self._clock.monotonic()
            await self._vad.finish()
