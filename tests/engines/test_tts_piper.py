"""The voice: what can't be spoken, how long text is cut, how sound comes in pieces. Piper itself runs in its own process."""

import asyncio
import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from agent.clock import SystemClock
from agent.engines.host import start
from agent.errors import EngineFailed
from agent.ports import EngineSettings
from agent.values import Speech
from tests.engines.helpers import settings
from tests.weights.voices import toy_voice

LONG = "Breakfast is served from half past six until ten in the restaurant, next to room 12."
COMPARED = [LONG, "Good morning. Enjoy it!", "Yes."]
SILENT = ["\0", "🙂🏨", "!?…", " ", "\u202e\u200b"]
ODD = ["مرحبا", "[[ not phonemes ]] hello", "[[[[x", "Room\0 12 🙂", "Ωμέγα 12\n\nnew line"]


def spoken(chosen: EngineSettings, *texts: str) -> list[list[Speech]]:
    """The pieces of each text, of one call each."""

    async def main() -> list[list[Speech]]:
        host: Any = await start(chosen, SystemClock())
        try:
            return [await call(host, text) for text in texts]
        finally:
            await host.aclose()

    async def call(host: Any, text: str) -> list[Speech]:
        call = host.open()
        await call.send(text)
        await call.finish()
        return [speech async for speech in call]

    return asyncio.run(main())


def sound(pieces: list[Speech]) -> np.ndarray:
    return np.frombuffer(b"".join(speech.pcm for speech in pieces), "<i2").astype(float)


def together(pieces: list[Speech]) -> str:
    return "".join(speech.text for speech in pieces)


@pytest.fixture(scope="module")
def said(models: Path) -> dict[str, list[Speech]]:
    """Every text the tests look at, spoken by one child."""
    texts = [*COMPARED, *SILENT, *ODD]
    return dict(zip(texts, spoken(settings("tts_piper", models), *texts), strict=True))


def test_a_text_comes_in_pieces_that_are_the_whole_text_and_the_whole_sound(said: dict[str, list[Speech]], models: Path) -> None:
    whole = spoken(settings("tts_piper", models, whole=True), *COMPARED)
    for text, (one,) in zip(COMPARED, whole, strict=True):
        pieces = said[text]
        assert together(pieces) == one.text
        unbroken = sound([one])
        assert len(sound(pieces)) == len(unbroken)
        seams = np.square(sound(pieces) - unbroken).sum()
        assert seams <= 1e-6 * np.square(unbroken).sum()  # -60 dB
    assert len(said[LONG]) > 4
    assert len(said[LONG][0].pcm) < 0.1 * len(whole[0][0].pcm)
    assert len(whole[2][0].pcm) > 2 * whole[2][0].rate_hz * 0.3


