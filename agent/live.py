"""Composes a live conversation out of a robot: microphone and loudspeaker, or files in their place, listener, and who leads it."""

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.app import ANSWERING, App
from agent.audio.device.capture import DeviceMicrophone
from agent.audio.device.library import Library, PortAudio
from agent.audio.device.playback import DeviceSpeaker
from agent.audio.device.system import SoundSystem
from agent.audio.echo.canceller import Echo
from agent.audio.files import FileMicrophone, FileSpeaker
from agent.audio.listening import Listening
from agent.dialog.exchange import Why
from agent.dialog.exchange.plan import Plan
from agent.dialog.live import Conversation
from agent.dialog.live.watching import Announce, Watching
from agent.dialog.turn import Floor
from agent.errors import EngineFailed, VoxmeterError
from agent.ports import Microphone, Speaker, SpeechEvent
from agent.profile import Sound
from agent.values import FRAME_MS, Speech, Turn

QUIET_AFTER_S = 20.0
"""Silence after a file that is played to a robot: the longest answer ends within it."""

APOLOGY_SECONDS = 5.0
"""Quiet after an apology before the next: what fails again at once has been said."""

IDLE_MS = 8 * FRAME_MS
"""While nobody speaks, so much sound is heard at a time: an eighth of the wake-ups, and the detector's caches are warm for all frames but
the first. An utterance that is not very soft is heard within half of it, and is hardly longer before it is taken for one, so nobody waits
for it."""

Say = Callable[[str], None]


def _nobody() -> None:
    """Where nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Hall:
    """What stands around a robot."""

    microphone: Microphone
    speaker: Speaker
    echo: Echo | None = None
    """What keeps the robot from hearing itself."""


class Patient(Listening):
    """Hears all the time, but tells what customers do only while nobody else has the engines."""

    def __init__(self, free: asyncio.Event | None, *heard_by: Any, stirred: Callable[[], None] = _nobody, **more: Any) -> None:
        """`free` is set while nobody has them, None where nobody ever does; `stirred` is called when somebody does something, as early as
        it can be heard; the rest is for Listening."""
        super().__init__(*heard_by, **more)
        self._free = free
        self._stirred = stirred
        self.holding = False
        """Somebody has done something that is not told yet."""

    async def events(self) -> AsyncGenerator[SpeechEvent]:
        async with contextlib.aclosing(super().events()) as events:
            async for event in events:
                self._stirred()
                while self._free is not None and not self._free.is_set():
                    self.holding = True
                    await self._free.wait()
                self.holding = False
                yield event


@dataclass(frozen=True, slots=True)
class Live:
    """A conversation that can be run and watched."""

    conversation: Conversation
    listening: Patient
    hall: Hall
    turns: list[Turn] = field(default_factory=list)
    """Those that have ended, oldest first; whoever watches for long takes them out."""

    @property
    def idle(self) -> bool:
        """Nobody has the floor or seems to take it, and nothing is being answered."""
        return self.conversation.idle and not self.listening.stirring and not self.listening.holding

    @property
    def heard(self) -> tuple[int, int]:
        """Frames so far, and tries to open the microphone: one of them grows, unless capture itself stands still."""
        return self.listening.frames, self.hall.microphone.tries if isinstance(self.hall.microphone, DeviceMicrophone) else 0

    def health(self) -> dict[str, Any]:
        """`{microphone, speaker, floor, level, lag_ms, sparing}`."""
        ears = self.listening
        return {
            "microphone": dict(self.hall.microphone.health()),
            "speaker": dict(self.hall.speaker.health()),
            "floor": self.conversation.floor,
            "level": round(ears.level, 1),
            "lag_ms": ears.lag_ms,
            "sparing": ears.sparing,
        }


class Keeping:
    """Keeps what was said, where the site wants that, while the conversation goes on."""

    def __init__(self, app: App, say: Say) -> None:
        self._app = app
        self._say = say
        self._tasks: set[asyncio.Task[None]] = set()

    def keep(self, turn: Turn) -> None:
        """Soon; what can't be kept is said in one line."""
        task = asyncio.create_task(self._keep(turn))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, turn: Turn) -> None:
        try:
            await self._app.keep(turn)
        except VoxmeterError as error:
            self._say(f"a turn's words are not kept: {error}")


