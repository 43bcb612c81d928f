"""Leads a conversation: what is heard, what is answered, and who gives way; the table in `dialog.turn` decides, this does.

    listener.events() -> turn.step -> open, hold, duck, pause, interrupt ... -> Exchange, speaker

An exchange runs by itself from its first chunk to the end of its answer. Usually there is one; while the robot is interrupted there are
two, the answer that was being said and the utterance that interrupts it, until words decide which goes on.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from agent.dialog.exchange import Exchange, Why
from agent.dialog.exchange.plan import Plan, vouches
from agent.dialog.exchange.robot import Robot
from agent.dialog.live.asking import ask_ends, may_ask
from agent.dialog.live.ears import LiveEars
from agent.dialog.live.load import LEVEL_MAX, NO_MODEL, NO_SPECULATION, Lag, Load
from agent.dialog.live.remembering import agrees, remember
from agent.dialog.live.running import Running
from agent.dialog.live.sessions import Sessions
from agent.dialog.live.watching import Watching
from agent.dialog.session import Session
from agent.dialog.turn import WAITS_FOR_WORDS, Action, Floor, Happening, step
from agent.dialog.wording.intents import polite_noise
from agent.dialog.wording.unfinished import unfinished
from agent.errors import LedgerFull, VoxmeterError, plainly
from agent.ports import Began, Chunk, Ended, FalseStart, Listener, Lull, Onset, Resumed, Sounding, Speaker, SpeechEvent
from agent.tasks import Errands
from agent.values import Speech

LOOK_SECONDS = 0.5
"""Between two looks at the load and at the silence."""

STARTLED_SECONDS = 0.2
"""So long a loud noise may take to become the beginning of speech."""


class Conversation:
    """One robot and whoever stands before it."""

    def __init__(self, robot: Robot, listener: Listener, speaker: Speaker, watching: Watching, *, silence_s: float) -> None:
        """`silence_s` ends a session."""
        self._robot = robot
        self._listener = listener
        self._speaker = speaker
        self._watching = watching
        self.clock = robot.clock
        self._load, self._lag = Load(), Lag()
        self._sessions = Sessions(robot.clock, robot.manner.language, silence_s)
        self.floor: Floor = "listening"
        self.running: list[Running] = []  # exchanges under way, the newest last
        self._closing: set[asyncio.Future[Any]] = set()  # exchanges that were given up and still settle
        self._errands = Errands()
        self._announcing = False  # what sounds is no answer, and nobody has stopped it
        self._owed: Why | None = None  # an answer came to nothing while somebody seemed to speak; if he did not, it is apologised for
        self._over = False
        self._does: dict[Action, Callable[[], None]] = {
            "open": self._open,
            "interrupt": lambda: self._give_up(self.running[: max(at for at, one in enumerate(self.running) if not one.doubted)]),
            "hold": lambda: self._hold(self.running[-1:], on=True),
            "release": lambda: self._hold(self.running[-1:], on=False),
            "duck": lambda: speaker.duck(on=True),
            "raise": lambda: speaker.duck(on=False),
            "pause": lambda: speaker.pause(on=True),
            "go_on": lambda: speaker.pause(on=False),
        }
        self.looks = 0  # grows as long as somebody leads, every LOOK_SECONDS

    async def run(self) -> None:
        """Returns when the microphone's sound has ended and the last answer has sounded; stopped before, it settles what is under way."""
        looking = asyncio.create_task(self._look())
        try:
            async with contextlib.aclosing(self._listener.events()) as events:
                async for event in events:
                    self._lag.note(self._listener.lag_ms, self.clock.monotonic())
                    self._take(event)
            while self.running:
                await asyncio.wait([one.task for one in self.running])
                await self.clock.sleep(0)  # lets the callbacks of their ends run
        finally:
            looking.cancel()
            await self._close()

    async def _close(self) -> None:
        self._over = True
        self._give_up(self.running[:])
        await self._errands.aclose()
        while self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)

    @property
    def session(self) -> Session:
        """The present one."""
        return self._sessions.now

    @property
    def idle(self) -> bool:
        """Nobody has the floor, nothing is being answered and nothing apologised for."""
        return self.floor == "listening" and not self.running and not self._errands

    @property
    def quiet_s(self) -> float:
        """Seconds since somebody had the floor."""
        return self._sessions.calm_s if self.floor == "listening" else 0.0

    def _take(self, event: SpeechEvent) -> None:
        newest = self.running[-1].ears if self.running else None
        match event:
            case Onset():
                self._happen("onset")
            case FalseStart():
                self._happen("false_start")
            case Began(chunks):
                self._happen("began")
                for chunk in chunks:
                    self.running[-1].ears.feed(chunk)
            case Chunk(chunk) if newest is not None:
                newest.feed(chunk)
            case Lull(chunk) if newest is not None:
                newest.lulled = True
                newest.feed(chunk)
                self._happen("lull")
            case Resumed() if newest is not None:
                newest.lulled = False
                self._happen("resumed")
            case Ended(_, quiet_ms) if newest is not None and newest.ended_at is None:
                newest.end(self.clock.monotonic() - (quiet_ms + self._listener.lag_ms) / 1000)
                self._happen("ended")
            case Ended():
                self._happen("false_start")  # whoever was not listened to any more

    async def announce(self, pieces: Sequence[Speech]) -> int:
        """Says what nobody asked for, to be interrupted as an answer is: returns how many characters of it were heard. It says nothing
        while somebody has the floor; the silence that ends a session goes on meanwhile."""
        if self.floor != "listening" or self._over:
            return 0
        soundings, self._announcing = list[Sounding](), True
        try:
            soundings += map(self._speaker.play, pieces)
            self._happen("sounded")
            await self._speaker.quiet()
        finally:
            if self._announcing:  # to its end, or whoever announces was stopped
                self._speaker.stop()
                self._happen("done")
                self._announcing = False
        return sum(one.heard for one in soundings)

    def startled(self) -> None:
        """It is louder than the robot itself: lowers the voice at once, and raises it again unless somebody really begins to speak."""
        if self.floor == "speaking":
            self._happen("onset")
            self._errands.begin(self._calm_down())

    async def _calm_down(self) -> None:
        await self.clock.sleep(STARTLED_SECONDS)
        if self.floor == "doubting" and not self._listener.stirring:
            self._happen("false_start")

    def _happen(self, happening: Happening) -> None:
        """Goes where the table says and does what it says."""
        before = self.floor
        self.floor, actions = step(before, happening)
        for action in actions:
            self._does[action]()
        if self.floor != before:
            self._listener.robot_speaks = self.floor in ("speaking", "doubting")
            self._watching.floor(self.floor)
            self._lag.attend(self.clock.monotonic(), idle=self.floor == "listening")
        if self.floor == "listening" != before:
            self._sessions.fell_quiet(announced=self._announcing)

    def _open(self) -> None:
        """Begins to recognise a new utterance; its answer waits until what it interrupts is off the engines."""
        ears = LiveEars()
        self._sessions.renew()
        exchange = Exchange(
            self._robot, ears, self._speaker, self.session,
            heard_words=lambda words, until_ms: self._words(running, words, until_ms),
            sounded=lambda: self._sounded(running),
            planned=lambda plan, until_ms: self._planned(running, plan, until_ms),
            after=lambda: self._closing - {running.task},
            before=self.running[-1].exchange if self.running else None,
        )  # fmt: skip
        running = Running(exchange, ears, asyncio.create_task(exchange.run()), self.floor in WAITS_FOR_WORDS)
        self.running.append(running)
        running.task.add_done_callback(lambda _: self._done(running))

    def _words(self, running: Running, words: str, until_ms: int | None) -> bool:
        """What the words so far change; final ones cover no certain sound. False where they are not to be answered, or not yet."""
        language, final = self._robot.manner.language, until_ms is None
        more = not final and unfinished(words, language)
        if not final and running.ears.ended_at is None:
            self._listener.hint(unfinished=more, until_ms=until_ms)
        if running.doubted and running in self.running:
            before = self.running[: self.running.index(running)]
            if not words or (polite_noise(words, language) and not agrees(words, before, self.session, language)):
                if final:
                    self._owed = running.exchange.came_to_nothing(None) or self._owed
                    self._part(running)
                    self._goes_on()
                return False
            self._means(running)
        return final or not (more or self._load.level >= NO_SPECULATION)

    def _means(self, running: Running) -> None:
        """It is no noise: what was being said gives way. Its own answer waits where another utterance has begun since."""
        running.doubted = False
        if overtaken := running is not self.running[-1]:
            running.exchange.hold(on=True)
        self._happen("overtaken" if overtaken else "words")
        if running.ears.ended_at is not None:
            self._happen("ended")

    def _planned(self, running: Running, plan: Plan, until_ms: int | None) -> None:
        """Words that are known to be a whole question, or small talk, end a turn sooner than any model of sound dares to."""
        if until_ms is None or running.ears.ended_at is not None:
            return
        if vouches(plan):
            self._listener.hint(unfinished=False, complete=True, until_ms=until_ms)
        elif not self._closing and may_ask(plan, self._load.level, [one.exchange.calls for one in self.running]):
            self._errands.begin(ask_ends(self._robot, self.session, running.exchange.question, self._listener, until_ms))

    def _goes_on(self) -> None:
        """If it is known that nobody interrupted after all; what was being said may have ended meanwhile."""
        if any(one.doubted for one in self.running):
            return
        owed, self._owed = self._owed, None
        if owed is not None and self._announcing and not self.running:
            self._give_up([])  # nobody knows what was said, and this can wait
        self._happen("stirs" if self._listener.stirring else "nothing")
        if not self.running and not self._announcing:
            self._happen("done")
            self._apologise(owed)

    def _sounded(self, running: Running) -> None:
        if running in self.running[-1:]:
            self._happen("sounded")

    def _done(self, running: Running) -> None:
        """An exchange has ended by itself; one that was given up is not among those under way any more."""
        failure = None if running.task.cancelled() else running.task.exception()
        running.exchange.recognised.set()  # or its words will never be known; who waits for them waits no longer
        if failure is not None and not isinstance(failure, LedgerFull):  # whatever it was, it cost a turn and not the robot
            self._watching.say(str(failure) if isinstance(failure, VoxmeterError) else f"a turn failed: {plainly(failure)}")
        if running in self.running:
            self.running.remove(running)
            remember(self.session, running.exchange, self._robot.manner, ended=True)
            why = running.exchange.came_to_nothing(failure)
            if self.floor in WAITS_FOR_WORDS:
                self._owed = why or self._owed
                self._goes_on()
            else:
                self._happen("done")
                self._apologise(why)
        if running.exchange.complete:
            answer = running.exchange.answer
            self._watching.turn(running.exchange.told(), answer.plan if answer else None)

    def _apologise(self, why: Why | None) -> None:
        if why is not None:
            self._errands.begin(self._watching.apologise(why, self.announce))

    def _give_up(self, those: Sequence[Running]) -> None:
        """Ends exchanges for good. What was heard of their answers stays in the conversation."""
        self._hold(those, on=True)  # what is made from now on must not sound
        self._announcing, self._owed = False, None
        self._speaker.stop()
        self._speaker.pause(on=False)
        self._speaker.duck(on=False)
        for running in those:
            self._part(running)
            remember(self.session, running.exchange, self._robot.manner, ended=False)
            running.task.cancel()

    def _part(self, running: Running) -> None:
        """It settles by itself from here on."""
        self.running.remove(running)
        self._closing.add(running.task)
        running.task.add_done_callback(self._closing.discard)

    def _hold(self, those: Sequence[Running], *, on: bool) -> None:
        for running in those:
            running.exchange.hold(on=on)

    async def _look(self) -> None:
        """Watches the load, and ends a session after silence."""
        while True:
            await self.clock.sleep(LOOK_SECONDS)
            self.looks += 1
            self._listener.look()
            before, level = self._load.level, self._load.look(self._lag.taken(), int(self._speaker.health().get("gaps", 0)))
            self.session.hurried, self._listener.sparing = level >= NO_MODEL, level
            if level != before:
                self._watching.say(f"load: level {level} of {LEVEL_MAX}")
            if not self.running:
                self._sessions.renew(quiet=self.floor == "listening" or self._announcing)
