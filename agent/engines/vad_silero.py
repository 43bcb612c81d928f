"""Silero, a voice activity detector: the probability that a chunk of 32 ms is speech."""

from collections.abc import Generator, Iterator

import numpy as np
import onnxruntime

from agent.engines.worker import Step, session_options
from agent.ports import EngineSettings
from agent.values import FRAME_SAMPLES, RATE_HZ, AudioChunk, StageUsage

CONTEXT_SAMPLES = 64
"""Samples of the chunk before that the model sees again."""

NOTHING = StageUsage()
"""Listening is not metered."""


class VadSilero:
    """Worker behind the port Vad. Each call starts with a fresh memory."""

    def __init__(self, settings: EngineSettings) -> None:
        self._session = onnxruntime.InferenceSession(str(settings.files["silero_vad.onnx"]), session_options(1))
        self._rate = np.array(RATE_HZ, np.int64)

    def run(self, inputs: Iterator[AudioChunk]) -> Generator[Step[float]]:
        state = np.zeros((2, 1, 128), np.float32)
        window = np.zeros((1, CONTEXT_SAMPLES + FRAME_SAMPLES), np.float32)
        for chunk in inputs:
            samples = np.frombuffer(chunk.pcm, "<i2")
            window[0, :CONTEXT_SAMPLES] = window[0, -CONTEXT_SAMPLES:]
            window[0, CONTEXT_SAMPLES:] = 0
            window[0, CONTEXT_SAMPLES : CONTEXT_SAMPLES + len(samples)] = samples / 32768
            probability, state = self._session.run(None, {"input": window, "state": state, "sr": self._rate})
            yield float(probability[0, 0]), NOTHING
