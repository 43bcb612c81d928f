"""Silero, a voice activity detector: the probability that a chunk of 32 ms is speech."""

import itertools
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import onnxruntime

from agent.engines.worker import Step, session_options
from agent.ports import EngineSettings
from agent.values import FRAME_SAMPLES, RATE_HZ, AudioChunk, StageUsage

CONTEXT_SAMPLES = 64
"""Samples of the chunk before that the model sees again."""

MEMORY = (2, 1, 128)
"""Shape of what the model remembers from chunk to chunk."""

NOTHING = StageUsage()
"""Listening is not metered."""


class VadSilero:
    """Worker behind the port Vad. Each call starts with a fresh memory.

    It runs 31 times a second all day: what goes in and out stays where it is, and the memory is read and written in turn.
    """

    def __init__(self, settings: EngineSettings) -> None:
        options = session_options(1)
        options.enable_mem_pattern = True  # all chunks are of one length
        self._session = onnxruntime.InferenceSession(str(settings.files["silero_vad.onnx"]), options)
        self._rate = placed(np.array(RATE_HZ, np.int64))

    def run(self, inputs: Iterator[AudioChunk]) -> Generator[Step[float]]:
        window = np.zeros((1, CONTEXT_SAMPLES + FRAME_SAMPLES), np.float32)
        held, probability = placed(window.copy()), placed(np.zeros((1, 1), np.float32))
        odd, even = placed(np.zeros(MEMORY, np.float32)), placed(np.zeros(MEMORY, np.float32))
        # A turn knows where these lie, and not every runtime keeps them for it: they live here, and the rate in the worker.
        turns = itertools.cycle([self._bound(held, odd, probability, even), self._bound(held, even, probability, odd)])
        for chunk, turn in zip(inputs, turns, strict=False):
            samples = np.frombuffer(chunk.pcm, "<i2")
            window[0, :CONTEXT_SAMPLES] = window[0, -CONTEXT_SAMPLES:]
            window[0, CONTEXT_SAMPLES:] = 0
            window[0, CONTEXT_SAMPLES : CONTEXT_SAMPLES + len(samples)] = samples / 32768
            held.update_inplace(window)
            self._session.run_with_iobinding(turn)
            yield float(probability.numpy()[0, 0]), NOTHING

    def _bound(self, held: Any, memory: Any, probability: Any, remembered: Any) -> Any:
        turn = self._session.io_binding()
        for name, value in {"input": held, "state": memory, "sr": self._rate}.items():
            turn.bind_ortvalue_input(name, value)
        for name, value in {"output": probability, "stateN": remembered}.items():
            turn.bind_ortvalue_output(name, value)
        return turn


def placed(value: Any) -> Any:
    """As the runtime takes it, without a copy: it reads and writes the array itself, which lives as long as what is returned here."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(value)
