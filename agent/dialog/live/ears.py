"""The ears of one utterance in a live conversation: fed by whoever listens, read by the exchange."""

import asyncio
from collections.abc import AsyncGenerator

from agent.values import AudioChunk

CHUNKS_MAX = 4_096
"""Two minutes that nobody takes: far above any utterance, and its recogniser is long dead."""


class LiveEars:
    """Implements the port Ears."""

    def __init__(self) -> None:
        self._chunks: asyncio.Queue[AudioChunk | None] = asyncio.Queue(CHUNKS_MAX)
        self.ended_at: float | None = None
        self.lulled = False

    def feed(self, chunk: AudioChunk) -> None:
        """Takes the next chunk."""
        if not self._chunks.full():
            self._chunks.put_nowait(chunk)

    def end(self, at: float) -> None:
        """The utterance is over; `at` it fell silent."""
        if self.ended_at is None:
            self.ended_at = at
            if self._chunks.full():
                self._chunks.get_nowait()
            self._chunks.put_nowait(None)

    async def speech(self) -> AsyncGenerator[AudioChunk]:
        while (chunk := await self._chunks.get()) is not None:
            yield chunk
