"""Frozen types that cross rooms: sound, words, and what a stage used."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Stage = Literal["asr", "llm", "tts"]
"""What is metered, in the order an utterance passes through."""

STAGES: tuple[Stage, ...] = ("asr", "llm", "tts")

Placement = Literal["device", "cloud"]

Outcome = Literal["completed", "interrupted", "superseded", "failed", "cut_off"]
"""How a stage ended: barge-in interrupts, lost speculation is superseded, power or a kill cuts off."""

Origin = Literal["provider", "counted", "estimated", "unknown"]
"""Who says the figures: the provider, an exact count here, an estimate, or nobody. Unknown is never written as 0."""

RATE_HZ = 16_000
"""Sample rate of all sound inside the agent; resampled at the edges."""

FRAME_SAMPLES = 512
"""Samples in a chunk, 32 ms: what the voice activity model takes."""

FRAME_MS = FRAME_SAMPLES * 1000 // RATE_HZ


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """A piece of speech on its way to a recogniser."""

    pcm: bytes
    """Little-endian signed 16-bit samples, mono, at RATE_HZ."""

    pause: bool = False
    """The speaker pauses after this chunk: a good place to cut a long utterance."""

    partial: bool = False
    """A partial transcript is wanted now: somebody is watching, or this may have been the end."""

    @property
    def ms(self) -> int:
        return len(self.pcm) // 2 * 1000 // RATE_HZ


@dataclass(frozen=True, slots=True)
class Speech:
    """A piece of synthesised speech and the text it covers."""

    pcm: bytes
    """Little-endian signed 16-bit samples, mono."""

    rate_hz: int
    """The voice's own sample rate."""

    text: str
    """The text this sound says; empty for a continuation of the text before."""

    marks: tuple[tuple[int, int], ...] = ()
    """(samples, characters), both growing: after so many samples of this sound so many characters of its text were said. Without
    marks the text is taken to run evenly."""

    def said(self, samples: int) -> int:
        """Characters of the text that its first `samples` samples say."""
        whole = len(self.pcm) // 2
        if samples >= whole:
            return len(self.text)
        if not self.marks:
            return len(self.text) * samples // whole
        return max((characters for at, characters in self.marks if at <= samples), default=0)


@dataclass(frozen=True, slots=True)
class Transcript:
    """Words of one segment of an utterance."""

    text: str

    final: bool = True
    """A partial one (not final) is what the segment under way sounds like so far; the next transcript takes its place."""

    until_ms: int = 0
    """The sound of the call that went before it: of a partial one, whether anything was said since."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a language model is asked, and how it may answer."""

    messages: tuple[Message, ...]
    max_tokens: int = 96
    temperature: float = 0.0
    """0 takes the likeliest token each time."""
    top_p: float = 1.0
    """Samples from the likeliest tokens that together reach this probability."""
    repetition_penalty: float = 1.0
    """Divides the logits of tokens the reply already has, by more than 1 against loops; 1 changes nothing."""
    stop: tuple[str, ...] = ()
    """Texts that end the reply; they are not part of it."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class StageUsage:
    """Raw quantities one stage used so far, never a price. None: not known, or not a quantity of this stage."""

    input_tokens: int | None = None
    """All input tokens, cached ones included."""
    output_tokens: int | None = None
    cached_tokens: int | None = None
    """Input tokens whose computation was reused; a subset of the input."""
    audio_in_ms: int | None = None
    """Speech given to the recogniser."""
    audio_out_ms: int | None = None
    """Speech made."""
    characters: int | None = None
    """Characters of the text given to the voice."""
    characters_heard: int | None = None
    """Characters of the text that reached the customer's ears."""
    origin: Origin = "counted"


@dataclass(frozen=True, slots=True)
class StageTimes:
    """When a stage worked, in milliseconds from the start of its turn."""

    started_ms: int
    first_output_ms: int | None
    duration_ms: int


@dataclass(frozen=True, slots=True)
class StageResult:
    """One attempt of one stage in one turn, ended."""

    stage: Stage
    engine: str
    """Name in the engine registry."""
    model: str
    outcome: Outcome
    usage: StageUsage
    times: StageTimes
    placement: Placement = "device"
    attempt: int = 1
    problem: str = ""
    """The line to show when the outcome is `failed`."""
    priority: str = "standard"
    """What the customer asked for; a rate card gives its coefficient."""
    features: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Uses of advanced features by name."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange: what was heard, what was answered, what each stage used."""

    turn_id: str
    session_id: str
    transcript: str
    reply: str
    stages: tuple[StageResult, ...]
    speech_end_to_first_audio_ms: int | None
    """From the last sample fed to the first sound of the reply; None without a sound."""
    notes: tuple[str, ...] = field(default=())
    """What the customer's side should know, such as a question cut to fit the model."""

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(stage.problem for stage in self.stages if stage.problem)
