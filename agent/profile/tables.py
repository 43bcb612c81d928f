"""The tables of a device profile: what each key means, its unit and its bounds."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

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
    known_ms: Annotated[int, Field(ge=64, le=3000)] = 192
    """Silence that ends a turn whose words are known to be all: a question of the FAQ, small talk."""
    window_ms: Annotated[int, Field(ge=64, le=3000)] = 992
    """Silence that ends a turn while nobody knows whether the sentence is complete."""
    open_ms: Annotated[int, Field(ge=64, le=5000)] = 1200
    """Silence that ends a turn whose sentence is not complete."""
    whole_above: Annotated[float, Field(gt=0, lt=1)] = 0.99
    """Probability from which the end-of-turn model's word counts as complete."""
    ends_above: Annotated[float, Field(gt=0, lt=1)] = 0.77
    """Probability from which the language model's word that a message ends after these words counts as complete. Chosen on 115 questions
    in two voices where `bench turns` asks none of them: 3.5 % of those with a pause were cut off, and half of all waited 312 ms."""
    utterance_ms_max: Annotated[int, Field(ge=1000, le=120_000)] = 30_000
    """A monologue is answered after this long."""
    barge_in_ms: Annotated[int, Field(ge=32, le=2000)] = 96
    """Sustained speech that stops the robot's own; a cough is shorter."""
    barge_in_above: Annotated[float, Field(gt=0, lt=1)] = 0.5
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
    """Sound per call of the sound system; the microphone gives 20 ms at least."""
    latency_ms: Annotated[int, Field(ge=5, le=500)] = 20
    """Buffered in either direction, as asked of the sound system."""
    rest_s: Annotated[float, Field(ge=0, le=3600)] = 10
    """After so much silence the loudspeaker's stream rests, until somebody seems to speak; 0: never."""
    echo_cancellation: bool = True
    noise_suppression: bool = True
    gain_control: bool = True
    duck_db: Annotated[float, Field(ge=0, le=60)] = 12
    """By how much the voice is lowered while it is not sure whether somebody interrupts."""


class Dialog(_Part):
    """What the robot knows and how it behaves."""

    system_prompt: Annotated[str, Field(max_length=20_000)] = ""
    """Instructions of the language model. With a FAQ it only makes small talk, and may be left to the shipped ones."""
    apology: Annotated[str, Field(max_length=500)] = ""
    """Said when there is no room left for the records of a turn. Empty: the phrase of the language."""
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


class Fleet(_Part):
    """How the robot is steered from afar, and when it calls for help."""

    groups: tuple[Word, ...] = ()
    """Groups it belongs to: a command to one of them is for it as well."""
    allow: tuple[Word, ...] | None = None
    """Commands it takes; absent: every one it knows."""
    telemetry_s: Annotated[int, Field(ge=5, le=86_400)] = 60
    """Between two telemetry messages."""
    alarm_backlog_h: Annotated[int, Field(ge=1, le=8_760)] = 24
    """Hours a record may wait for the backend before there is an alarm."""
    alarm_silent_s: Annotated[int, Field(ge=10, le=86_400)] = 300
    """Seconds without any sound from the microphone before there is an alarm."""


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
    fleet: Fleet = Fleet()

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
