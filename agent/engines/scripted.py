"""Engines that follow a script instead of a model: for tests, simulations, and a laptop without weights."""

import zlib
from collections.abc import Generator, Iterator

import numpy as np

from agent.engines.worker import Step
from agent.errors import EngineFailed
from agent.ports import EngineSettings
from agent.values import FRAME_MS, AudioChunk, Prompt, Speech, StageUsage, Transcript

EMBED_NUMBERS = 64
"""Of a scripted vector; words of one text seldom fall together."""

LOUD = 300
"""Mean size of a sample, of 32768, from which the scripted detector calls sound speech."""

VOICE_HZ = 16_000
MS_PER_CHARACTER = 60
"""An unhurried voice."""


def words(text: str) -> int:
    """Tokens of a scripted engine are words: anyone can count them by hand."""
    return len(text.split())


class AsrScripted:
    """Gives the transcripts of option `transcripts`, one per call and round again, whatever it hears.

    A partial one has a word for each `ms_per_word` of sound; all of them where that is 0, as it is without the option.
    A transcript of the form `fail: …` fails with that message.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._lines = list(settings.options.get("transcripts", ["what time is breakfast"]))
        self._ms_per_word = int(settings.options.get("ms_per_word", 0))
        self._calls = 0

    def run(self, inputs: Iterator[AudioChunk]) -> Generator[Step[Transcript]]:
        yield None, StageUsage(output_tokens=0, audio_in_ms=0)
        heard_ms = 0
        text = self._lines[self._calls % len(self._lines)]
        self._calls += 1
        for chunk in inputs:
            heard_ms += FRAME_MS
            if text.startswith("fail: "):
                raise EngineFailed(text.removeprefix("fail: "))
            if chunk.partial:
                so_far = " ".join(text.split()[: heard_ms // self._ms_per_word]) if self._ms_per_word else text
                yield Transcript(so_far, final=False, until_ms=heard_ms), StageUsage(output_tokens=0, audio_in_ms=heard_ms)
        text = text if heard_ms else ""
        yield Transcript(text), StageUsage(output_tokens=words(text), audio_in_ms=heard_ms)


class LlmScripted:
    """Answers with the replies of option `replies`, one per call and round again, a word a step.

    A reply of the form `fail: …` fails with that message. Option `grows_mb` makes it keep
    so much memory more after each of its first three prompts.
    """

    def __init__(self, settings: EngineSettings) -> None:
        self._lines = list(settings.options.get("replies", ["Breakfast is served from half past six."]))
        self._grows = int(settings.options.get("grows_mb", 0)) * 1_000_000
        self._kept: list[bytes] = []
        self._calls = 0

    def run(self, inputs: Iterator[Prompt]) -> Generator[Step[str]]:
        for prompt in inputs:
            said = sum(words(message.text) for message in prompt.messages)
            reply = self._lines[self._calls % len(self._lines)]
            self._calls += 1
            if len(self._kept) < 3:
                self._kept.append(b"\1" * self._grows)
            yield None, StageUsage(input_tokens=said, cached_tokens=0, output_tokens=0)
            if reply.startswith("fail: "):
                raise EngineFailed(reply.removeprefix("fail: "))
            for made, word in enumerate(reply.split()[: prompt.max_tokens], 1):
                delta = word if made == 1 else f" {word}"
                yield delta, StageUsage(input_tokens=said, cached_tokens=0, output_tokens=made)


class TtsScripted:
    """Hums: a tone as long as the text would take."""

    def __init__(self, settings: EngineSettings) -> None:
        self._ms_per_character = int(settings.options.get("ms_per_character", MS_PER_CHARACTER))

    def run(self, inputs: Iterator[str]) -> Generator[Step[Speech]]:
        characters = 0
        for text in inputs:
            characters += len(text)
            samples = len(text) * self._ms_per_character * VOICE_HZ // 1000
            tone = (np.sin(np.arange(samples) * (2 * np.pi * 220 / VOICE_HZ)) * 8000).astype("<i2")
            usage = StageUsage(characters=characters, audio_out_ms=characters * self._ms_per_character)
            yield Speech(tone.tobytes(), VOICE_HZ, text), usage


class VadScripted:
    """Calls loud chunks speech."""

    def __init__(self, settings: EngineSettings) -> None:
        self._loud = int(settings.options.get("loud", LOUD))

    def run(self, inputs: Iterator[AudioChunk]) -> Generator[Step[float]]:
        for chunk in inputs:
            samples = np.frombuffer(chunk.pcm, "<i2").astype(np.float32)
            yield float(len(samples) > 0 and float(np.abs(samples).mean()) >= self._loud), StageUsage()


class EotScripted:
    """Answers with the numbers of option `probabilities`, one per question and round again."""

    def __init__(self, settings: EngineSettings) -> None:
        self._numbers = list(settings.options.get("probabilities", [1.0]))
        self._asked = 0

    def run(self, inputs: Iterator[bytes]) -> Generator[Step[float]]:
        for _ in inputs:
            self._asked += 1
            yield float(self._numbers[(self._asked - 1) % len(self._numbers)]), StageUsage()


class EmbedScripted:
    """Texts are as near as they share words: each adds one to a place that its checksum names."""

    def __init__(self, settings: EngineSettings) -> None:
        self._numbers = int(settings.options.get("numbers", EMBED_NUMBERS))

    def run(self, inputs: Iterator[str]) -> Generator[Step[bytes]]:
        for text in inputs:
            vector = np.zeros(self._numbers, np.float32)
            for word in text.partition(": ")[2].casefold().split():
                vector[zlib.crc32(word.strip(".,?!").encode()) % self._numbers] += 1
            yield (vector / max(float(np.linalg.norm(vector)), 1e-9)).astype("<f4").tobytes(), StageUsage()
