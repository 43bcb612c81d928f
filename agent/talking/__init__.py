"""A conversation somebody has begun at a terminal: with the hall, or with files in its place, until it is stopped or the file answered.

What is wrong with what was asked for is said before a model is loaded.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agent import profile as profiles
from agent.app import App, opened
from agent.audio import devices, wav
from agent.clock import SystemClock
from agent.dialog.live.running import Running
from agent.dialog.telling import told
from agent.errors import BadInput
from agent.live import Live, conversing, in_files, in_hall
from agent.metering import report
from agent.profile import Profile
from agent.store.reading import LedgerReader
from agent.store.state import state_folder
from agent.talking.album import Album, make_folder
from agent.talking.now import Now, Sums, of_turns, trouble
from agent.tasks import stopped
from agent.values import FRAME_SAMPLES, Turn
from agent.weights import catalog

LOOK_SECONDS = 0.05

QUIET_S = 1.0
"""After a file, nobody having the floor for so long is the end: longer than a noise takes to become speech."""

TURNS_MAX = 10_000
"""Newest turns that are told in the end: some forty megabytes; the books have all."""

SEEN_MAX = 16
"""Exchanges whose end may yet be told."""

PICTURES = "waterfalls"
"""Folder beside the ledger, unless another is named."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for."""

    recording: Path | None = None
    """In place of the hall; `out` then takes what the robot says."""
    out: Path | None = None
    pictures: Path | None = None
    push_to_talk: bool = False


@dataclass(slots=True)
class Talk:
    """One conversation, from the first frame to the last word."""

    app: App
    live: Live
    album: Album
    asked: Asked
    state: Path
    recording_ended: asyncio.Event
    listening_after_s: float | None = None
    """From the start of this process to the first frame that was listened to."""
    turns: list[dict[str, Any]] = field(default_factory=list)
    sessions: dict[str, Sums] = field(default_factory=dict)
    """By id, oldest first."""
    pressed: bool = False
    """The key of push to talk is down."""
    _seen: dict[str, Running] = field(default_factory=dict)
    _sessions: set[str] = field(default_factory=set)
    """Also those in which no turn was completed."""
    _now: Now = field(default_factory=Now)

    async def run(self) -> None:
        """Returns when the file is answered or the caller is cancelled, which is how a conversation ends; all has settled then."""
        conversing = asyncio.ensure_future(self.live.conversation.run())
        watching = asyncio.create_task(self._watch(conversing))
        try:
            await conversing
        except asyncio.CancelledError:
            while (task := asyncio.current_task()) is not None and task.cancelling():
                task.uncancel()
        finally:
            await stopped(watching)

    async def _watch(self, conversing: "asyncio.Future[None]") -> None:
        clock, live, quiet_s = self.app.clock, self.live, 0.0
        while True:
            await clock.sleep(LOOK_SECONDS)
            if self.listening_after_s is None and live.listening.frames:
                self.listening_after_s = round(clock.boottime_ms() / 1000 - _started_s(), 2)
            self._see(live.conversation.running)
            self._sessions.add(live.conversation.session.session_id)
            self.album.over(but=live.conversation.session.session_id)
            quiet_s = quiet_s + LOOK_SECONDS if self.recording_ended.is_set() and live.idle else 0.0
            if quiet_s > QUIET_S:
                conversing.cancel()

    def _see(self, running: list[Running]) -> None:
        """An answer that is interrupted is not among those under way any more when its turn is told."""
        self._seen |= {one.exchange.calls.turn_id: one for one in running}
        for old in list(self._seen)[:-SEEN_MAX]:
            del self._seen[old]

    def key(self) -> None:
        """The key of push to talk: pressed, and at the next call let go, as terminals don't tell when it is."""
        self.pressed = not self.pressed
        if self.pressed:
            self.live.listening.press()
        else:
            self.live.listening.release()

    def ended(self, turn: Turn) -> None:
        """A turn is over."""
        out = self.asked.out if turn.speech_end_to_first_audio_ms is not None else None
        shown = told(turn, self.app.books.card, reply_audio=str(out) if out else None, problems=[])
        self.turns.append(shown)
        del self.turns[:-TURNS_MAX]
        self.live.turns.clear()
        self.sessions.setdefault(turn.session_id, Sums(self.app.books.card.currency)).add(shown)
        self.album.add(shown | {"marks": _marks(self._seen.pop(turn.turn_id, None))})

    def now(self) -> Now:
        """How it stands; between two turns with the words of the last."""
        running = self.live.conversation.running
        level, floor = self.live.listening.level, self.live.conversation.floor
        self._now = replace(self._now, floor=floor, level=level, trouble=trouble(self.live.health()))
        if running:
            words, heard, to_come, stages = of_turns(running, self.app.books.card)
            self._now = replace(self._now, words=words, heard=heard, to_come=to_come, stages=stages)
        return self._now

    def sums(self) -> Sums:
        """Of the session under way."""
        return self.sessions.get(self.live.conversation.session.session_id) or Sums(self.app.books.card.currency)

    def told(self) -> dict[str, Any]:
        """What `talk --json` prints: `{turns, sessions, usage, waterfalls, listening_after_s}`. The books must be closed by now."""
        ours = self._sessions | set(self.sessions)
        records = LedgerReader(self.state).records("usage")
        return {
            "turns": self.turns,
            "sessions": [{"session_id": session, **sums.told()} for session, sums in self.sessions.items()],
            "usage": report.totals(record for record in records if record["data"].get("session_id") in ours),
            "waterfalls": [str(path) for path in self.album.drawn],
            "listening_after_s": self.listening_after_s,
        }


