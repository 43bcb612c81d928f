"""Where sound comes from and goes to: the hall, the customer's ears."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from agent.values import AudioChunk, Speech


@dataclass(frozen=True, slots=True)
class HeardFrame:
    """One chunk of sound from the hall."""

    pcm: bytes
    """FRAME_SAMPLES samples, s16le mono at RATE_HZ, the robot's own voice already taken out."""

    at: float
    """Monotonic time at which its last sample was captured."""

    guest: bool = True
    """Somebody else than the robot may be heard in it."""


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

    def health(self) -> Mapping[str, Any]:
        """`{device, speaking, why, underruns, gaps, reopened}`; `gaps`: silences inside replies because sound came too late."""
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


@dataclass(frozen=True, slots=True)
class Onset:
    """It is loud after silence: somebody may begin to speak."""

    at: float
    """Monotonic time at which the first loud sample can have been captured at the latest."""


@dataclass(frozen=True, slots=True)
class FalseStart:
    """It went quiet before it was speech: a cough, a click."""


@dataclass(frozen=True, slots=True)
class Began:
    """Somebody speaks."""

    chunks: tuple[AudioChunk, ...]
    """The sound so far, with what came before it was noticed."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Speech goes on."""

    chunk: AudioChunk


@dataclass(frozen=True, slots=True)
class Lull:
    """This may have been the end: nothing is given until `Resumed` or `Ended`."""

    chunk: AudioChunk
    """The last so far; a partial transcript is wanted."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The customer goes on; the sound since the lull follows."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The turn is over."""

    why: Literal["whole", "window", "open", "long", "released", "stream"]
    """whole: a complete sentence and a short silence; open: an incomplete one and a long silence; window: nobody knew. long: a monologue;
    released: push to talk; stream: the microphone's sound has an end, and this is it."""

    quiet_ms: int = 0
    """Silence that was waited for."""


SpeechEvent: TypeAlias = Onset | FalseStart | Began | Chunk | Lull | Resumed | Ended
"""What live listening tells, in this order: Onset, then FalseStart or Began; after Began chunks, lulls and resumptions, then Ended."""


class Listener(Protocol):
    """The customer's side of a conversation, out of a microphone's frames."""

    robot_speaks: bool
    """Whether what is heard may be the robot's own voice."""

    sparing: int
    """How much to leave undone (`dialog.live.load`): from 1 partial transcripts while somebody speaks, from 2 the end-of-turn model."""

    @property
    def stirring(self) -> bool:
        """Somebody speaks, or seems to begin."""
        ...

    @property
    def level(self) -> float:
        """Of the newest frame, in dB of full scale."""
        ...

    @property
    def lag_ms(self) -> int:
        """Age of the frame that is being looked at: above a frame or two this machine is overloaded."""
        ...

    def events(self) -> AsyncGenerator[SpeechEvent]: ...

    def look(self) -> None:
        """Called twice a second: an utterance whose microphone is gone ends."""
        ...

    def hint(self, *, unfinished: bool, complete: bool = False, ends: float | None = None, until_ms: int | None = None) -> None:
        """Whether the words of the utterance's first `until_ms` end like an unfinished sentence, or are surely a whole one; `ends` is the
        probability that nothing follows them, where a model of language was asked."""
        ...
