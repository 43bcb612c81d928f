"""`bench turn`: the turn against the bare engine calls it is made of, and what else the robot's ears, mind and books promise.

Reference of the latency: the same engines called one after the other on the same sound at the same thread counts (recognise the
speech; reply up to the first clause; say that clause), added up. Pairs alternate within one run; the figure is the median ratio.
"""

import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent import processes
from agent import profile as profiles
from agent.app import App, opened
from agent.audio import wav
from agent.audio.ears import FrameEars
from agent.bench import speech
from agent.clock import SystemClock
from agent.dialog.wording.sentences import Sentences
from agent.engines.asr_moonshine import AsrMoonshine
from agent.engines.llm_onnx import LlmOnnx
from agent.errors import BadInput
from agent.fitting import opening_of
from agent.ports import EngineSettings
from agent.sim.guests import QUESTIONS, hotel_guests
from agent.values import AudioChunk, Message, Speech
from agent.weights import catalog, verify

MEMORY_TURNS = 20
SPEECH_SET = "speech.toml"


async def run(corpus: Path, rounds: int, profile: str, state: Path | None) -> dict[str, Any]:
    """All figures with what they should reach, as JSON values."""
    if not (corpus / SPEECH_SET).is_file():
        raise BadInput(f"{corpus} holds no {SPEECH_SET}", "run it in a checkout, or give --corpus tests/golden")
    models = catalog.models_folder()
    recordings = verify.paths(catalog.read().find("recordings"), models)
    with tempfile.TemporaryDirectory() as scratch:
        questions = [guest.wav for guest in hotel_guests(Path(scratch), recordings["beckett.wav"])][: len(QUESTIONS)]
        async with opened(profiles.load(profile), state or Path(scratch) / "state", models, SystemClock()) as app:
            held = await _memory(app, questions)
            told: dict[str, Any] = {"wer": await speech.measure(app, corpus, recordings)}
            bare = _Bare(app, models)
            told["agreement"] = _agreement(bare.llm, corpus)
            told["latency"], told["books"] = await _latency(app, bare, questions, rounds)
    return told | {"memory": held}


async def _memory(app: App, questions: list[Path]) -> dict[str, Any]:
    after: list[float] = []
    for turn in range(MEMORY_TURNS):
        await app.hear(wav.read(questions[turn % len(questions)]), _ignore, "bench")
        after.append(round(processes.pss_mb([processes.own(), *(engine.process_id for engine in app.engines.values())]), 1))
    parts = {part: round(processes.pss_mb([engine.process_id]), 1) for part, engine in app.engines.items()}
    last = after[-10:]
    return {"pss_mb": after[-1], "after_each_turn": after, "growth_over_last_10_mb": round(last[-1] - last[0], 1), "parts": parts}


def _agreement(llm: LlmOnnx, corpus: Path) -> dict[str, Any]:
    golden = json.loads((corpus / "smollm2_next_tokens.json").read_text())
    ours = llm.next_tokens(golden["ids"])
    runs = ("llama_cpp_q4_1", "transformers_fp32")
    same = {run: round(sum(a == b for a, b in zip(ours, golden[run], strict=True)) / len(ours), 4) for run in runs}
    return same | {"positions": len(ours), "reach": 0.94}


class _Bare:
    """The engines without a pipeline. Piper stays in its own process, where it lives anyway."""

    def __init__(self, app: App, models: Path) -> None:
        self._app = app
        known = catalog.read()
        profile = app.profile

        def settings(part: str) -> EngineSettings:
            chosen = getattr(profile, part)
            options = {"opening": [(message.role, message.text) for message in opening_of(profile)]} if part == "llm" else {}
            files = verify.paths(known.find(chosen.model), models)
            return EngineSettings(chosen.engine, chosen.model, files, chosen.threads, options)

        self.asr = AsrMoonshine(settings("asr"))
        self.llm = LlmOnnx(settings("llm"))

    async def seconds(self, chunks: list[AudioChunk]) -> list[float]:
        """Seconds for the transcript, for the first clause, and for its sound."""
        began = time.perf_counter()
        words = " ".join(out.text for out, _ in self.asr.run(iter(chunks)) if out)
        heard = time.perf_counter()
        clause = self._first_clause(words)
        thought = time.perf_counter()
        call = self._app.engines["tts"].open()
        await call.send(clause)
        await call.finish()
        async for _ in call:
            pass
        return [heard - began, thought - heard, time.perf_counter() - thought]

    def _first_clause(self, words: str) -> str:
        profile = self._app.profile
        messages = (*opening_of(profile), Message("user", words))
        sentences = Sentences()
        for delta, _ in self.llm.run(iter([replace(self._app.manner.prompt, messages=messages)])):
            for clause in sentences.add(str(delta or "")):
                return clause
        return " ".join(sentences.finish())


async def _latency(app: App, bare: _Bare, questions: list[Path], rounds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    chunks = {path: await _speech_of(app, path) for path in questions}
    ours: list[float] = []
    parts: list[list[float]] = []
    walls: list[float] = []
    before = app.books.seconds
    for round_ in range(-1, rounds):  # the first warms up
        path = questions[round_ % len(questions)]
        began = time.perf_counter()
        turn = await app.hear(wav.read(path), _ignore, "bench")
        walls.append(time.perf_counter() - began)
        parts.append(await bare.seconds(chunks[path]))
        ours.append(float(turn.speech_end_to_first_audio_ms or "nan"))
        if round_ < 0:
            ours, parts, walls, before = [], [], [], app.books.seconds
    theirs = [sum(part) * 1000 for part in parts]
    latency = {
        "ours_ms": round(statistics.median(ours), 1),
        "bare_ms": round(statistics.median(theirs), 1),
        "bare_parts_ms": [round(statistics.median(part[stage] * 1000 for part in parts), 1) for stage in range(3)],
        "ratio": round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3),
        "reach": 1.15,
        "rounds": rounds,
    }
    share = (app.books.seconds - before) / sum(walls)
    return latency, {"share_of_turn": round(share, 5), "reach": 0.01, "ms_per_turn": round((app.books.seconds - before) * 1000 / rounds, 2)}


async def _speech_of(app: App, path: Path) -> list[AudioChunk]:
    ears = FrameEars(wav.read(path), app.engines["vad"], app.profile.hearing, app.clock)
    return [chunk async for chunk in ears.speech()]


def _ignore(_: Speech) -> None:
    """A turn nobody listens to."""
