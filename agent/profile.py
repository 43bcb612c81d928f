"""The device profile: TOML and environment become frozen models, or one line that says what is wrong and where.

A key of the environment overrides one of the file: `VOXMETER_LLM__THREADS=1`. Shape is checked here; whether an engine, model
or rate card of that name exists is checked by `app`, which knows the registries.
"""

import difflib
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from agent.errors import BadProfile
from agent.shipped import shipped

DEFAULT = "simulated"
ENVIRONMENT_PREFIX = "VOXMETER_"

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
"""A name that may stand in a topic, a URN and a path."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Device(_Part):
    """Who this robot is."""

    tenant: Word
    id: Word


class Billing(_Part):
    """Who pays, and the prices the device estimates with."""

    account: Word
    rate_card: str
    """Path of a card or of a folder with its versions, or the name of a shipped one."""
    time_zone: str = "UTC"
    """The account's, an IANA name: by its calendar a version of the card comes into force."""


class Engine(_Part):
    """Which engine runs a stage, on which model."""

    engine: Word
    model: Word
    threads: Annotated[int, Field(ge=1, le=64)] = 1
    cores: tuple[Annotated[int, Field(ge=0, le=1023)], ...] = ()
    """Cores it keeps to, as far as the machine has them; empty: any. Engines that work at once are quicker on a core each."""
    options: dict[str, Any] = {}
    """Passed to the engine as they are."""


class Llm(Engine):
    """The language model and how it may answer."""

    context_tokens: Annotated[int, Field(ge=256, le=8192)] = 2048
    """Prompt and reply together; not more than the model was converted for."""
    max_tokens: Annotated[int, Field(ge=1, le=1024)] = 64
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    repetition_penalty: Annotated[float, Field(ge=1, le=2)] = 1.0
    stop: tuple[str, ...] = ()


class Hearing(_Part):
    """When sound counts as speech. Probabilities of the voice activity detector, times in milliseconds."""

    speech_above: Annotated[float, Field(gt=0, lt=1)] = 0.5
    silence_below: Annotated[float, Field(gt=0, lt=1)] = 0.35
    speech_ms_min: Annotated[int, Field(ge=32, le=2000)] = 96
    pause_ms: Annotated[int, Field(ge=96, le=5000)] = 320
    before_ms: Annotated[int, Field(ge=0, le=2000)] = 320
    """Sound kept from before the speech was noticed."""
    lull_ms: Annotated[int, Field(ge=32, le=1000)] = 64
    """Silence after which the turn may be over: the recogniser is asked, and the end-of-turn model."""
    whole_ms: Annotated[int, Field(ge=64, le=3000)] = 288
    """Silence that ends a turn whose sentence is complete."""
    window_ms: Annotated[int, Field(ge=64, le=3000)] = 992
    """Silence that ends a turn while nobody knows whether the sentence is complete."""
    open_ms: Annotated[int, Field(ge=64, le=5000)] = 1200
    """Silence that ends a turn whose sentence is not complete."""
    whole_above: Annotated[float, Field(gt=0, lt=1)] = 0.983
    """Probability from which the end-of-turn model's word counts as complete."""
    utterance_ms_max: Annotated[int, Field(ge=1000, le=120_000)] = 30_000
    """A monologue is answered after this long."""
    barge_in_ms: Annotated[int, Field(ge=32, le=2000)] = 192
    """Sustained speech that stops the robot's own; a cough is shorter."""
    barge_in_above: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Probability from which a chunk is speech while the robot speaks."""
    push_to_talk: bool = False
    """Listen only while a key is held."""


class Sound(_Part):
    """Microphone and loudspeaker."""

    input: str = ""
    """The microphone: its name or a part of it; empty takes the system's own choice, and so does a name that is not there."""
    output: str = ""
    """The loudspeaker, likewise."""
    block_ms: Annotated[int, Field(ge=5, le=100)] = 10
    """Sound per call of the sound system."""
    latency_ms: Annotated[int, Field(ge=5, le=500)] = 20
    """Buffered in either direction, as asked of the sound system."""
    echo_cancellation: bool = True
    noise_suppression: bool = True
    gain_control: bool = True
    duck_db: Annotated[float, Field(ge=0, le=60)] = 12
    """By how much the voice is lowered while it is not sure whether somebody interrupts."""


class Dialog(_Part):
    """What the robot knows and how it behaves."""

    system_prompt: Annotated[str, Field(max_length=20_000)] = ""
    """Instructions of the language model. With a FAQ it only makes small talk, and may be left to the shipped ones."""
    apology: Annotated[str, Field(min_length=1, max_length=500)] = "I am sorry, I can't answer just now. Please ask my colleagues."
    """Said when there is no room left for the records of a turn."""
    language: Literal["en", "zh", "id"] = "en"
    """What customers speak; decides the word lists, and how numbers are read aloud."""
    faq: str = ""
    """The site's FAQ, a path or the name of a shipped one; with it facts come from there alone, word for word. Empty: the language
    model answers by itself."""
    session_silence_s: Annotated[int, Field(ge=5, le=3600)] = 45
    """A conversation ends after this much silence."""
    history_messages_max: Annotated[int, Field(ge=0, le=100)] = 6
    """Messages of a conversation that the language model is shown, as far as they fit."""
    speculations_max: Annotated[int, Field(ge=0, le=10)] = 2
    """Answers begun before the turn is surely over, per turn."""
    block_words: tuple[str, ...] = ()
    """Words of this site that are never spoken, sent or kept."""