def test_marks_tell_what_was_said(said: dict[str, list[Speech]]) -> None:
    pieces = said[LONG]
    for speech in pieces:
        assert all(0 < samples <= len(speech.pcm) // 2 and 0 < characters <= len(speech.text) for samples, characters in speech.marks)
        assert all(one[0] < other[0] and one[1] < other[1] for one, other in itertools.pairwise(speech.marks))
        assert {speech.text[characters - 1] for _, characters in speech.marks} <= {" ", "."}
    assert sum(len(speech.marks) for speech in pieces) >= 0.8 * len(LONG.split())
    assert pieces[0].said(100) == 0
    assert pieces[0].text[: pieces[0].said(len(pieces[0].pcm) // 2 - 1)] in ("", "Breakfast ")


def test_an_answer_begins_with_sound_and_not_with_silence(said: dict[str, list[Speech]]) -> None:
    first = said[LONG][0]
    assert np.abs(sound([first])[: first.rate_hz * 40 // 1000]).max() > 300


def test_pace_is_an_option(said: dict[str, list[Speech]], models: Path) -> None:
    (slow,) = spoken(settings("tts_piper", models, length_scale=1.5), LONG)
    assert len(sound(slow)) > 1.3 * len(sound(said[LONG]))


@pytest.mark.parametrize(
    ("options", "says"),
    [({"speaker": 1}, "speaker is 1; this voice has 1"), ({"length_scale": 9}, "length_scale is 9"), ({"length_scale": "x"}, "'x'")],
    ids=["no such speaker", "too slow", "no number"],
)
def test_what_the_voice_cannot_do_is_said_at_the_start(models: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(EngineFailed, match=says):
        spoken(settings("tts_piper", models, **options), "")


def test_a_cut_that_does_not_fit_is_not_used(models: Path, tmp_path: Path) -> None:
    chosen = settings("tts_piper", models)
    told = json.loads(chosen.files["split.json"].read_text()) | {"hop": 128}
    (tmp_path / "split.json").write_text(json.dumps(told))
    ((one,),) = spoken(replace(chosen, files={**chosen.files, "split.json": tmp_path / "split.json"}), LONG)
    assert one.text == LONG
    assert len(one.pcm) > 2 * 4 * one.rate_hz


def test_a_voice_that_could_not_be_cut_speaks_by_whole_sentences(models: Path, tmp_path: Path) -> None:
    onnx.save(toy_voice(without="Ceil"), tmp_path / "encoder.onnx")
    (tmp_path / "split.json").write_text('{"cut": false}')
    chosen = settings("tts_piper", models)
    files = {name: tmp_path / name for name in ("encoder.onnx", "split.json")}
    ((one,),) = spoken(replace(chosen, files={**chosen.files, **files}), LONG)
    assert one.text == LONG
    assert len(one.pcm) > 0


BREAKS = """
import json, sys
from pathlib import Path
from agent.engines.tts_piper import TtsPiper
from agent.ports import EngineSettings

class Breaks(TtsPiper):
    def _streamed(self, vits, text):
        yield next(super()._streamed(vits, text))
        raise MemoryError("no room for the next piece")

folder = Path(sys.argv[1])
voice = Breaks(EngineSettings("tts_piper", "joe", {path.name: path for path in folder.iterdir()}))
print(json.dumps([(speech.text, len(speech.pcm), usage.characters) for speech, usage in voice.run(iter([sys.argv[2]]))]))
"""


def test_a_sentence_whose_pieces_fail_is_spoken_to_its_end_in_one(models: Path) -> None:
    words = [sys.executable, "-c", BREAKS, str(models / settings("tts_piper", models).model), LONG]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    (first, first_bytes, _), (rest, rest_bytes, characters) = json.loads(done.stdout)
    assert (first + rest, characters) == (LONG, len(LONG))
    assert rest_bytes > 5 * first_bytes
    assert "MemoryError: spoken whole" in done.stderr


@pytest.mark.parametrize("text", SILENT)
def test_what_has_no_sound_is_silent_and_accounted_for(said: dict[str, list[Speech]], text: str) -> None:
    assert [(speech.pcm, speech.text) for speech in said[text]] == [(b"", text)]


@pytest.mark.parametrize("text", ODD)
def test_odd_text_is_spoken_as_far_as_it_can_be(said: dict[str, list[Speech]], text: str) -> None:
    assert len(sound(said[text])) > 0
    assert together(said[text]) == text


def test_100_000_characters_come_in_bounded_pieces_and_can_be_stopped(models: Path) -> None:
    text = "word " * 20_000

    async def main() -> None:
        host: Any = await start(settings("tts_piper", models), SystemClock())
        try:
            call = host.open()
            await call.send(text)
            await call.finish()
            pieces = []
            async for speech in call:
                pieces.append(speech.text)
                if len(pieces) == 3:
                    break
            await call.cancel()
            assert all(len(piece) <= 240 for piece in pieces)
            assert text.startswith("".join(pieces))
            assert call.usage.characters < 5_000
        finally:
            await host.aclose()

    asyncio.run(main())


def test_a_cancel_inside_a_sentence_stops_it_and_what_was_made_is_counted(models: Path) -> None:
    async def main() -> None:
        host: Any = await start(settings("tts_piper", models), SystemClock())
        try:
            call = host.open()
            await call.send(LONG.replace(".", ",") + LONG.lower())
            await call.finish()
            first = await anext(aiter(call))
            await call.cancel()
            assert len(first.text) <= call.usage.characters < 1.5 * len(LONG)
            assert len(first.pcm) // 2 * 1000 // first.rate_hz <= call.usage.audio_out_ms < 8_000
        finally:
            await host.aclose()

    asyncio.run(main())
