"""A conversation in simulated time: scripted sound and engines, and the real driver, listener, loudspeaker and books."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agent.audio.files import FileMicrophone, FileSpeaker
from agent.audio.listening import Listening
from agent.dialog.announce import Announcer
from agent.dialog.books import Books
from agent.dialog.exchange import Why
from agent.dialog.exchange.plan import Mind, OpenMind
from agent.dialog.exchange.robot import Manner, Robot, Stages
from agent.dialog.live import Conversation
from agent.dialog.live.watching import Announce, Watching
from agent.dialog.session import Session
from agent.dialog.turn import Floor
from agent.engines.scripted import words
from agent.metering.cards import Cards
from agent.ports import EngineSettings, HeardFrame
from agent.profile import Hearing
from agent.sim.talk.paced import PacedEngine
from agent.sim.world.inline import InlineWriter
from agent.sim.world.loop import RobotClock, run
from agent.store.ledger import SqliteLedger
from agent.store.ledger.chain import Identity
from agent.tasks import stopped
from agent.values import FRAME_MS, FRAME_SAMPLES, RATE_HZ, Message, Prompt, Speech, Turn

STEPS_S = {"asr": 0.06, "llm": 0.012, "tts": 0.1, "vad": 0.0, "eot": 0.1}
"""What a step takes: a transcript, a token, a sentence, a verdict; about as measured with the real models on one core."""

ROBOT = Identity("demo", "sim-1", "hotel")


def sound(*parts: tuple[float, bool]) -> list[bytes]:
    """Frames of `(seconds, loud)` after each other."""
    frames: list[bytes] = []
    for seconds, loud in parts:
        count = round(seconds * RATE_HZ / FRAME_SAMPLES)
        tone = (np.sin(np.arange(count * FRAME_SAMPLES) * (2 * np.pi * 220 / RATE_HZ)) * (8000 if loud else 0)).astype("<i2").tobytes()
        frames += [tone[at : at + FRAME_SAMPLES * 2] for at in range(0, len(tone), FRAME_SAMPLES * 2)]
    return frames


@dataclass(frozen=True, slots=True)
class Scene:
    """What is said to a robot, and how its engines behave."""

    frames: Iterable[bytes]
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Of the scripted engines, by stage."""
    steps_s: Mapping[str, float] = field(default_factory=dict)
    """In place of STEPS_S."""
    hearing: Hearing = field(default_factory=Hearing)
    mind: Mind = field(default_factory=OpenMind)
    speculations_max: int = 2
    silence_s: float = 45
    idle_ms: int = 0
    """While nobody has the floor, so much sound is heard at a time."""
    silence_after_s: float = 8.0
    """Quiet after the last frame, for the answer to end in."""
    stop_at_s: float | None = None
    """The robot is stopped then."""
    room: Callable[[int], bool] = lambda _: True
    """Whether the ledger has room for the turn of that number, from 1."""
    announcements: Sequence[tuple[float, str]] = ()
    """What it says of its own accord: from when on, and the text."""


@dataclass(slots=True)
class Played:
    """What came of it."""

    turns: list[Turn] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    """Lines for whoever watches."""
    sessions: list[Session] = field(default_factory=list)
    floors: list[Floor] = field(default_factory=list)
    """Who had the floor, the last at the end."""
    apologies: list[Why] = field(default_factory=list)
    """What for."""
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    """For a person: why, session, turn."""
    announced: list[int] = field(default_factory=list)
    """Characters that were heard of each announcement."""


def play(scene: Scene, folder: Path, cards: Cards, seed: int = 1) -> Played:
    """Plays a scene to its end; the books are in `folder`, the sound of the robot in `folder/out.wav`."""
    folder.mkdir(parents=True, exist_ok=True)
    return run(_play(scene, folder, cards, seed))


class _Ledger(SqliteLedger):
    """One that is told when it is full."""

    allows: Callable[[int], bool] = staticmethod(lambda _: True)
    asked = 0

    def room(self) -> bool:
        self.asked += 1
        return super().room() and self.allows(self.asked)


