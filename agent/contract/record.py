"""What a record is: a CloudEvents envelope, and the data of each type this agent writes.

Readers keep what they do not know: a newer robot's fields and types are hashed and kept, not refused.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from agent.contract.canonical import INTEGER_MAX
from agent.values import Origin, Outcome, Placement

RecordType = Literal["usage", "intent", "adjust", "epoch", "gap", "rollup", "key"]

SEQUENCE_DIGITS = 20
"""Digits of a sequence in `sequence` and `id`, so that they sort as text."""

Epoch = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Count = Annotated[int, Field(ge=0, le=INTEGER_MAX, strict=True)]
Amount = Annotated[str, StringConstraints(pattern=r"^-?[0-9]+(\.[0-9]+)?$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


def type_name(short: RecordType) -> str:
    """The CloudEvents type of a record type."""
    return f"voxmeter.{short}.v1"


def source_of(tenant: str, device: str, epoch: str) -> str:
    return f"urn:voxmeter:{tenant}:{device}:{epoch}"


class _Open(BaseModel):
    """Fields are checked, unknown ones kept; names with dots enter by alias."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)


class Charge(_Open):
    """One line of a price: quantity x unit price x coefficient, unrounded."""

    class_: Name = Field(alias="class")
    quantity: Amount
    unit_price: Amount
    coefficient: Amount
    amount: Amount


class RecordReference(_Open):
    """Names another record."""

    epoch: Epoch
    sequence: Count


class UsageData(_Open):
    """One attempt of one stage in one turn."""

    stage: Name
    turn_id: Name
    session_id: Name
    attempt: Annotated[int, Field(ge=1, strict=True)]
    intent: RecordReference | None = None
    replaces: RecordReference | None = None
    role: Literal["billable", "evidence"]
    placement: Placement
    engine: Name
    operation: Name = Field(alias="gen_ai.operation.name")
    provider: Name = Field(alias="gen_ai.provider.name")
    request_model: Name = Field(alias="gen_ai.request.model")
    response_model: Name | None = Field(default=None, alias="gen_ai.response.model")
    response_id: Name | None = Field(default=None, alias="gen_ai.response.id")
    outcome: Outcome
    origin: Origin
    input_tokens: Count | None = Field(default=None, alias="gen_ai.usage.input_tokens")
    output_tokens: Count | None = Field(default=None, alias="gen_ai.usage.output_tokens")
    cache_read_tokens: Count | None = Field(default=None, alias="gen_ai.usage.cache_read.input_tokens")
    reasoning_tokens: Count | None = Field(default=None, alias="gen_ai.usage.reasoning.output_tokens")
    audio_input_tokens: Count | None = Field(default=None, alias="gen_ai.usage.audio.input_tokens")
    audio_output_tokens: Count | None = Field(default=None, alias="gen_ai.usage.audio.output_tokens")
    counted_input_tokens: Count | None = Field(default=None, alias="counted.input_tokens")
    counted_output_tokens: Count | None = Field(default=None, alias="counted.output_tokens")
    audio_in_ms: Count | None = None
    audio_out_ms: Count | None = None
    characters: Count | None = None
    characters_heard: Count | None = None
    tokenizer: Name | None = None
    priority: Name
    features: dict[str, Count] | None = None
    rate_card: Name | None = None
    charges: list[Charge] | None = None
    billed_tokens: Amount | None = None
    amount: Amount | None = None
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] | None = None
    raw_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="after")
    def _subsets_fit(self) -> "UsageData":
        subsets = [
            (self.cache_read_tokens, self.input_tokens, "cached", "input"),
            (self.audio_input_tokens, self.input_tokens, "audio input", "input"),
            (self.reasoning_tokens, self.output_tokens, "reasoning", "output"),
            (self.audio_output_tokens, self.output_tokens, "audio output", "output"),
        ]
        for part, total, name, whole in subsets:
            if part is not None and part > (total or 0):
                raise ValueError(f"{name} tokens ({part}) are a subset of {whole} tokens ({total})")
        if self.origin == "unknown" and any(part is not None for part in (self.input_tokens, self.output_tokens)):
            raise ValueError("usage of unknown origin has no figures")
        return self


class EpochData(_Open):
    """First record of an epoch: why it began."""

    reason: Name
    previous: Epoch | None = None
    odometer: list[dict[str, Any]] | None = None


class Envelope(_Open):
    """The body of a record."""

    specversion: Literal["1.0"]
    type: Annotated[str, StringConstraints(pattern=r"^voxmeter\.[a-z]+\.v[0-9]+$")]
    source: Annotated[str, StringConstraints(pattern=r"^urn:voxmeter:[^:]+:[^:]+:[0-9a-f]{32}$")]
    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}:[0-9]{20}$")]
    subject: Name
    sequence: Annotated[str, StringConstraints(pattern=r"^[0-9]{20}$")]
    time: Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")] | None = None
    bootid: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    boottimems: Annotated[str, StringConstraints(pattern=r"^[0-9]+$")]
    clockquality: Literal["none", "floor", "ntp", "signed"]
    data: dict[str, Any]

    @model_validator(mode="after")
    def _identity_agrees(self) -> "Envelope":
        epoch = self.source.rsplit(":", 1)[1]
        if self.id != f"{epoch}:{self.sequence}":
            raise ValueError("id must be the source's epoch and the sequence")
        if self.time is not None and self.clockquality in ("none", "floor"):
            raise ValueError(f"a clock of quality {self.clockquality} gives no time")
        return self


DATA_MODELS: dict[str, type[_Open]] = {type_name("usage"): UsageData, type_name("epoch"): EpochData}
"""The data model of each known type; a type not listed is kept as it came."""


def check(body: object) -> Envelope:
    """Validates a decoded body. Raises pydantic.ValidationError (a ValueError) saying which field is wrong."""
    envelope = Envelope.model_validate(body)
    model = DATA_MODELS.get(envelope.type)
    if model is not None:
        model.model_validate(envelope.data)
    return envelope
