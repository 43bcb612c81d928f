"""The composition root: a device profile becomes engines, books and a pipeline; nobody else knows who implements what."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from agent import fitting, minds
from agent.audio import wav
from agent.audio.ears import FrameEars
from agent.clock import Clock
from agent.dialog.announce import Announcer
from agent.dialog.books import Books
from agent.dialog.exchange.robot import Manner, Robot, Stages
from agent.dialog.pipeline import Pipeline, Play
from agent.dialog.telling import told
from agent.dialog.wording.guard import Guard
from agent.dialog.wording.numbers import aloud
from agent.dialog.wording.phrases import Phrases, phrases
from agent.engines.host import Hosted
from agent.errors import BadInput, LedgerFull, VoxmeterError
from agent.metering import tokens
from agent.ports import EngineSettings, Vad
from agent.profile import Profile
from agent.store.ledger import SqliteLedger
from agent.store.ledger.chain import Identity
from agent.store.ledger.space import MEBIBYTE, Limits
from agent.store.words import Words
from agent.tasks import stopped
from agent.values import Prompt, Speech, Stage, Turn
from agent.weights import catalog

ANSWERING = ("llm", "tts")
"""Parts that a robot does not need to listen: a live conversation begins without them, and its first answer waits for them."""

HANDOFF = "event/handoff"
"""Topic of the event that calls a person, below the device's own."""

OpenLedger = Callable[[Profile, Path, Clock], SqliteLedger]


@dataclass(frozen=True, slots=True)
class App:
    """A robot ready for a turn."""

    profile: Profile
    robot: Robot
    pipeline: Pipeline
    announcer: Announcer
    ledger: SqliteLedger
    words: Words | None
    """Where what is said is kept; None where it is not."""
    engines: dict[str, Hosted[Any, Any]]
    """By the profile's table: asr, llm, tts, vad, and eot and embed where it has them."""
    clock: Clock
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Whoever keeps or forgets words has `words` to itself."""

    @property
    def books(self) -> Books:
        return self.robot.books

    @property
    def phrases(self) -> Phrases:
        """Of the language that is spoken here."""
        return phrases(self.profile.dialog.language)

    @property
    def apology(self) -> str:
        """For a turn there is no room for."""
        return self.profile.dialog.apology or self.phrases.apology_engine

    @property
    def manner(self) -> Manner:
        return self.robot.manner

    async def ask(self, frames: Iterable[bytes], out: Path | None, session_id: str = "") -> dict[str, Any]:
        """One turn; the spoken reply goes to the WAV `out`. Returns what `ask --json` prints. Raises LedgerFull after an apology."""
        spoken: list[Speech] = []
        try:
            turn = await self.hear(frames, spoken.append, session_id or self.clock.new_id())
        except LedgerFull:
            written(spoken, out)
            raise
        audio, problems = written(spoken, out)
        return told(turn, self.books.card, reply_audio=audio, problems=problems)

    async def hear(self, frames: Iterable[bytes], play: Play, session_id: str) -> Turn:
        """One turn out of ready frames (see `audio.wav.read`).

        Without room for its records it is refused: says so aloud, raises LedgerFull.
        """
        if not self.books.room():
            await self.announcer.say(self.apology, play, session_id)
            raise LedgerFull("the ledger is full, no new turn is taken", "let the robot sync, or raise [ledger] quota_mb")
        vad: Vad = self.engines["vad"]
        turn = await self.pipeline.turn(FrameEars(frames, vad, self.profile.hearing, self.clock), play, session_id)
        await self.keep(turn)
        return turn

    async def keep(self, turn: Turn) -> None:
        """Keeps what was said, where the site wants that, without what is a person's own."""
        if self.words is not None and turn.transcript:
            said = (self.manner.redacted(turn.transcript), self.manner.redacted(turn.reply))
            async with self.one_at_a_time:
                keeping = asyncio.ensure_future(asyncio.to_thread(self.words.keep, turn.session_id, turn.turn_id, *said))
                try:
                    await asyncio.shield(keeping)
                finally:
                    await keeping  # whoever stops the robot waits for it: the file must not be closed under it


def written(spoken: list[Speech], out: Path | None) -> tuple[str | None, list[str]]:
    """Writes what was spoken, if anything was and somebody wants it: the file's name, and what kept it from being written."""
    if out is None or not any(piece.pcm for piece in spoken):
        return None, []
    try:
        wav.write(out, spoken)
    except BadInput as error:  # the turn was had and is on the books; only its sound is lost
        return None, [str(error)]
    return str(out), []


