"""Every engine of the registry with the model it runs on, so that a new line in ENGINES is tested at once."""

from pathlib import Path
from typing import Any

import numpy as np

from agent.audio import wav
from agent.engines import ENGINES
from agent.ports import EngineSettings
from agent.values import AudioChunk, Message, Prompt
from agent.weights import catalog, verify

NAMES = sorted(ENGINES)

FRAMES_MAX = {"asr_vosk": 40}
"""Of the question, for an engine that is hardly faster than speech on a busy machine."""


def settings(engine: str, models: Path, **options: Any) -> EngineSettings:
    """Settings of an engine on the catalogue's first model for it; scripted ones need none."""
    able = [model for model in catalog.read().model if model.engine == engine]
    files = verify.paths(able[0], models) if able else {}
    return EngineSettings(engine, able[0].name if able else "script", files, 1, options)


def inputs(engine: str, question: Path) -> list[Any]:
    """Something each kind of engine can work on."""
    stage = engine.split("_", maxsplit=1)[0]
    if stage in ("asr", "vad"):
        return [AudioChunk(frame) for frame in wav.read(question)][: FRAMES_MAX.get(engine)]
    if stage == "eot":
        return [b"".join(wav.read(question))]
    if stage == "embed":
        return ["query: When is breakfast?", "passage: Breakfast is served from half past six."]
    if stage == "llm":
        return [Prompt((Message("system", "You are a robot."), Message("user", "Say hello.")), max_tokens=12)]
    return ["Breakfast is served from half past six.", "Enjoy your stay."]


def chunks(sound: np.ndarray) -> list[AudioChunk]:
    pcm = (np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes()
    return [AudioChunk(pcm[at : at + 1024].ljust(1024, b"\0")) for at in range(0, len(pcm), 1024)]
