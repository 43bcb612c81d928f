"""Fits a profile to what there is: its names to the registries, its prices to its stages, its models to their files on disk."""

import itertools
import json
from pathlib import Path

from agent import profile as profiles
from agent.dialog.exchange.context import MESSAGE_TOKENS
from agent.dialog.wording.phrases import opening
from agent.engines import ENGINES, TELLS_ENDS
from agent.errors import BadProfile, BadRateCard
from agent.metering import cards, tokens
from agent.metering.cards import Cards
from agent.metering.ratecard import RateCard
from agent.ports import EngineSettings
from agent.profile import Engine, Profile
from agent.shipped import shipped
from agent.values import STAGES, Message, Stage
from agent.weights import verify
from agent.weights.catalog import Catalog, Model

QUESTION_TOKENS_MIN = 64
"""Room for a question of about forty words; a robot that can't take one is misconfigured."""

PARTS = (*STAGES, "vad")
"""Tables of a profile that name an engine."""

OPTIONAL_PARTS = ("eot", "embed")
"""The same for tables that a profile may leave out: the end-of-turn model, and what finds FAQ entries by meaning."""


def parts_of(profile: Profile, *, live: bool = True) -> tuple[str, ...]:
    """Tables of this profile that name an engine. Without a live conversation nobody asks whether a turn is over."""
    held = (part for part in OPTIONAL_PARTS if getattr(profile, part) is not None)
    return (*PARTS, *(part for part in held if live or part != "eot"))


def opening_of(profile: Profile) -> tuple[Message, ...]:
    """What the language model is told first. Where a FAQ has the facts it makes small talk, and is shown how."""
    system = profile.dialog.system_prompt.strip()
    if not profile.dialog.faq:
        return (Message("system", system),)
    shown = opening(profile.dialog.language)
    return (Message("system", system), *shown[1:]) if system else shown


def faq_path(profile: Profile) -> Path:
    """The site's FAQ: a path, or the name of a shipped one."""
    name = profile.dialog.faq
    return Path(name) if "/" in name or name.endswith(".toml") else shipped("device_profiles") / "faq" / f"{name}.toml"


def check_names(profile: Profile, known: Catalog) -> None:
    """Raises BadProfile for an engine or a model that does not exist, or that does not fit the other."""
    for part in parts_of(profile):
        chosen: Engine = getattr(profile, part)
        fitting = [name for name in ENGINES if name.startswith(f"{part}_")]
        if chosen.engine not in fitting:
            raise BadProfile(f"[{part}] engine {chosen.engine!r} does not exist", f"there are: {', '.join(fitting)}")
        if is_scripted(chosen):
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


def settings_of(profile: Profile, part: str, known: Catalog, models: Path) -> EngineSettings:
    chosen: Engine = getattr(profile, part)
    options = dict(chosen.options)
    if part == "llm":
        options["opening"] = [(message.role, message.text) for message in opening_of(profile)]
    files = {} if is_scripted(chosen) else verify.paths(known.find(chosen.model), models)
    return EngineSettings(chosen.engine, chosen.model, files, chosen.threads, options, chosen.cores)


def counters_of(profile: Profile, card: RateCard, known: Catalog, models: Path) -> dict[Stage, tokens.TokenCounter]:
    """What counts the tokens of the language model and of text given to the voice."""
    words = tokens.TokenCounter("words", str.split, str)  # type: ignore[arg-type]
    llm = words if is_scripted(profile.llm) else counter(profile.llm.model, known, models)
    if is_scripted(profile.tts):
        return {"llm": llm, "tts": words}
    return {"llm": llm, "tts": llm if card.tokenizer == profile.llm.model else counter(card.tokenizer, known, models)}


def tells_ends(profile: Profile) -> bool:
    """Its language model can be asked whether a customer has said all; in another language than its own it would only guess."""
    return profile.llm.engine in TELLS_ENDS and profile.dialog.language == "en"


def is_scripted(engine: Engine) -> bool:
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
    instructions = sum(counted.count(message.text) + MESSAGE_TOKENS for message in opening_of(profile))
    room = llm.context_tokens - llm.max_tokens - instructions - MESSAGE_TOKENS
    if room < QUESTION_TOKENS_MIN:
        raise BadProfile(
            f"the system prompt is {instructions} tokens and leaves {room} of {llm.context_tokens} for a question",
            f"shorten it, or max_tokens, until {QUESTION_TOKENS_MIN} are left",
        )


def asr_vocabulary(settings: EngineSettings) -> str:
    """Names what counts a recogniser's tokens: its own vocabulary, inside the engine."""
    file = settings.files.get("tokenizer.bin")
    return f"{settings.model}@{verify.sha256_of(file)[: tokens.DIGEST_DIGITS]}" if file else settings.model


def models_of(name: str, known: Catalog) -> list[Model]:
    """What a profile runs on, what its rate card counts with, and the vocabularies of the cloud services."""
    profile = profiles.load(name)
    check_names(profile, known)
    chosen = [getattr(profile, part) for part in parts_of(profile)]
    names = [engine.model for engine in chosen if not is_scripted(engine)]
    if not is_scripted(profile.tts):
        names.append(known.counting(read_cards(profile).versions[-1].tokenizer).name)
    names += [model.name for model in known.model if model.role == "vocabulary"]
    return [known.find(name) for name in dict.fromkeys(names)]