@contextlib.asynccontextmanager
async def opened(
    profile: Profile, state: Path, models: Path, clock: Clock, open_ledger: OpenLedger | None = None, *, live: bool = False
) -> AsyncIterator[App]:
    """Checks names, prices and weights, takes the ledger, starts the engines; closes all of it in the end.

    `live`: with what only a live conversation needs. Raises a VoxmeterError for whatever is wrong with any of them, before
    anything is heard.
    """
    known = catalog.read()
    fitting.check_names(profile, known)
    versions = fitting.read_cards(profile)
    settings = {part: fitting.settings_of(profile, part, known, models) for part in fitting.parts_of(profile, live=live)}
    counters = fitting.counters_of(profile, versions.versions[-1], known, models)
    fitting.check_room(profile, settings["llm"], counters["llm"])
    async with contextlib.AsyncExitStack() as stack:
        ledger = (open_ledger or ledger_of)(profile, state, clock)
        stack.push_async_callback(ledger.aclose)
        engines = await _started(settings, clock, stack, ANSWERING if live else ())
        names = {stage: counter.name for stage, counter in counters.items()} | {"asr": fitting.asr_vocabulary(settings["asr"])}
        books = Books(ledger, versions, profile.billing.time_zone, names, clock)
        await books.recover()
        await _made_room(ledger)
        stack.push_async_callback(stopped, asyncio.create_task(_salvaging(ledger, books)))
        words = Words(state, clock) if profile.words.keep else None
        if words is not None:
            stack.callback(words.close)
        stages = Stages(engines["asr"], engines["llm"], engines["tts"])
        minding = await stack.enter_async_context(minds.minded(profile, state, engines.get("embed"), clock))
        manner = _manner(profile, counters, minding.guard, clock)
        ends = engines["llm"] if fitting.tells_ends(profile) else None
        robot = Robot(stages, books, manner, clock, minding.mind, call_person=_calling(ledger, profile), ends=ends)
        yield App(profile, robot, Pipeline(robot), Announcer(robot), ledger, words, engines, clock)


def ledger_of(profile: Profile, state: Path, clock: Clock) -> SqliteLedger:
    """The robot's ledger, whose owner this process becomes."""
    robot = Identity(profile.device.tenant, profile.device.id, profile.billing.account)
    quota, free, reserve = (size * MEBIBYTE for size in (profile.ledger.quota_mb, profile.ledger.free_mb_min, profile.ledger.reserve_mb))
    return SqliteLedger(state, robot, clock, Limits(quota, free, reserve))


async def _made_room(ledger: SqliteLedger) -> None:
    """A robot that is only ever asked single questions, and has no room, lets go a little at each start; a start must stay quick."""
    if not ledger.room():
        await ledger.tidy()


async def _salvaging(ledger: SqliteLedger, books: Books) -> None:
    """Brings back what damaged ledgers hold, now and whenever one is set aside. A disk that refuses lets the next start try."""
    while True:
        with contextlib.suppress(VoxmeterError):
            if await ledger.salvage(books.cut_off):
                await books.recover()  # what a damaged journal still told went on in the new one
        await ledger.damaged.wait()
        ledger.damaged.clear()


async def _started(
    settings: dict[str, EngineSettings], clock: Clock, stack: contextlib.AsyncExitStack, later: Sequence[str]
) -> dict[str, Hosted[Any, Any]]:
    """All engines, started side by side, those of `later` not waited for; none is left running if one fails."""
    engines: dict[str, Hosted[Any, Any]] = {part: Hosted(one, clock) for part, one in settings.items()}
    for engine in engines.values():
        engine.launch()
        stack.push_async_callback(engine.aclose)
    await asyncio.gather(*(engine.ready() for part, engine in engines.items() if part not in later))
    return engines


def _manner(profile: Profile, counters: dict[Stage, tokens.TokenCounter], guard: Guard, clock: Clock) -> Manner:
    llm, dialog = profile.llm, profile.dialog
    prompt = Prompt((), llm.max_tokens, llm.temperature, llm.top_p, llm.repetition_penalty, llm.stop, seed=clock.seed())
    return Manner(
        opening=fitting.opening_of(profile),
        prompt=prompt,
        prompt_tokens_max=llm.context_tokens - llm.max_tokens,
        count=counters["llm"].count,
        count_spoken=counters["tts"].count,
        language=dialog.language,
        read=lambda text: aloud(text, dialog.language),
        guard=lambda: guard.stream("spoken"),
        redacted=lambda text: guard.redact(text, "kept")[0],
        speculations_max=dialog.speculations_max,
        history_messages_max=dialog.history_messages_max,
    )


def _calling(ledger: SqliteLedger, profile: Profile) -> Callable[[str, str, str], Coroutine[Any, Any, None]]:
    """Asks for a person: an event that waits in the ledger's outbox. No word of the conversation is in it."""

    async def call_person(reason: str, session_id: str, turn_id: str) -> None:
        told = {"device": profile.device.id, "reason": reason, "session_id": session_id, "turn_id": turn_id}
        await ledger.post(HANDOFF, orjson.dumps(told))

    return call_person
