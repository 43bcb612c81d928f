"""Vosk, a recogniser that decodes while the sound arrives; the models are Kaldi's, one per language.

It has no token vocabulary. What counts as a token is a word, by the recogniser's own list of them.
"""

import ctypes
import json
from collections.abc import Generator, Iterator
from typing import Any

import vosk

from agent.engines.worker import Step
from agent.errors import EngineFailed
from agent.ports import EngineSettings
from agent.values import RATE_HZ, AudioChunk, StageUsage, Transcript

ANY_FILE = "am/final.mdl"
"""Of every model of today's layout; the library takes the folder two levels up."""

SEED = 1
"""Kaldi adds a little noise to what it hears, from the C library's generator: the same sound shall give the same words."""


class AsrVosk:
    """Worker of the stage `asr`. Segments end where the recogniser hears an end; a long silence is no segment. Its final words may
    differ from its last partial ones, as the end of the sound tells it more. It is one thread, whatever the settings say."""

    def __init__(self, settings: EngineSettings) -> None:
        vosk.SetLogLevel(-1)
        self._libc = ctypes.CDLL(None)
        if ANY_FILE not in settings.files:
            raise EngineFailed(f"model {settings.model} is no Vosk model", "name another model in the profile")
        self._model = vosk.Model(str(settings.files[ANY_FILE].parents[1]))

    def run(self, inputs: Iterator[AudioChunk]) -> Generator[Step[Transcript]]:
        """Chunk by chunk, so that a cancel waits for one at most."""
        yield None, StageUsage(output_tokens=0, audio_in_ms=0)
        self._libc.srand(SEED)
        recognizer = vosk.KaldiRecognizer(self._model, RATE_HZ)
        recognizer.SetWords(True)
        samples = words = heard_ms = 0
        for chunk in inputs:
            samples += len(chunk.pcm) // 2
            heard_ms = samples * 1000 // RATE_HZ
            if recognizer.AcceptWaveform(chunk.pcm):
                text, count = _final(recognizer.Result())
                words += count
                if count:
                    yield Transcript(text, until_ms=heard_ms), StageUsage(output_tokens=words, audio_in_ms=heard_ms)
            usage = StageUsage(output_tokens=words, audio_in_ms=heard_ms)
            if chunk.partial:
                so_far = json.loads(recognizer.PartialResult())["partial"]
                yield Transcript(so_far, final=False, until_ms=heard_ms), usage
            else:
                yield None, usage
        text, count = _final(recognizer.FinalResult())
        yield Transcript(text, until_ms=heard_ms), StageUsage(output_tokens=words + count, audio_in_ms=heard_ms)


def _final(result: str) -> tuple[str, int]:
    """Text and number of words of a segment."""
    held: dict[str, Any] = json.loads(result)
    return held["text"], len(held.get("result", []))
