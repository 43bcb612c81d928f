"""A robot that is told to say something, between guests: on the real conversation, ears and books, in simulated time."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.audio.files import FileMicrophone, FileSpeaker
from agent.audio.listening import GONE_SECONDS
from agent.dialog.announce import Announcer
from agent.dialog.live import Conversation
from agent.dialog.live.watching import Watching
from agent.dialog.turn import Floor
from agent.dialog.wording.phrases import phrases
from agent.errors import BadInput, EngineFailed
from agent.live import Apologies, Hall, Live, Patient
from agent.ports import HeardFrame
from agent.sim.talk import Played, Scene, _Ledger, _robot, sound
from agent.sim.world.inline import InlineWriter
from agent.sim.world.loop import RobotClock, run
from agent.store.verify import verify_books
from agent.talking.attending import CALM_SECONDS, Attending
from tests.dialog.live.helpers import LONG
from tests.dialog.live.test_live import HEARING, NEWS, QUESTION, Offering, Options
from tests.dialog.test_books import books_on
from tests.store.test_ledger import ROBOT

SENTENCES = ("The bar closes in ten minutes.", "The pool closes in twenty.", "The garden is open all night.", "Have a nice evening.")


class Losable(FileMicrophone):
    lost = False

    async def frames(self) -> AsyncGenerator[HeardFrame]:
        async for frame in super().frames():
            while self.lost:
                await self._clock.sleep(0.1)
            yield frame

    def health(self) -> dict[str, Any]:
        return {**super().health(), "hearing": not self.lost}


class House:
    """A robot that attends, with no engine but scripted ones."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        self.clock, self.played = RobotClock(1), Played()
        self.since_s: list[float] = []
        self._ledger = _Ledger(folder, ROBOT, self.clock, writer=InlineWriter)
        self._ledger.allows = scene.room
        robot, hearing = _robot(scene, books_on(self._ledger, self.clock), self.clock, self.played)
        app: Any = SimpleNamespace(clock=self.clock, announcer=Announcer(robot), phrases=phrases("en"), apology="We are full. " * 6)
        self.app = app
        self.attending = Attending(app, self.played.said.append)
        self._speaker = FileSpeaker(folder / "out.wav", self.clock)
        self.microphone = microphone = Losable(scene.frames, self.clock, scene.silence_after_s)
        free = self.attending._free
        listening = Patient(free, microphone, *hearing, scene.hearing, self.clock, told=self.played.said.append)
        watching = Watching(Apologies(app, self.played.said.append).say, lambda turn, _: self.played.turns.append(turn), self._changed)
        self.conversation = Conversation(robot, listening, self._speaker, watching, silence_s=scene.silence_s)
        self.attending._live = Live(self.conversation, listening, Hall(microphone, self._speaker))

    def _changed(self, floor: Floor) -> None:
        self.played.floors.append(floor)
        self.since_s.append(self.clock.monotonic())

    async def during(self, story: Callable[["House"], Awaitable[None]]) -> None:
        conversing = asyncio.ensure_future(self.conversation.run())
        try:
            await story(self)
            await conversing
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        await self._speaker.aclose()
        await self._ledger.aclose()


def played(folder: Path, scene: Scene, story: Callable[[House], Awaitable[None]]) -> Played:
    async def main() -> Played:
        house = House(scene, folder)
        await house.during(story)
        return house.played

    told = run(main())
    assert verify_books(folder).whole
    return told


