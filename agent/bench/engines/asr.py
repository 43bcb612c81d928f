"""The recogniser with work done while sound arrives, against one plain run of the same weights at the same thread count.

Both are fed a clip of 3 s in its own time, on a clock that counts the worker's own seconds and lets no chunk be taken before it was
spoken. Ours is asked for partial transcripts when live listening asks for them, but never on the last chunk: where a lull turns out to
have been the end, the words are there without any further run, and that is not counted here. The time is from the last chunk to the text.
"""

import statistics
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.audio import wav
from agent.audio.turn_end import Endpointer
from agent.bench.speech import errors
from agent.engines.asr_moonshine import AsrMoonshine
from agent.engines.vad_silero import VadSilero
from agent.errors import BadInput
from agent.ports import EngineSettings
from agent.ports.sound import Began, Chunk, Lull
from agent.profile import Hearing
from agent.shipped import shipped
from agent.sim.guests import GuestVoice
from agent.values import FRAME_MS, AudioChunk
from agent.weights import catalog, verify

CLIP_MS = 3_000
REACH = 0.7

QUESTIONS = (
    "Could you tell me at what time breakfast starts tomorrow?",
    "I would like to know the password of the wireless network.",
    "Is there a swimming pool in the hotel, and when does it open?",
    "Please order two coffees to room three hundred and twelve.",
    "How far is the train station from here, and is there a bus?",
)


def measure(models: Path, rounds: int) -> dict[str, Any]:
    """The figure with what it should reach. Each round takes all clips; ours and the plain run alternate."""
    engine, vad = AsrMoonshine(_settings("moonshine-tiny-en", models)), VadSilero(_settings("silero-vad", models))
    sentences = [(_listened(frames, vad), text) for frames, text in _sentences()]
    sounds = {"guest": [_listened(frames, vad) for frames in _questions()], "human": [chunks for chunks, _ in sentences]}
    clips = {kind: [chunks[: CLIP_MS // FRAME_MS] for chunks in held] for kind, held in sounds.items()}
    pairs = {kind: [pair for _ in range(rounds) for pair in _pairs(engine, held)] for kind, held in clips.items()}
    every = [pair for held in pairs.values() for pair in held]
    return {
        "ours_ms": round(statistics.median(ours for ours, _ in every), 1),
        "plain_ms": round(statistics.median(plain for _, plain in every), 1),
        "ratio": _ratio(every),
        "reach": REACH,
        "rounds": rounds,
        "clips": sum(map(len, clips.values())),
        "ratio_by_kind": {kind: _ratio(held) for kind, held in pairs.items()},
        "wer": _wer(engine, sentences),
    }


def _settings(model: str, models: Path) -> EngineSettings:
    known = catalog.read().find(model)
    return EngineSettings(known.engine, model, verify.paths(known, models), 1, {})


def _ratio(pairs: list[tuple[float, float]]) -> float:
    return round(statistics.median(ours / plain for ours, plain in pairs), 3)


def _pairs(engine: AsrMoonshine, clips: list[list[AudioChunk]]) -> list[tuple[float, float]]:
    return [(_wait_ms(engine, asked(clip))[0], _wait_ms(engine, plainly(clip))[0]) for clip in clips]


def asked(clip: list[AudioChunk]) -> list[AudioChunk]:
    """The clip with partial transcripts wanted as live listening wants them, but not on its last chunk."""
    return [*clip[:-1], replace(clip[-1], partial=False)]


def plainly(clip: list[AudioChunk]) -> list[AudioChunk]:
    """The clip without wishes."""
    return [replace(chunk, partial=False) for chunk in clip]


def _wait_ms(engine: AsrMoonshine, clip: list[AudioChunk]) -> tuple[float, str]:
    """Milliseconds from the end of the clip to its text, and the text."""
    clock = _Pace()
    texts = [out.text for out, _ in engine.run(clock.feed(clip)) if out is not None and out.final]
    return clock.after_the_end_ms(), " ".join(texts)


class _Pace:
    """Time as it would pass while the clip is spoken: the worker's own seconds count, and waiting for sound costs none here."""

    def __init__(self) -> None:
        self._now = self._spoken = 0.0
        self._given = time.perf_counter()

    def feed(self, clip: list[AudioChunk]) -> Iterator[AudioChunk]:
        for chunk in clip:
            self._now += time.perf_counter() - self._given
            self._spoken += FRAME_MS / 1000
            self._now = max(self._now, self._spoken)
            self._given = time.perf_counter()
            yield chunk

    def after_the_end_ms(self) -> float:
        return (self._now + time.perf_counter() - self._given - self._spoken) * 1000


def _wer(engine: AsrMoonshine, sentences: list[tuple[list[AudioChunk], str]]) -> dict[str, Any]:
    """Word error rates of whole sentences, with partial transcripts on the way and without."""
    ours = [_wait_ms(engine, asked(chunks))[1] for chunks, _ in sentences]
    plain = [_wait_ms(engine, plainly(chunks))[1] for chunks, _ in sentences]
    said = [text for _, text in sentences]
    same = sum(one == other for one, other in zip(ours, plain, strict=True))
    return {"ours": round(errors(said, ours), 4), "plain": round(errors(said, plain), 4), "same_text": same, "sentences": len(said)}


def _sentences() -> list[tuple[tuple[bytes, ...], str]]:
    """Frames and words of the human recordings that lie beside the tests."""
    corpus = shipped("tests/golden")
    if not (corpus / "speech.toml").is_file():
        raise BadInput(f"{corpus} holds no speech.toml", "run it in a checkout")
    sets = tomllib.loads((corpus / "speech.toml").read_text())["set"]
    clips = [clip for group in sets for clip in group["clip"] if not clip["wav"].startswith("recordings:")]
    return [(tuple(wav.read(corpus / clip["wav"])), clip["text"]) for clip in clips]


def _questions() -> list[tuple[bytes, ...]]:
    voice = GuestVoice()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "question.wav"
        sounds = []
        for question in QUESTIONS:
            wav.write(path, [voice.say(question)])
            sounds.append(tuple(wav.read(path)))
    return sounds


def _listened(frames: tuple[bytes, ...], vad: VadSilero) -> list[AudioChunk]:
    """The chunks that live listening would give the recogniser, as it would mark them."""
    chunks: list[AudioChunk] = []
    endpointer = Endpointer(Hearing())
    for frame, (probability, _) in zip(frames, vad.run(AudioChunk(frame) for frame in frames), strict=True):
        for event in endpointer.step(frame, probability or 0.0):
            match event:
                case Began(began):
                    chunks += began
                case Chunk(chunk) | Lull(chunk):
                    chunks.append(chunk)
    return chunks