class Ledger(_Part):
    """What the books may take of the disk, in MiB."""

    quota_mb: Annotated[int, Field(ge=1, le=1_000_000)] = 512
    """Of the ledger's file; 512 hold about 500,000 records."""
    free_mb_min: Annotated[int, Field(ge=0, le=1_000_000)] = 64
    """Less free than this on the disk is pressure, however small the ledger."""
    reserve_mb: Annotated[int, Field(ge=0, le=10_000)] = 16
    """Kept free for the records of what is running when the disk is full."""


class Words(_Part):
    """What is done with what was said. It is never on the books."""

    keep: bool = False
    """Keep it beside the books, encrypted with a key per session; `voxmeter privacy forget` destroys the key."""


class Endpoint(_Part):
    """Where the backend, or its broker, listens."""

    host: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    port: Annotated[int, Field(ge=1, le=65535)]
    plain: bool = False
    """Without TLS; only taken for this machine itself."""


class Sync(_Part):
    """How records reach the billing backend: over MQTT first, over HTTPS while that fails. Neither: they stay on the robot."""

    mqtt: Endpoint | None = None
    https: Endpoint | None = None


class Profile(BaseSettings):
    """A device profile."""

    model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    device: Device
    billing: Billing
    asr: Engine
    llm: Llm
    tts: Engine
    vad: Engine
    eot: Engine | None = None
    """Says whether a customer has finished; without it a fixed window does."""
    embed: Engine | None = None
    """Finds FAQ entries by meaning; without it by words alone."""
    hearing: Hearing = Hearing()
    sound: Sound | None = None
    """With this table the service listens and speaks; `talk` does in any case."""
    dialog: Dialog
    ledger: Ledger = Ledger()
    words: Words = Words()
    sync: Sync = Sync()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file; nothing else is read."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def find(name: str) -> Path:
    """The file of a profile given by path or by the name of a shipped one."""
    if "/" in name or name.endswith(".toml"):
        return Path(name)
    path = shipped("device_profiles") / f"{name}.toml"
    if not path.is_file():
        names = sorted(file.stem for file in path.parent.glob("*.toml"))
        raise BadProfile(f"no device profile is called {name!r}", _suggest(name, names))
    return path


def load(name: str = DEFAULT) -> Profile:
    """Reads a profile. Raises BadProfile: file, line, what is wrong, and the nearest thing that is right."""
    path = find(name)
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        raise BadProfile(f"{path}: {error.strerror}", "name a readable device profile") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadProfile(f"{path}: not TOML: {error}") from error
    _check_keys(path, text, tables)
    try:
        return Profile(**tables)
    except SettingsError as error:
        raise BadProfile(
            f"environment {ENVIRONMENT_PREFIX}…: {str(error).splitlines()[0]}", "lists and tables are given as JSON"
        ) from error
    except ValidationError as error:
        raise _explained(error.errors()[0], path, text) from error


def _check_keys(path: Path, text: str, tables: dict[str, Any]) -> None:
    """Tables nobody knows, in the file or in the environment; the models see only those that exist."""
    known = list(Profile.model_fields)
    for name in tables:
        if name not in known:
            raise BadProfile(f"{path}:{line_of(text, [name]) or 1}: unknown key {name}", _suggest(name, known))
    for variable in os.environ:
        table = variable.removeprefix(ENVIRONMENT_PREFIX).split("__")[0].lower()
        if variable.startswith(ENVIRONMENT_PREFIX) and "__" in variable and table not in known:
            raise BadProfile(f"environment {variable}: unknown key {table}", _suggest(table, known))


def _explained(error: Any, path: Path, text: str) -> BadProfile:
    place = [str(part) for part in error["loc"]]
    line = next((found for end in range(len(place), 0, -1) if (found := line_of(text, place[:end]))), None)
    variable = f"{ENVIRONMENT_PREFIX}{'__'.join(place).upper()}"
    where = f"environment {variable}" if variable in os.environ or line is None else f"{path}:{line}"
    key = ".".join(place)
    if error["type"] == "extra_forbidden":
        return BadProfile(f"{where}: unknown key {key}", _suggest(place[-1], known_keys(place[:-1])))
    if error["type"] == "missing":
        return BadProfile(f"{path}: {key} is missing", f"add {place[-1]} to [{'.'.join(place[:-1])}]" if place[1:] else f"add [{key}]")
    return BadProfile(
        f"{where}: {key}: {error['msg'].lower()}", f"it is {error['input']!r}" if not isinstance(error["input"], dict) else ""
    )


def known_keys(place: list[str]) -> list[str]:
    """Keys the profile knows in a table."""
    model: type[BaseModel] = Profile
    for name in place:
        inner = model.model_fields[name].annotation if name in model.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)


def _suggest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def line_of(text: str, place: list[str]) -> int | None:
    """The line that sets a key, or that opens its table; None where the file has neither."""
    table, opened = "", None
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line):
            table = header[1].replace(" ", "").replace('"', "")
            if table == ".".join(place):
                opened = number
        elif assigned := re.match(r"""\s*["']?([A-Za-z0-9_.-]+)["']?\s*=""", line):
            key = f"{table}.{assigned[1]}".strip(".")
            if key == ".".join(place):
                return number
    return opened
