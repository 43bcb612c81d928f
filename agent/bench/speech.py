"""Word error rates of the robot's ears on human speech: the whole way from WAV through voice activity to transcript."""

import itertools
import re
import tomllib
from pathlib import Path
from typing import Any

import jiwer

from agent.app import App
from agent.audio import wav
from agent.audio.ears import FrameEars
from agent.ports import Asr

SPELLED = {"mr": "mister", "mrs": "missus", "dr": "doctor", "1775": "seventeen seventy five"}
"""What is one word on paper and another in the ear."""


def normal(text: str) -> str:
    """Lower case without marks; compounds apart; written-out titles and numbers."""
    words = re.sub(r"[^a-z0-9' ]+", " ", text.lower().replace("-", " ").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")).split()
    return " ".join(SPELLED.get(word, word) for word in words)


def errors(said: list[str], heard: list[str]) -> float:
    """Word error rate over all clips together; a compound written as one word or as two is not an error."""
    pairs = [_joined(normal(one), normal(other)) for one, other in zip(said, heard, strict=True)]
    return float(jiwer.wer([pair[0] for pair in pairs], [pair[1] for pair in pairs]))


def _joined(said: str, heard: str) -> tuple[str, str]:
    """Writes a compound of two words together on both sides where either side does."""
    for one, other in ((said, heard), (heard, said)):
        words = one.split()
        for first, second in itertools.pairwise(words):
            if f" {first}{second} " in f" {other} ":
                said = said.replace(f"{first} {second}", f"{first}{second}")
                heard = heard.replace(f"{first} {second}", f"{first}{second}")
    return said, heard


async def measure(app: App, corpus: Path, recordings: dict[str, Path]) -> dict[str, Any]:
    """Per set of the corpus: the rate, the limit, and what was heard."""
    told: dict[str, Any] = {}
    for group in tomllib.loads((corpus / "speech.toml").read_text())["set"]:
        heard = [await _transcript(app, _path(clip["wav"], corpus, recordings)) for clip in group["clip"]]
        rate = errors([clip["text"] for clip in group["clip"]], heard)
        told[group["name"]] = {"wer": round(rate, 4), "reach": group["words_wrong_max"], "heard": heard}
    return told


def _path(name: str, corpus: Path, recordings: dict[str, Path]) -> Path:
    return recordings[name.removeprefix("recordings:")] if name.startswith("recordings:") else corpus / name


async def _transcript(app: App, path: Path) -> str:
    asr: Asr = app.engines["asr"]
    call = asr.open()
    async for chunk in FrameEars(wav.read(path), app.engines["vad"], app.profile.hearing, app.clock).speech():
        await call.send(chunk)
    await call.finish()
    return " ".join([transcript.text async for transcript in call])