def test_a_guest_who_asks_while_it_is_made_is_answered_before_the_next_sentence(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        told = await house.attending.speak(" ".join(SENTENCES))
        assert told["characters_heard"] == told["characters"] == sum(map(len, SENTENCES))
        assert len(house.played.turns) == 1  # before it began to sound

    scene = Scene(sound((0.5, False), (0.8, True)), steps_s={"tts": 2.5}, hearing=HEARING, silence_after_s=40)
    told = played(tmp_path, scene, story)
    assert (told.turns[0].speech_end_to_first_audio_ms or 0) < 6_000  # one sentence of the news, and its own


@pytest.mark.parametrize("into_it_s", [-1.0, 1.0])
def test_who_accepts_a_person_is_heard_also_where_an_announcement_comes_between(tmp_path: Path, into_it_s: float) -> None:
    offered_s = 5.9

    async def story(house: House) -> None:
        await house.clock.sleep(3)
        await house.attending.speak(NEWS)

    frames = sound((0.5, False), (1.5, True), (offered_s + CALM_SECONDS + into_it_s - 2.0, False), (0.6, True))
    options: Options = {"asr": {"transcripts": ["where is the casino", "yes please"]}}
    told = played(tmp_path, Scene(frames, options, hearing=HEARING, mind=Offering(), silence_after_s=25), story)
    assert [why for why, _, _ in told.calls] == ["agreed"]
    assert ("hushed" in told.floors) == (into_it_s > 0)


def test_an_apology_is_heard_before_an_announcement(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        while house.played.floors[-2:] != ["answering", "listening"]:
            await house.clock.sleep(0.05)
        assert house.attending.busy  # so nobody else asks the voice for anything
        await house.attending.speak(NEWS)
        assert house.played.floors.count("speaking") == 2

    scene = Scene(sound((0.5, False), (1.5, True)), {"llm": {"replies": ["fail: it burns"]}}, {"tts": 1.0}, HEARING, silence_after_s=25)
    played(tmp_path, scene, story)


def test_an_apology_that_asks_to_say_it_again_is_left_time_for_it(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        await house.clock.sleep(1)
        await house.attending.speak("Hello.")  # which is made while the apology sounds
        assert house.played.floors[-4:] == ["speaking", "listening", "speaking", "listening"]
        assert house.since_s[-2] - house.since_s[-3] >= CALM_SECONDS

    options: Options = {"asr": {"transcripts": ["fail: it burns"]}}
    played(tmp_path, Scene(sound((0.5, False), (1.5, True)), options, hearing=HEARING, silence_after_s=25), story)


def test_without_room_on_the_books_whoever_speaks_stops_an_announcement(tmp_path: Path) -> None:
    async def story(house: House) -> None:
        told = await house.attending.speak(NEWS)
        assert 0 < told["characters_heard"] < len(NEWS) / 2

    frames = sound((CALM_SECONDS + 2.0, False), (1.0, True))
    told = played(tmp_path, Scene(frames, hearing=HEARING, room=lambda _: False, silence_after_s=20), story)
    assert told.floors[-2:] == ["speaking", "listening"]  # the apology


@pytest.mark.parametrize("speaking", [False, True], ids=["in a noise", "in an utterance"])
def test_a_microphone_that_is_lost_keeps_nobody_waiting(tmp_path: Path, *, speaking: bool) -> None:
    async def story(house: House) -> None:
        live = house.attending._live
        assert live is not None
        while not (live.listening.speaking if speaking else live.listening.stirring):
            await house.clock.sleep(0.01)
        busy = [house.attending.busy]
        house.microphone.lost = True
        await house.clock.sleep(GONE_SECONDS + 5)
        assert [*busy, house.attending.busy] == [True, False]
        assert (await house.attending.speak("Hello."))["characters_heard"] == len("Hello.")
        await house.clock.sleep(6)
        house.microphone.lost = False

    frames = sound((0.5, False), (2.0, True))
    told = played(tmp_path, Scene(frames, hearing=HEARING, silence_s=5, silence_after_s=20), story)
    assert len({turn.session_id for turn in told.turns}) == 1 + speaking  # whoever speaks when it is back may be another
    assert [turn.reply != "" for turn in told.turns] == [True] * len(told.turns)


def test_while_a_conversation_closes_nothing_is_announced_in_vain(tmp_path: Path) -> None:
    """Drivers may take seconds to let go of a device."""

    async def main() -> None:
        house = House(Scene(sound((0.5, False)), hearing=HEARING, silence_after_s=2), tmp_path)
        live, closing = house.attending._live, asyncio.Event()
        assert live is not None

        @contextlib.asynccontextmanager
        async def hall(*_: object) -> AsyncIterator[Hall]:
            yield live.hall
            closing.set()
            await house.clock.sleep(10)

        @contextlib.asynccontextmanager
        async def conversing(*_: object, **__: object) -> AsyncIterator[Live]:
            yield live

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("agent.talking.attending.in_hall", hall)
            patch.setattr("agent.talking.attending.conversing", conversing)
            attending = Attending(house.app, house.played.said.append)
            running = asyncio.ensure_future(attending.run())
            await house.clock.sleep(1)
            saying = asyncio.ensure_future(attending.speak("Hello."))  # it waits for a calm that the recording ends before
            await closing.wait()
            with pytest.raises(EngineFailed, match="the robot has no loudspeaker now"):
                await saying
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        await house.aclose()

    run(main())


@pytest.mark.parametrize(
    ("room", "parts"),
    [
        (lambda _: False, ((0.5, False), (2.5, True))),  # into the apology
        (lambda turn: turn == 1, (*QUESTION, (3.0, False), (2.0, True))),  # into an answer
    ],
)
def test_a_voice_that_was_lowered_for_who_is_not_listened_to_is_raised_when_he_ends(tmp_path: Path, room: Any, parts: Any) -> None:
    async def story(house: House) -> None:
        live = house.attending._live
        assert live is not None
        while not (house.conversation.floor in ("speaking", "doubting") and live.listening.speaking):
            assert house.clock.monotonic() < 60
            await house.clock.sleep(0.05)
        house.conversation.startled()  # where it is not lowered already

    scene = Scene(sound(*parts), {"llm": {"replies": [LONG]}}, hearing=HEARING, room=room, silence_after_s=20)
    floors = played(tmp_path, scene, story).floors
    lowered = len(floors) - 1 - floors[::-1].index("doubting")
    assert floors[lowered + 1 :] == ["speaking", "listening"]


def test_what_can_not_be_said_is_told_in_a_line(tmp_path: Path) -> None:
    async def silence(*_: object) -> None: ...

    async def story(house: House) -> None:
        with pytest.raises(BadInput, match="there is nothing in it that can be said; give it words"):
            await house.attending.speak(" ")
        house.app.announcer = SimpleNamespace(say=silence)
        with pytest.raises(EngineFailed, match="the voice said nothing"):
            await house.attending.speak("Hello.")
        house.attending._live = None
        with pytest.raises(EngineFailed, match="the robot has no loudspeaker now: it is being started"):
            await house.attending.speak("Hello.")

    played(tmp_path, Scene(sound((0.1, False)), hearing=HEARING), story)
