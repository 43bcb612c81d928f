"""The real recogniser with its Korean model: that it streams and counts. What it hears in a machine's voice is not judged.

In a process of its own, as on a robot: its library is Kaldi's, and what it does to memory is not for this process to bear.
"""

import asyncio
from pathlib import Path

import pytest

from agent.audio import wav
from agent.clock import SystemClock
from agent.engines.host import start
from agent.errors import EngineFailed
from agent.ports import EngineSettings
from agent.values import AudioChunk, StageUsage, Transcript
from tests.engines.helpers import FRAMES_MAX, settings


def heard(given: EngineSettings, chunks: list[AudioChunk]) -> tuple[list[Transcript], StageUsage]:
    async def hear() -> tuple[list[Transcript], StageUsage]:
        host = await start(given, SystemClock())
        try:
            call = host.open()
            for chunk in chunks:
                await call.send(chunk)
            await call.finish()
            return [output async for output in call], call.usage
        finally:
            await host.aclose()

    return asyncio.run(hear())


def test_partial_transcripts_grow_and_words_are_counted_once_final(models: Path, question: Path) -> None:
    frames = list(wav.read(question))[: FRAMES_MAX["asr_vosk"]]
    chunks = [AudioChunk(frame, partial=at % 13 == 12) for at, frame in enumerate(frames)]
    outputs, usage = heard(settings("asr_vosk", models), chunks)
    assert [(one.final, one.until_ms) for one in outputs] == [(False, 416), (False, 832), (False, 1248), (True, 1280)]
    assert outputs[2].text
    assert usage.output_tokens == len(outputs[-1].text.split()) > 0
    assert usage.audio_in_ms == 1280


def test_unasked_it_gives_no_partial_and_silence_has_no_words(models: Path) -> None:
    (transcript,), usage = heard(settings("asr_vosk", models), [AudioChunk(bytes(1024))] * 20)
    assert (transcript.text, transcript.final) == ("", True)
    assert usage.output_tokens == 0


def test_a_model_of_another_kind_is_refused(models: Path) -> None:
    other = settings("asr_moonshine", models)
    with pytest.raises(EngineFailed, match="moonshine-tiny-en is no Vosk model"):
        heard(EngineSettings("asr_vosk", other.model, other.files), [])
