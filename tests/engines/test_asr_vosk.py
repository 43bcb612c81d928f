"""The real recogniser with its Korean model: that it streams and counts. What it hears in a machine's voice is not judged."""

from pathlib import Path

import pytest

from agent.audio import wav
from agent.engines.asr_vosk import AsrVosk
from agent.errors import EngineFailed
from agent.ports import EngineSettings
from agent.values import AudioChunk
from tests.engines.helpers import FRAMES_MAX, settings


@pytest.fixture(scope="module")
def engine(models: Path) -> AsrVosk:
    return AsrVosk(settings("asr_vosk", models))


def test_partial_transcripts_grow_and_words_are_counted_once_final(engine: AsrVosk, question: Path) -> None:
    frames = list(wav.read(question))[: FRAMES_MAX["asr_vosk"]]
    steps = list(engine.run(iter([AudioChunk(frame, partial=at % 13 == 12) for at, frame in enumerate(frames)])))
    outputs = [output for output, _ in steps if output is not None]
    assert [(one.final, one.until_ms) for one in outputs] == [(False, 416), (False, 832), (False, 1248), (True, 1280)]
    assert outputs[2].text
    assert steps[-2][1].output_tokens == 0
    assert steps[-1][1].output_tokens == len(outputs[-1].text.split()) > 0
    assert steps[-1][1].audio_in_ms == 1280


def test_unasked_it_gives_no_partial_and_silence_has_no_words(engine: AsrVosk) -> None:
    outputs = [(output, usage) for output, usage in engine.run(iter([AudioChunk(bytes(1024))] * 20)) if output is not None]
    ((transcript, usage),) = outputs
    assert (transcript.text, transcript.final) == ("", True)
    assert usage.output_tokens == 0


def test_a_model_of_another_kind_is_refused(models: Path) -> None:
    other = settings("asr_moonshine", models)
    with pytest.raises(EngineFailed, match="moonshine-tiny-en is no Vosk model; name another"):
        AsrVosk(EngineSettings("asr_vosk", other.model, other.files))