async def _play(scene: Scene, folder: Path, cards: Cards, seed: int) -> Played:
    clock, played = RobotClock(seed), Played()
    ledger = _Ledger(folder, ROBOT, clock, writer=InlineWriter)
    ledger.allows = scene.room
    robot, hearing = _robot(scene, Books(ledger, cards, "UTC", dict.fromkeys(("asr", "llm", "tts"), "w@1"), clock), clock, played)
    speaker = FileSpeaker(folder / "out.wav", clock)
    microphone = FileMicrophone(scene.frames, clock, scene.silence_after_s)
    listening = Listening(
        _Collecting(microphone, lambda: scene.idle_ms if talk.floor == "listening" and not listening.stirring else 0),
        *hearing,
        scene.hearing,
        clock,
        told=played.said.append,
    )

    async def say(text: str, announce: Announce) -> int:
        pieces: list[Speech] = []
        await Announcer(robot).say(text, pieces.append, clock.new_id())
        return await announce(pieces)

    async def apologise(why: Why, announce: Announce) -> None:
        played.apologies.append(why)
        await say("I can't answer now.", announce)

    watching = Watching(apologise, lambda turn, _: played.turns.append(turn), played.floors.append, played.said.append)
    talk = Conversation(robot, listening, speaker, watching, silence_s=scene.silence_s)
    beside = asyncio.create_task(_announcing(scene, clock, lambda text: say(text, talk.announce), played.announced.append))
    try:
        await _until(asyncio.ensure_future(talk.run()), scene.stop_at_s, clock)
        played.sessions.append(talk.session)
    finally:
        await clock.sleep(1)  # whoever was announcing hears of the end
        await stopped(beside)
        await speaker.aclose()
        await ledger.aclose()
    return played


async def _announcing(scene: Scene, clock: RobotClock, say: Callable[[str], Awaitable[int]], told: Callable[[int], None]) -> None:
    began = clock.monotonic()
    for at_s, text in scene.announcements:
        await clock.sleep(began + at_s - clock.monotonic())
        told(await say(text))


def _robot(scene: Scene, books: Books, clock: RobotClock, played: Played) -> tuple[Robot, tuple[PacedEngine, PacedEngine]]:
    """And the engines that hear: of speech, and of its end."""
    engines = {part: _engine(part, scene, clock) for part in STEPS_S}
    stages = Stages(engines["asr"], engines["llm"], engines["tts"])
    manner = Manner(
        (Message("system", "be kind"),), Prompt((), 40), 500, words, words, speculations_max=scene.speculations_max, history_messages_max=6
    )

    async def call_person(why: str, session: str, turn: str) -> None:
        played.calls.append((why, session, turn))

    return Robot(stages, books, manner, clock, scene.mind, call_person=call_person), (engines["vad"], engines["eot"])


class _Collecting:
    """A microphone that gives what has come when it is so much as was agreed."""

    def __init__(self, microphone: FileMicrophone, patience_ms: Callable[[], int]) -> None:
        self._microphone = microphone
        self._patience_ms = patience_ms

    async def frames(self) -> AsyncGenerator[HeardFrame]:
        held: list[HeardFrame] = []
        async with contextlib.aclosing(self._microphone.frames()) as frames:
            async for frame in frames:
                held.append(frame)
                if len(held) * FRAME_MS >= self._patience_ms():
                    for each in held:
                        yield each
                    held.clear()
        for each in held:
            yield each

    def health(self) -> Mapping[str, Any]:
        return self._microphone.health()

    async def aclose(self) -> None:
        await self._microphone.aclose()


async def _until(talking: "asyncio.Future[None]", seconds: float | None, clock: RobotClock) -> None:
    """To its end, or stopped before."""
    if seconds is None:
        await talking
        return
    await clock.sleep(seconds)
    talking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await talking


def _engine(part: str, scene: Scene, clock: RobotClock) -> PacedEngine:
    settings = EngineSettings(f"{part}_scripted", "script", options=scene.options.get(part, {}))
    return PacedEngine(settings, clock, scene.steps_s.get(part, STEPS_S[part]))
