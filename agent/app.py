"""The composition root: a device profile becomes engines, books and a pipeline; nobody else knows who implements what."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import profile as profiles
from agent.audio import wav
from agent.audio.ears import FrameEars
from agent.clock import Clock
from agent.dialog.announce import Announcer
from agent.dialog.books import Books
from agent.dialog.context import MESSAGE_TOKENS
from agent.dialog.pipeline import Manner, Pipeline, Play, Stages
from agent.dialog.telling import told
from agent.engines import ENGINES
from agent.engines.host import Hosted, start
from agent.errors import BadInput, BadProfile, BadRateCard, LedgerFull, VoxmeterError
from agent.metering import cards, tokens
from agent.metering.cards import Cards
from agent.metering.ratecard import RateCard
from agent.ports import EngineSettings, Vad
from agent.profile import Engine, Profile
from agent.shipped import shipped
from agent.store.ledger import SqliteLedger
from agent.store.ledger.chain import Identity
from agent.store.ledger.space import MEBIBYTE, Limits
from agent.store.words import Words
from agent.values import STAGES, Prompt, Speech, Stage, Turn
from agent.weights import catalog, verify
from agent.weights.catalog import Catalog, Model

QUESTION_TOKENS_MIN = 64
"""Room for a question of about forty words; a robot that can't take one is misconfigured."""

OpenLedger = Callable[[Profile, Path, Clock], SqliteLedger]

PARTS = (*STAGES, "vad")
"""Tables of a profile that name an engine."""


@dataclass(frozen=True, slots=True)
class App:
    """A robot ready for a turn."""

    profile: Profile
    pipeline: Pipeline
    announcer: Announcer
    books: Books
    ledger: SqliteLedger
    words: Words | None
    """Where what is said is kept; None where it is not."""
    engines: dict[str, Hosted[Any, Any]]
    """By the profile's table: asr, llm, tts, vad."""
    manner: Manner
    clock: Clock

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
            await self.announcer.say(self.profile.dialog.apology, play, session_id)
            raise LedgerFull("the ledger is full, no new turn is taken", "let the robot sync, or raise [ledger] quota_mb")
        vad: Vad = self.engines["vad"]
        turn = await self.pipeline.turn(FrameEars(frames, vad, self.profile.hearing, self.clock), play, session_id)
        if self.words is not None and turn.transcript:
            keeping = asyncio.ensure_future(asyncio.to_thread(self.words.keep, turn.session_id, turn.turn_id, turn.transcript, turn.reply))
            try:
                await asyncio.shield(keeping)
            finally:
                await keeping  # whoever stops the robot waits for it: the file must not be closed under it
        return turn


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
async def opened(profile: Profile, state: Path, models: Path, clock: Clock, open_ledger: OpenLedger | None = None) -> AsyncIterator[App]:
    """Checks names, prices and weights, takes the ledger, starts the engines; closes all of it in the end.

    Raises a VoxmeterError for whatever is wrong with any of them, before anything is heard.
    """
    known = catalog.read()
    check_names(profile, known)
    versions = read_cards(profile)
    settings = {part: _settings(profile, part, known, models) for part in PARTS}
    counters = _counters(profile, versions.versions[-1], known, models)
    check_room(profile, settings["llm"], counters["llm"])
    async with contextlib.AsyncExitStack() as stack:
        ledger = (open_ledger or ledger_of)(profile, state, clock)
        stack.push_async_callback(ledger.aclose)
        engines = await _started(settings, clock, stack)
        names = {stage: counter.name for stage, counter in counters.items()} | {"asr": _asr_vocabulary(settings["asr"])}
        books = Books(ledger, versions, profile.billing.time_zone, names, clock)
        await books.recover()
        await _made_room(ledger)
        stack.push_async_callback(_stopped, asyncio.create_task(_salvaging(ledger, books)))
        words = Words(state, clock) if profile.words.keep else None
        if words is not None:
            stack.callback(words.close)
        stages = Stages(engines["asr"], engines["llm"], engines["tts"])
        manner = _manner(profile, counters, clock)
        announcer = Announcer(engines["tts"], books, manner, clock)
        yield App(profile, Pipeline(stages, books, manner, clock), announcer, books, ledger, words, engines, manner, clock)


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