class Apologies:
    """Says aloud that a turn came to nothing; one at a time, for whoever speaks into it would only get the next."""

    def __init__(self, app: App, say: Say) -> None:
        self._app = app
        self._say = say
        self._again_at = 0.0

    async def say(self, why: Why, announce: Announce) -> None:
        """A voice that fails says nothing. What it costs is on the books, but in no customer's session."""
        clock, phrases = self._app.clock, self._app.phrases
        if why == "full":
            self._say("a turn was refused: there is no room for its records")
        if clock.monotonic() < self._again_at:
            return
        self._again_at = math.inf
        text = {"full": self._app.apology, "asr": phrases.did_not_hear}.get(why, phrases.apology_engine)
        pieces, heard = list[Speech](), 0
        try:
            await self._app.announcer.say(text, pieces.append, clock.new_id())
            heard = await announce(pieces) if pieces else 0
        finally:
            spoken_over = pieces and not heard
            self._again_at = clock.monotonic() + (0 if spoken_over else APOLOGY_SECONDS)


@contextlib.asynccontextmanager
async def in_hall(app: App, say: Say, library: Library | None = None) -> AsyncIterator[Hall]:
    """Microphone and loudspeaker as the profile names them, on PortAudio or another `library`. Raises MissingPart without one."""
    sound = app.profile.sound or Sound()
    system = SoundSystem(library or PortAudio(), app.clock)
    cleaned = sound.echo_cancellation or sound.noise_suppression or sound.gain_control
    echo = Echo(sound) if cleaned else None
    speaker = DeviceSpeaker(sound, system, app.clock, say, reference=echo)
    microphone = DeviceMicrophone(sound, system, app.clock, say, cleaner=echo, before_cleaning=speaker.hand_over)
    speaker.start()
    try:
        yield Hall(microphone, speaker, echo)
    finally:
        await speaker.aclose()
        await microphone.aclose()


@contextlib.asynccontextmanager
async def in_files(app: App, frames: Iterable[bytes], out: Path) -> AsyncIterator[Hall]:
    """A recording in place of the hall, in real time; what the robot says is laid beside it in `out`. Raises BadInput."""
    sound = app.profile.sound or Sound()
    speaker = FileSpeaker(out, app.clock, sound.duck_db)
    try:
        yield Hall(FileMicrophone(frames, app.clock, QUIET_AFTER_S), speaker)
    finally:
        await speaker.aclose()


@contextlib.asynccontextmanager
async def conversing(
    app: App,
    hall: Hall,
    say: Say,
    told: Callable[[Turn], None] = lambda _: None,
    *,
    answered: Callable[[Turn, Plan | None], None] = lambda _turn, _plan: None,
    floor: Callable[[Floor], None] = lambda _: None,
    free: asyncio.Event | None = None,
) -> AsyncIterator[Live]:
    """A conversation in a hall; `told` takes each turn when it has ended, `answered` with how it was. What was said is kept, where it
    is to be. While `free` is given and not set, nobody is answered.
    """
    keeping = Keeping(app, say)
    turns: list[Turn] = []

    def ended(turn: Turn, plan: Plan | None) -> None:
        turns.append(turn)
        told(turn)
        answered(turn, plan)
        keeping.keep(turn)

    vad, eot = app.engines["vad"], app.engines.get("eot")
    stirred = hall.speaker.stir if isinstance(hall.speaker, DeviceSpeaker) else _nobody
    listening = Patient(free, hall.microphone, vad, eot, app.profile.hearing, app.clock, told=say, stirred=stirred)
    silence_s = app.profile.dialog.session_silence_s
    watching = Watching(Apologies(app, say).say, ended, floor, say)
    conversation = Conversation(app.robot, listening, hall.speaker, watching, silence_s=silence_s)
    _tell_hall(hall, conversation, listening)
    starting = asyncio.create_task(_say_what_fails(app, say))
    try:
        yield Live(conversation, listening, hall, turns)
    finally:
        starting.cancel()
        await keeping.aclose()


def _tell_hall(hall: Hall, conversation: Conversation, listening: Listening) -> None:
    """What stands in it must know how the conversation stands."""
    if hall.echo is not None:
        hall.echo.startled = conversation.startled
    if isinstance(hall.microphone, DeviceMicrophone):
        hall.microphone.patience_ms = lambda: _patience_ms(conversation.floor, stirring=listening.stirring)


def _patience_ms(floor: Floor, *, stirring: bool) -> int:
    """How much sound may wait before it is heard."""
    if floor == "speaking":
        return 0  # a loud noise lowers the voice at once
    return IDLE_MS if floor == "listening" and not stirring else FRAME_MS


async def _say_what_fails(app: App, say: Say) -> None:
    """What answers may still be starting while the robot listens; an engine that can't is told before anybody asks."""
    for part in ANSWERING:
        try:
            await app.engines[part].ready()
        except EngineFailed as failure:
            say(str(failure))
