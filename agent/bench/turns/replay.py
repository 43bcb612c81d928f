"""Hears a clip as the live listener would, on the time of its own sound; what the models say comes as late as it would, and is kept."""

import difflib
import functools
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.audio.listening import dbfs
from agent.audio.turn_end import Endpointer
from agent.bench.turns.clips import FRAME_BYTES, Clip
from agent.dialog.wording import phrases
from agent.dialog.wording.unfinished import unfinished
from agent.engines.asr_moonshine import AsrMoonshine
from agent.engines.eot_smart_turn import SAMPLES, EotSmartTurn
from agent.engines.llm_onnx import LlmOnnx
from agent.engines.vad_silero import VadSilero
from agent.ports import EndOfWords, EngineSettings
from agent.ports.sound import Began, Chunk, Ended, Lull, Resumed, SpeechEvent
from agent.profile import Hearing
from agent.values import FRAME_MS, AudioChunk, Message, Prompt
from agent.weights import catalog, verify

EOT_MS, ASR_MS, ENDS_MS = 80, 80, 60
"""From a lull to the end-of-turn model's word and to a partial transcript, both models at work on two cores, and from there, through the
plan of an answer, to the language model's word on where it ends."""

ALIKE = 0.9
"""Likeness of words that are the same but for the recogniser's mistakes."""


@dataclass(slots=True)
class Judged:
    """What the listener made of clips."""

    clips: int = 0
    cut_off: list[str] = field(default_factory=list)
    """Those that were ended before they were finished."""
    silence_ms: list[int] = field(default_factory=list)
    """Of the others: from the last sound to the end of the turn."""
    unheard: list[str] = field(default_factory=list)
    """Those that never ended."""
    lulls: int = 0
    """Times the models were asked."""
    why: list[str] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        held = sorted(self.silence_ms) or [0]
        return {
            "clips": self.clips,
            "cut_off": len(self.cut_off),
            "cut_off_share": round(len(self.cut_off) / max(1, self.clips), 4),
            "unheard": len(self.unheard),
            "silence_ms": {"median": round(statistics.median(held)), "p95": held[int(len(held) * 0.95)], "max": held[-1]},
            "lulls_per_clip": round(self.lulls / max(1, self.clips), 2),
            "why": {why: self.why.count(why) for why in sorted(set(self.why))},
        }


class Models:
    """The models, called directly; what they said of a sound is kept."""

    def __init__(self, root: Path) -> None:
        self._vad = VadSilero(_settings("silero-vad", root))
        self._eot = EotSmartTurn(_settings("smart-turn-v3.2", root))
        self._asr = AsrMoonshine(_settings("moonshine-tiny-en", root))
        opening = [(message.role, message.text) for message in phrases.opening("en")]
        self._llm = LlmOnnx(replace(_settings("smollm2-135m-instruct", root), options={"opening": opening}))
        self._opening = phrases.opening("en")
        self.speech = functools.cache(self._speech)
        self.whole = functools.cache(self._whole)
        self.words = functools.cache(self._words)
        self.ends = functools.cache(self._ends)

    def _ends(self, words: str) -> float:
        asked = EndOfWords(Prompt((*self._opening, Message("user", words))))
        return next(told for told, _ in self._llm.run(iter([asked])) if isinstance(told, float))

    def _speech(self, frames: tuple[bytes, ...]) -> tuple[float, ...]:
        steps = self._vad.run(AudioChunk(frame) for frame in frames)
        return tuple(probability for probability, _ in steps if probability is not None)

    def _whole(self, pcm: bytes) -> float:
        return next(probability for probability, _ in self._eot.run(iter([pcm])) if probability is not None)

    def _words(self, pcm: bytes) -> str:
        chunks = (AudioChunk(pcm[at : at + FRAME_BYTES]) for at in range(0, len(pcm), FRAME_BYTES))
        return " ".join(transcript.text for transcript, _ in self._asr.run(chunks) if transcript is not None and transcript.final)


def _settings(name: str, root: Path) -> EngineSettings:
    model = catalog.read().find(name)
    return EngineSettings(model.engine, name, verify.paths(model, root))


class Replay:
    """One clip through the listener, on the time of its own sound."""

    def __init__(self, models: Models, hearing: Hearing, known: Sequence[str] = ()) -> None:
        self._models, self._known = models, known
        self._listener = Endpointer(hearing)
        self._utterance: list[bytes] = []
        self._due: list[tuple[int, str]] = []  # (when, what) of answers under way
        self.lulls = 0
        self.ended: tuple[int, str] | None = None
        """When the first turn ended, in ms of the clip, and why."""

    def run(self, clip: Clip) -> "Replay":
        for index, (frame, probability) in enumerate(zip(clip.frames, self._models.speech(clip.frames), strict=True)):
            now = (index + 1) * FRAME_MS
            self._answer(now)
            self._take(self._listener.step(frame, probability, now / 1000, dbfs(frame)), now)
            if self.ended:
                break
        return self

    def _answer(self, now: int) -> None:
        for when, what in sorted(self._due):
            if when <= now and not self.ended:
                self._due.remove((when, what))
                pcm = b"".join(self._utterance)
                if what == "whole":
                    self._take(self._listener.verdict(self._models.whole(pcm[-2 * SAMPLES :])), when)
                elif what == "ends":
                    self._take(self._listener.hint(unfinished=False, ends=self._models.ends(self._models.words(pcm))), when)
                else:
                    text = self._models.words(pcm)
                    complete, more = any(alike(text, one) for one in self._known), unfinished(text, "en")
                    self._due += [(when + ENDS_MS, "ends")] if text and not complete and not more else []
                    self._take(self._listener.hint(unfinished=more, complete=complete), when)

    def _take(self, events: list[SpeechEvent], now: int) -> None:
        for event in events:
            match event:
                case Began(chunks):
                    self._utterance = [chunk.pcm for chunk in chunks]
                case Chunk(chunk):
                    self._utterance.append(chunk.pcm)
                case Lull(chunk):
                    self._utterance.append(chunk.pcm)
                    self.lulls += 1
                    self._due = [(now + EOT_MS, "whole"), (now + ASR_MS, "words")]
                case Resumed():
                    self._due = []
                case Ended(why):
                    self.ended = (now, why)


def alike(text: str, known: str) -> bool:
    """The words are nearly those of a question the robot knows."""
    one, other = (re.sub(r"[^a-z ]+", "", words.lower()) for words in (text, known))
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio() >= ALIKE


def judge(models: Models, hearing: Hearing, given: Iterable[Clip], known: Sequence[str] = ()) -> Judged:
    """What the listener makes of them."""
    told = Judged()
    for clip in given:
        replay = Replay(models, hearing, known).run(clip)
        told.clips += 1
        told.lulls += replay.lulls
        if replay.ended is None:
            told.unheard.append(clip.text)
        elif replay.ended[0] < clip.spoken_ms:
            told.cut_off.append(f"{clip.text} ({clip.pause_ms} ms)")
        else:
            told.silence_ms.append(replay.ended[0] - clip.spoken_ms)
            told.why.append(replay.ended[1])
    return told
