"""Decides what of a stream of sound is speech, from the probabilities a voice activity model gives: pure, chunk in, chunks out.

    silent --enough loud chunks in a row--> speaking --pause_ms of quiet--> silent

What came shortly before the speech was noticed belongs to it, and so does the quiet that ends it.
"""

from collections import deque

from agent.profile import Hearing
from agent.values import FRAME_MS, AudioChunk


class Listener:
    """Passes on the chunks that belong to speech, marking the last before each pause."""

    def __init__(self, hearing: Hearing) -> None:
        self._hearing = hearing
        self._before: deque[bytes] = deque(maxlen=max(1, hearing.before_ms // FRAME_MS))
        self._loud = 0
        self._quiet = 0
        self.speaking = False

    def step(self, pcm: bytes, probability: float) -> list[AudioChunk]:
        """The chunks to recognise now, in order; none while there is silence."""
        return self._while_speaking(pcm, probability) if self.speaking else self._while_silent(pcm, probability)

    def _while_silent(self, pcm: bytes, probability: float) -> list[AudioChunk]:
        self._before.append(pcm)
        self._loud = self._loud + 1 if probability >= self._hearing.speech_above else 0
        if self._loud * FRAME_MS < self._hearing.speech_ms_min:
            return []
        self.speaking, self._loud, self._quiet = True, 0, 0
        noticed = [AudioChunk(held) for held in self._before]
        self._before.clear()
        return noticed

    def _while_speaking(self, pcm: bytes, probability: float) -> list[AudioChunk]:
        self._quiet = self._quiet + 1 if probability < self._hearing.silence_below else 0
        paused = self._quiet * FRAME_MS >= self._hearing.pause_ms
        self.speaking = not paused
        return [AudioChunk(pcm, pause=paused)]