@contextlib.asynccontextmanager
async def talking(asked: Asked, profile: str, state: Path | None, say: Say, told: Callable[[dict[str, Any]], None]) -> AsyncIterator[Talk]:
    """A conversation that can be run; `told` takes each turn as `ask --json` prints it. Raises a VoxmeterError for what is wrong."""
    clock, folder = SystemClock(), state_folder(state)
    held = profiles.load(profile)
    if asked.push_to_talk:
        held = held.model_copy(update={"hearing": held.hearing.model_copy(update={"push_to_talk": True})})
    ended = asyncio.Event()
    frames = checked(asked, held, ended)
    async with contextlib.AsyncExitStack() as stack:
        app = await stack.enter_async_context(opened(held, folder, catalog.models_folder(), clock, live=True))
        album = Album(asked.pictures or folder / PICTURES, say)
        stack.push_async_callback(album.aclose)
        hall = await stack.enter_async_context(in_files(app, frames, asked.out) if frames and asked.out else in_hall(app, say))
        talk: list[Talk] = []

        def turn_ended(turn: Turn) -> None:
            talk[0].ended(turn)
            told(talk[0].turns[-1])

        live = await stack.enter_async_context(conversing(app, hall, say, turn_ended))
        talk.append(Talk(app, live, album, asked, folder, ended))
        yield talk[0]


def checked(asked: Asked, profile: Profile, ended: asyncio.Event) -> Iterator[bytes] | None:
    """The frames of a recording, silence after it, or None for a hall that can be heard. Raises BadInput, MissingPart."""
    if asked.pictures is not None:
        make_folder(asked.pictures)
    if (asked.recording is None) != (asked.out is None):
        raise BadInput("--wav and --out belong together", "give both: --wav IN.wav --out OUT.wav")
    if asked.recording is None or asked.out is None:
        sound = profile.sound or profiles.Sound()
        devices.find(devices.listed(), sound.input, "input")
        devices.find(devices.listed(), sound.output, "output")
        return None
    if asked.push_to_talk:
        raise BadInput("nobody presses a key for a recording", "leave out --push-to-talk or --wav")
    frames = wav.read(asked.recording)
    wav.check_writable(asked.out)
    if asked.out.exists() and asked.out.samefile(asked.recording):
        raise BadInput(f"{asked.out}: it is the recording itself", "name another file with --out")
    return _followed(frames, ended)


def _followed(frames: Iterator[bytes], ended: asyncio.Event) -> Iterator[bytes]:
    """Silence without an end after a recording."""
    yield from frames
    ended.set()
    while True:
        yield bytes(FRAME_SAMPLES * 2)


def _marks(running: Running | None) -> dict[str, int]:
    """When the customer fell silent and the answer began to sound, in milliseconds from the start of the turn, as far as they did."""
    if running is None:
        return {}
    answer, began = running.exchange.answer, running.exchange.calls.began
    moments = {"speech_end_ms": running.ears.ended_at, "first_sound_ms": answer.gate.began_at if answer else None}
    return {name: round((at - began) * 1000) for name, at in moments.items() if at is not None}


def _started_s() -> float:
    """When this process was started, in seconds since boot."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return ticks / os.sysconf("SC_CLK_TCK")
