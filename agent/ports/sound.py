"""Where sound comes from and goes to: the hall, the customer's ears."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from agent.values import AudioChunk, Speech


@dataclass(frozen=True, slots=True)
class HeardFrame:
    """One chunk of sound from the hall."""

    pcm: bytes
    """FRAME_SAMPLES samples, s16le mono at RATE_HZ, the robot's own voice already taken out."""

    at: float
    """Monotonic time at which its last sample was captured."""


class Microphone(Protocol):
    """Sound from the hall, without an end; it heals itself."""

    def frames(self) -> AsyncGenerator[HeardFrame]:
        """Frames as they come. A device that is gone gives none until it is back; a file ends."""
        ...

    def health(self) -> Mapping[str, Any]:
        """`{device, hearing, why, rate, overruns, reopened, clipped}`: `hearing` False names why; `rate` is samples got per samples due."""
        ...

    async def aclose(self) -> None: ...


class Sounding(Protocol):
    """A piece of speech on its way to the customer's ears."""

    @property
    def heard(self) -> int:
        """Characters of its text that have sounded so far; stays where it is when the piece is stopped or the device is gone."""
        ...

    @property
    def began_at(self) -> float | None:
        """Monotonic time at which its first sample sounded; None before."""
        ...


class Speaker(Protocol):
    """Plays speech, piece after piece."""

    def play(self, speech: Speech) -> Sounding:
        """Takes a piece behind those that wait."""
        ...

    def duck(self, *, on: bool) -> None:
        """Lowers the voice, or raises it again, within one block of sound."""
        ...

    def pause(self, *, on: bool) -> None:
        """Falls silent within one block of sound and keeps what waits, or goes on with it."""
        ...

    def stop(self) -> None:
        """Falls silent within one block of sound and forgets what waits."""
        ...

    async def quiet(self) -> None:
        """Returns when nothing waits and nothing sounds."""
        ...

    async def aclose(self) -> None: ...


class Ears(Protocol):
    """Where an utterance comes from: a file, a microphone."""

    @property
    def ended_at(self) -> float | None:
        """Monotonic time at which the customer fell silent, or the last sample was fed; None before."""
        ...

    @property
    def lulled(self) -> bool:
        """The customer has paused, and this may have been the end of the utterance."""
        ...

    def speech(self) -> AsyncGenerator[AudioChunk]:
        """The chunks that are speech, as they come, until the utterance ends."""
        ...
