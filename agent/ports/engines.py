"""What implements a stage, or a part of hearing: an engine is opened once per use, and the open call streams.

A `Call` takes input items, gives output items, and its `usage` can be read at any moment, also after a failure. Directions: what a
caller sends, what it receives.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from agent.values import AudioChunk, Prompt, Speech, StageUsage, Transcript

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)


class Call(Protocol[In, Out]):
    """One use of an engine. Iterating gives outputs until the engine has finished; a crash raises EngineFailed."""

    @property
    def usage(self) -> StageUsage:
        """What was used so far; grows with every step and stands after the end, whatever the end was."""
        ...

    @property
    def begun(self) -> bool:
        """The engine has heard of this call; one it never heard of used nothing and leaves no record."""
        ...

    async def send(self, item: In) -> None:
        """Gives an input item; waits while the engine is behind."""
        ...

    async def finish(self) -> None:
        """No more input follows."""
        ...

    def __aiter__(self) -> AsyncIterator[Out]: ...

    async def cancel(self) -> None:
        """Stops within one step (one token, one piece of sound); afterwards `usage` is final."""
        ...


class Engine(Protocol[In, Out]):
    """Implements a stage, or a part of hearing that is not metered."""

    @property
    def name(self) -> str:
        """Its name in the registry."""
        ...

    @property
    def model(self) -> str: ...

    def open(self) -> Call[In, Out]: ...

    async def aclose(self) -> None: ...


Asr: TypeAlias = Engine[AudioChunk, Transcript]
"""Speech in, one final transcript per segment out; a partial one after each chunk that asks for it. Where no sound follows the last
partial transcript, the final one has the same words and costs nothing more."""

Llm: TypeAlias = Engine[Prompt, str]
"""One prompt in, text deltas out."""


@dataclass(frozen=True, slots=True)
class EndOfWords:
    """Asks a language model not for a reply, but whether a customer has said all."""

    prompt: Prompt
    """As for a reply; the last message holds the customer's words so far."""


WordsEnd: TypeAlias = Engine[EndOfWords, float]
"""A language model that can be asked: for each question the probability that the last message ends where it does. It is asked only
while it makes no reply, for an engine has one call at a time. Nothing is submitted for a reply and none comes of it, so it has no usage:
it belongs to hearing, as Eot does, and not to the stage llm."""

Tts: TypeAlias = Engine[str, Speech]
"""Sentences in, sound with the text it covers out."""

Vad: TypeAlias = Engine[AudioChunk, float]
"""Chunks of FRAME_SAMPLES in, for each the probability of speech out, in order."""

Eot: TypeAlias = Engine[bytes, float]
"""An utterance so far (s16le mono at RATE_HZ, its newest 8 s matter) in, the probability that its speaker has finished out."""

Embedder: TypeAlias = Engine[str, bytes]
"""A text in, prefixed `query: ` or `passage: `, its unit vector (little-endian float32) out, in order."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What an engine is made from; plain values, they travel into its process."""

    engine: str
    """Its name in the registry."""
    model: str
    files: Mapping[str, Path] = field(default_factory=dict)
    """The model's files by the names of the catalogue, checked before the engine sees them."""
    threads: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    cores: tuple[int, ...] = ()
    """Cores it keeps to; those that do not exist are passed over, and empty takes any."""


Counter: TypeAlias = Callable[[str], int]
"""Tokens of a text."""
