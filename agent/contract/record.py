"""What a record is: a CloudEvents envelope, and the data of each type this agent writes.

Readers keep what they do not know: a newer robot's fields and types are hashed and kept, not refused.
"""

import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from agent.clock import ClockQuality
from agent.contract.canonical import INTEGER_MAX
from agent.values import Origin, Outcome, Placement

RecordType = Literal["usage", "intent", "adjust", "epoch", "gap", "rollup", "key"]

SEQUENCE_DIGITS = 20
"""Digits of a sequence in `sequence` and `id`, so that they sort as text."""

Epoch = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Count = Annotated[int, Field(ge=0, le=INTEGER_MAX, strict=True)]
Amount = Annotated[str, StringConstraints(pattern=r"^-?[0-9]+(\.[0-9]+)?$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Place = Annotated[int, Field(ge=1, le=INTEGER_MAX, strict=True)]
"""A sequence where it is an integer."""
Signed = Annotated[int, Field(ge=-INTEGER_MAX, le=INTEGER_MAX, strict=True)]
Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?$")]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
HashHex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Utc = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z$"),
    AfterValidator(lambda text: datetime.datetime.fromisoformat(text) and text),
]
"""A moment that exists, in RFC 3339."""
BootId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Digits = Annotated[str, StringConstraints(pattern=r"^[0-9]+$")]
KeyText = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$")]
"""32 bytes in base64url without padding; the last digit has no stray bits."""
SignatureText = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{85}[AQgw]$")]
"""64 bytes in base64url without padding."""


def type_name(short: RecordType) -> str:
    """The CloudEvents type of a record type."""
    return f"voxmeter.{short}.v1"


def source_of(tenant: str, device: str, epoch: str) -> str:
    return f"urn:voxmeter:{tenant}:{device}:{epoch}"


class Open(BaseModel):
    """Fields are checked, unknown ones kept; names with dots enter by alias."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)


class Charge(Open):
    """One line of a price: quantity x unit price x coefficient, unrounded."""

    class_: Name = Field(alias="class")
    quantity: Amount
    unit_price: Amount
    coefficient: Amount
    amount: Amount


class RecordReference(Open):
    """Names another record."""

    epoch: Epoch
    sequence: Count


class UsageData(Open):
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
    currency: Currency | None = None
    raw_sha256: HashHex | None = None

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


class IntentCall(Open):
    """A call that is about to be made."""

    stage: Name
    attempt: Annotated[int, Field(ge=1, strict=True)]
    placement: Placement
    engine: Name | None = None
    model: Name
    reserved: Quantity
    """Money set aside for it, in the account's currency."""


class IntentData(Open):
    """Durable before a billable call leaves the device."""

    turn_id: Name
    session_id: Name | None = None
    calls: Annotated[list[IntentCall], Field(min_length=1)]

    @model_validator(mode="after")
    def _attempts_differ(self) -> "IntentData":
        if len({(call.stage, call.attempt) for call in self.calls}) < len(self.calls):
            raise ValueError("an attempt is unique within its turn and stage")
        return self


class AdjustData(Open):
    """Corrects figures of another record, by differences."""

    adjusts: RecordReference
    deltas: Annotated[dict[Name, Signed], Field(min_length=1)]
    reason: Name


class OdometerLine(Open):
    """A total of raw quantities. An adjust of an earlier epoch may take it below zero."""

    stage: Name
    model: Name
    placement: Name
    class_: Name = Field(alias="class")
    quantity: Signed


class EpochData(Open):
    """First record of an epoch: why it began."""

    reason: Name
    previous: Epoch | None = None
    odometer: list[OdometerLine] | None = None
    """What the previous epoch's stood at, as far as it is known."""


class RollupTotal(Open):
    """What folded records came to that agree in all of its names."""

    role: Literal["billable", "evidence"]
    subject: Name
    span: Name
    """The day, or the two anchors between which it was."""
    rate_card: Name | None = None
    stage: Name
    model: Name
    placement: Placement
    class_: Name = Field(alias="class")
    quantity: Quantity
    priority: Name
    outcome: Outcome
    origin: Origin
    records: Place
    """How many were folded."""
    amount: Amount | None = None
    currency: Currency | None = None


class SpanData(Open):
    """Records in a row that another record stands for."""

    epoch: Epoch
    first: Place
    last: Place
    h_before: HashHex | None = None
    h_last: HashHex | None = None
    reason: Name

    @model_validator(mode="after")
    def _runs_forward(self) -> "SpanData":
        if self.first > self.last:
            raise ValueError(f"first ({self.first}) is above last ({self.last})")
        return self


class GapData(SpanData):
    """Records that are not there: reported, never billed. A hash that nobody knows is absent."""

    totals: list[RollupTotal | OdometerLine] | None = None
    """By how much the odometer had advanced over them, as far as it is known."""


class RollupData(SpanData):
    """Records that were folded into totals for want of room."""

    h_before: HashHex
    h_last: HashHex
    totals: list[RollupTotal]


class KeyData(Open):
    """A new usage key, signed by the old one and by itself; `signing.check_key_record` checks both."""

    old: KeyText
    new: KeyText
    sig_old: SignatureText
    sig_new: SignatureText


class Envelope(Open):
    """The body of a record."""

    specversion: Literal["1.0"]
    type: Annotated[str, StringConstraints(pattern=r"^voxmeter\.[a-z]+\.v[0-9]+$")]
    source: Annotated[str, StringConstraints(pattern=r"^urn:voxmeter:[^:]+:[^:]+:[0-9a-f]{32}$")]
    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}:[0-9]{20}$")]
    subject: Name
    sequence: Annotated[str, StringConstraints(pattern=r"^[0-9]{20}$")]
    time: Utc | None = None
    bootid: BootId
    boottimems: Digits
    clockquality: ClockQuality
    data: dict[str, Any]

    @model_validator(mode="after")
    def _identity_agrees(self) -> "Envelope":
        epoch = self.source.rsplit(":", 1)[1]
        if self.id != f"{epoch}:{self.sequence}":
            raise ValueError("id must be the source's epoch and the sequence")
        if self.time is not None and self.clockquality in ("none", "floor"):
            raise ValueError(f"a clock of quality {self.clockquality} gives no time")
        return self


DATA_MODELS: dict[str, type[Open]] = {
    type_name("usage"): UsageData,
    type_name("intent"): IntentData,
    type_name("adjust"): AdjustData,
    type_name("epoch"): EpochData,
    type_name("gap"): GapData,
    type_name("rollup"): RollupData,
    type_name("key"): KeyData,
}
"""The data model of each known type; a type not listed is kept as it came."""


def check(body: object) -> Envelope:
    """Validates a decoded body. Raises pydantic.ValidationError (a ValueError) saying which field is wrong."""
    envelope = Envelope.model_validate(body)
    model = DATA_MODELS.get(envelope.type)
    if model is not None:
        model.model_validate(envelope.data)
    return envelope


def first_problem(error: ValidationError) -> str:
    """What is wrong with the first field that is, in one line."""
    found = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, found["loc"]))
    said = " ".join(found["msg"].removeprefix("Value error, ").split())
    return f"{where}: {said}" if where else said
