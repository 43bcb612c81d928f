"""Piper, the robot's voice. GPL-3.0: this file is the only one that imports it, and it runs in a process of its own."""

import json
import unicodedata
from collections.abc import Generator, Iterator

import onnxruntime
from piper import PiperVoice
from piper.config import PiperConfig

from agent.engines.worker import Step, session_options
from agent.ports import EngineSettings
from agent.values import Speech, StageUsage

PIECE_CHARACTERS_MAX = 240
"""Text synthesised in one run: bounds memory and the wait for a cancel; longer text is cut at a space."""

UNSPEAKABLE = ("C", "So", "Sk")
"""Unicode categories left out: controls, bidirectional marks and surrogates, emoji, modifiers."""


class TtsPiper:
    """Worker of the stage `tts`: text in, one piece of sound for each piece of text out."""

    def __init__(self, settings: EngineSettings) -> None:
        model, config = settings.files["voice.onnx"], settings.files["voice.onnx.json"]
        session = onnxruntime.InferenceSession(str(model), session_options(settings.threads))
        self._voice = PiperVoice(session=session, config=PiperConfig.from_dict(json.loads(config.read_text())))
        self._rate_hz = int(self._voice.config.sample_rate)
        self._speak("Ready.")  # the first run allocates; no customer should wait for it

    def run(self, inputs: Iterator[str]) -> Generator[Step[Speech]]:
        characters = samples = 0
        for text in inputs:
            for piece in pieces(text):
                pcm = self._speak(piece)
                characters += len(piece)
                samples += len(pcm) // 2
                usage = StageUsage(characters=characters, audio_out_ms=samples * 1000 // self._rate_hz)
                yield Speech(pcm, self._rate_hz, piece), usage

    def _speak(self, text: str) -> bytes:
        said = speakable(text)
        if not any(character.isalnum() for character in said):
            return b""
        return b"".join(chunk.audio_int16_bytes for chunk in self._voice.synthesize(said))


def speakable(text: str) -> str:
    """The text without what has no sound, and without Piper's `[[phonemes]]` notation, which is not for customers."""
    kept = (" " if unicodedata.category(character).startswith(UNSPEAKABLE) else character for character in text)
    return "".join(kept).replace("[[", "[ [")


def pieces(text: str) -> Iterator[str]:
    """Cuts text into pieces of at most PIECE_CHARACTERS_MAX, at spaces where there are any; nothing is lost."""
    while len(text) > PIECE_CHARACTERS_MAX:
        space = text.rfind(" ", 1, PIECE_CHARACTERS_MAX)
        at = space + 1 if space > 0 else PIECE_CHARACTERS_MAX
        yield text[:at]
        text = text[at:]
    if text:
        yield text