async def _stopped(task: "asyncio.Task[Any]") -> None:
    """Ends background work; what it had not finished, the next start does again."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _started(settings: dict[str, EngineSettings], clock: Clock, stack: contextlib.AsyncExitStack) -> dict[str, Hosted[Any, Any]]:
    """All engines, started side by side; none is left running if one fails."""
    tasks = {part: asyncio.create_task(start(one, clock)) for part, one in settings.items()}
    done = await asyncio.gather(*tasks.values(), return_exceptions=True)
    for host in done:
        if not isinstance(host, BaseException):
            stack.push_async_callback(host.aclose)
    for failure in done:
        if isinstance(failure, BaseException):
            raise failure
    return {part: task.result() for part, task in tasks.items()}


def check_names(profile: Profile, known: Catalog) -> None:
    """Raises BadProfile for an engine or a model that does not exist, or that does not fit the other."""
    for part in PARTS:
        chosen: Engine = getattr(profile, part)
        fitting = [name for name in ENGINES if name.startswith(f"{part}_")]
        if chosen.engine not in fitting:
            raise BadProfile(f"[{part}] engine {chosen.engine!r} does not exist", f"there are: {', '.join(fitting)}")
        if _scripted(chosen):
            continue
        able = [model.name for model in known.model if model.engine == chosen.engine]
        if chosen.model not in able:
            raise BadProfile(f"[{part}] {chosen.engine} has no model {chosen.model!r}", f"there are: {', '.join(able)}")


def read_cards(profile: Profile) -> Cards:
    """The profile's rate card in all its versions. Raises BadProfile if one can't price what the profile runs."""
    name = profile.billing.rate_card
    path = Path(name) if "/" in name or name.endswith(".toml") else shipped("device_profiles") / "rate_cards" / f"{name}.toml"
    versions = cards.read(path)
    cards.zone_of(profile.billing.time_zone)
    if len({card.tokenizer for card in versions.versions}) > 1:
        raise BadRateCard(f"{path}: versions count with different tokenizers", "give a card that counts otherwise an id of its own")
    for card, stage in itertools.product(versions.versions, STAGES):
        model = getattr(profile, stage).model
        if missing := card.missing(stage, model, "device"):
            raise BadProfile(f"rate card {card.name} has no price for {stage} {missing} of {model} on device", f"add a [[price]] to {path}")
    return versions


def _settings(profile: Profile, part: str, known: Catalog, models: Path) -> EngineSettings:
    chosen: Engine = getattr(profile, part)
    options = dict(chosen.options)
    if part == "llm":
        options["system_prompt"] = profile.dialog.system_prompt.strip()
    files = {} if _scripted(chosen) else verify.paths(known.find(chosen.model), models)
    return EngineSettings(chosen.engine, chosen.model, files, chosen.threads, options)


def _counters(profile: Profile, card: RateCard, known: Catalog, models: Path) -> dict[Stage, tokens.TokenCounter]:
    """What counts the tokens of the language model and of text given to the voice."""
    words = tokens.TokenCounter("words", str.split, str)  # type: ignore[arg-type]
    llm = words if _scripted(profile.llm) else counter(profile.llm.model, known, models)
    if _scripted(profile.tts):
        return {"llm": llm, "tts": words}
    return {"llm": llm, "tts": llm if card.tokenizer == profile.llm.model else counter(card.tokenizer, known, models)}


def _scripted(engine: Engine) -> bool:
    """It follows a script and needs no weights; its tokens are words."""
    return engine.engine.endswith("_scripted")


def counter(name: str, known: Catalog, models: Path) -> tokens.TokenCounter:
    """The vocabulary of a model or a service, from disk. Raises BadWeights if there is none."""
    model = known.counting(name)
    return tokens.load(model.name, verify.paths(model, models)[model.vocabulary])


def check_room(profile: Profile, settings: EngineSettings, counted: tokens.TokenCounter) -> None:
    """Raises BadProfile where the instructions leave no room for a question, or the model has less context than the profile says."""
    llm = profile.llm
    if "generation.json" in settings.files:
        held = json.loads(settings.files["generation.json"].read_text())["context"]
        if llm.context_tokens > held:
            raise BadProfile(f"[llm] context_tokens is {llm.context_tokens} and {llm.model} has {held}", f"set it to {held} or less")
    instructions = counted.count(profile.dialog.system_prompt.strip())
    room = llm.context_tokens - llm.max_tokens - instructions - 2 * MESSAGE_TOKENS
    if room < QUESTION_TOKENS_MIN:
        raise BadProfile(
            f"the system prompt is {instructions} tokens and leaves {room} of {llm.context_tokens} for a question",
            f"shorten it, or max_tokens, until {QUESTION_TOKENS_MIN} are left",
        )


def _asr_vocabulary(settings: EngineSettings) -> str:
    """Names what counts a recogniser's tokens: its own vocabulary, inside the engine."""
    file = settings.files.get("tokenizer.bin")
    return f"{settings.model}@{verify.sha256_of(file)[: tokens.DIGEST_DIGITS]}" if file else settings.model


def _manner(profile: Profile, counters: dict[Stage, tokens.TokenCounter], clock: Clock) -> Manner:
    llm = profile.llm
    prompt = Prompt((), llm.max_tokens, llm.temperature, llm.top_p, llm.repetition_penalty, llm.stop, seed=clock.seed())
    return Manner(
        system_prompt=profile.dialog.system_prompt.strip(),
        prompt=prompt,
        prompt_tokens_max=llm.context_tokens - llm.max_tokens,
        count=counters["llm"].count,
        count_spoken=counters["tts"].count,
    )


def models_of(name: str, known: Catalog) -> list[Model]:
    """What a profile runs on, what its rate card counts with, and the vocabularies of the cloud services."""
    profile = profiles.load(name)
    check_names(profile, known)
    chosen = [getattr(profile, part) for part in PARTS]
    names = [engine.model for engine in chosen if not _scripted(engine)]
    if not _scripted(profile.tts):
        names.append(known.counting(read_cards(profile).versions[-1].tokenizer).name)
    names += [model.name for model in known.model if model.role == "vocabulary"]
    return [known.find(name) for name in dict.fromkeys(names)]
