"""What a token costs: one version of a rate card, read from TOML, refused whole if it could misprice."""

import datetime
import fnmatch
import itertools
import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from agent.errors import BadRateCard
from agent.values import STAGES, Outcome, Placement, Stage

RAW_CLASSES: Final = ("audio_in_ms", "audio_out_ms", "characters")
"""Raw units a card may price instead of tokens."""

COUNTED_CLASSES: Final = ("input", "cached_input", "output", *RAW_CLASSES)
"""Classes of what was used, as the odometer counts them; input is net of cached."""

TOKEN_CLASSES: Final = ("input", "cached_input", "output", "audio")
"""Classes billed in tokens. Audio is sound at the card's tokens per second: it is made by rating, never counted."""

AUDIO_OF: dict[str, str] = {"asr": "audio_in_ms", "tts": "audio_out_ms"}
"""The sound that a stage's audio tokens are made of."""

NEEDED: dict[Stage, tuple[tuple[str, ...], ...]] = {
    "asr": (("output", "audio_in_ms", "audio"),),
    "llm": (("input",), ("cached_input",), ("output",)),
    "tts": (("input", "characters", "audio_out_ms", "audio"),),
}
"""Per stage, the groups of classes of which a card must price at least one each."""

OUTCOME_COEFFICIENTS: dict[Placement, dict[Outcome, Decimal]] = {
    "device": {outcome: Decimal(1) for outcome in ("completed", "interrupted", "cut_off")}
    | {outcome: Decimal(0) for outcome in ("superseded", "failed")},
    "cloud": {outcome: Decimal(1) for outcome in ("completed", "interrupted", "cut_off", "superseded", "failed")},
}
"""What an outcome does to a stage's lines: our own lost speculation and failures cost the customer nothing."""

STANDARD: Final = "standard"
"""The priority of whoever asked for none; its coefficient is 1."""

PRIORITY_MIN, PRIORITY_MAX = Decimal("1.2"), Decimal("3.0")
"""Coefficients a named priority may have: what contracts with customers say."""

WILDCARD = re.compile(r"\[!?\]?[^\]]*\]|[*?]")
"""The parts of a shell pattern that are not literal."""


def _exact(value: object) -> object:
    """TOML floats arrive as Decimal, so no digit is lost; a JSON-like float would already have lost some."""
    if isinstance(value, float):
        raise ValueError('write it as text, such as "0.01", to keep it exact')
    if isinstance(value, bool):
        raise ValueError("a number is wanted, not true or false")
    return value


Money = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, max_digits=24, decimal_places=12)]
Coefficient = Annotated[Decimal, BeforeValidator(_exact), Field(ge=1, le=10, max_digits=12, decimal_places=6)]
TokensPerSecond = Annotated[Decimal, BeforeValidator(_exact), Field(gt=0, le=1000, max_digits=12, decimal_places=6)]
Units = Annotated[int, BeforeValidator(_exact), Field(gt=0, lt=2**53)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]
FeatureName = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
"""A name that may be a key of a record."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Line(_Part):
    """What of a usage an entry is about."""

    stage: Stage
    model: Name = "*"
    """Shell pattern over model names; see `particularity` for which of several decides."""
    placement: Placement
    class_: Annotated[str, Field(alias="class", pattern="^(" + "|".join(dict.fromkeys(TOKEN_CLASSES + RAW_CLASSES)) + ")$")]

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.stage, self.model, self.placement, self.class_)

    def __str__(self) -> str:
        return f"{self.stage} {self.class_} of {self.model} on {self.placement}"


class Price(_Line):
    """One price."""

    unit_price: Money
    """Per token, millisecond or character, in the card's currency."""


class VolumeTier(_Line):
    """What units cost beyond so many in a billing period. Statements apply it; a device's estimate never does."""

    over: Units
    """The tier begins with the unit after this one."""
    unit_price: Money


class Feature(_Part):
    """The price of one use of an advanced feature, before its coefficient."""

    name: FeatureName
    unit_price: Money


class RateCard(_Part):
    """The prices in force from a date on."""

    id: Name
    version: Name
    currency: Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")]
    effective_from: datetime.date
    """First day, in the account's time zone."""
    tokenizer: Name
    """Model whose vocabulary counts text given to a voice."""
    priorities: dict[Name, Coefficient] = {STANDARD: Decimal(1)}
    """Coefficient by priority, on token and feature lines."""
    feature_coefficient: Coefficient = Decimal("2.5")
    """On every feature line."""
    audio_tokens_per_second: dict[Literal["asr", "tts"], TokensPerSecond] = {}
    """What makes tokens of sound, for stages whose class `audio` has a price."""
    price: Annotated[tuple[Price, ...], Field(min_length=1)]
    feature: tuple[Feature, ...] = ()
    volume_tiers: Annotated[tuple[VolumeTier, ...], Field(validation_alias=AliasChoices("volume_tier", "volume_tiers"))] = ()

    @model_validator(mode="after")
    def _priorities_are_what_was_agreed(self) -> "RateCard":
        if STANDARD not in self.priorities:
            raise ValueError(f"priorities have no {STANDARD}")
        for name, coefficient in self.priorities.items():
            if name == STANDARD and coefficient != 1:
                raise ValueError(f"priorities.{name} is {coefficient}; it must be 1")
            if name != STANDARD and not PRIORITY_MIN <= coefficient <= PRIORITY_MAX:
                raise ValueError(f"priorities.{name} is {coefficient}; a named priority is from {PRIORITY_MIN} to {PRIORITY_MAX}")
        return self

    @model_validator(mode="after")
    def _each_once(self) -> "RateCard":
        named = [*map(str, self.price), *(f"feature {feature.name}" for feature in self.feature)]
        if twice := repeated(named):
            raise ValueError(f"two prices for {twice}")
        for stage, placement in {(price.stage, price.placement) for price in self.price}:
            if missing := self.missing(stage, "", placement):
                raise ValueError(f"no price for {stage} {missing} of every model on {placement}")
        return self

    @model_validator(mode="after")
    def _audio_has_price_and_rate(self) -> "RateCard":
        priced = {price.stage for price in self.price if price.class_ == "audio"}
        for stage in STAGES:
            rated = stage in self.audio_tokens_per_second
            if stage in priced and stage not in AUDIO_OF:
                raise ValueError(f"{stage} has no sound to price; take class audio off it")
            if stage in priced and not rated:
                raise ValueError(f"{stage} audio has a price and no rate; add {stage} to [audio_tokens_per_second]")
            if rated and stage not in priced:
                raise ValueError(f"audio_tokens_per_second.{stage} has no price; add a [[price]] of class audio or take it out")
        return self

    @model_validator(mode="after")
    def _tiers_rise_above_a_price(self) -> "RateCard":
        for tier in self.volume_tiers:
            if self.unit_price(tier.stage, tier.model, tier.placement, tier.class_) is None:
                raise ValueError(f"a volume tier for {tier} and no price below it")
            tiers = [other for other in self.volume_tiers if other.key == tier.key]
            for lower, upper in itertools.pairwise(tiers):
                if lower.over >= upper.over:
                    raise ValueError(f"volume tiers for {tier}: over {upper.over} after {lower.over}; list them rising")
        return self

    @property
    def name(self) -> str:
        """As records name it."""
        return f"{self.id}@{self.version}"

    def unit_price(self, stage: str, model: str, placement: str, class_: str) -> Decimal | None:
        """The price of the most particular pattern, or None where the card has none."""
        price = _nearest(self.price, stage, model, placement, class_)
        return None if price is None else price.unit_price

    def feature_price(self, name: str) -> Decimal | None:
        """The price of one use, without its coefficient."""
        return next((feature.unit_price for feature in self.feature if feature.name == name), None)

    def tiers(self, stage: str, model: str, placement: str, class_: str) -> tuple[VolumeTier, ...]:
        """The tiers of the most particular pattern, rising; their common `key` is what a period's units are counted by."""
        nearest = _nearest(self.volume_tiers, stage, model, placement, class_)
        return () if nearest is None else tuple(tier for tier in self.volume_tiers if tier.key == nearest.key)

    def missing(self, stage: Stage, model: str, placement: Placement) -> str:
        """The first class this stage could not be billed by, or nothing."""
        for group in NEEDED[stage]:
            if all(self.unit_price(stage, model, placement, class_) is None for class_ in group):
                return " or ".join(group)
        return ""


def particularity(pattern: str) -> tuple[int, int]:
    """Orders patterns that match the same model: more literal characters win, then fewer wildcards, then the first in the card."""
    return len(WILDCARD.sub("", pattern)), -len(WILDCARD.findall(pattern))


L = TypeVar("L", bound=_Line)


def _nearest(lines: Iterable[L], stage: str, model: str, placement: str, class_: str) -> L | None:
    wanted = (stage, placement, class_)
    fitting = [line for line in lines if (line.stage, line.placement, line.class_) == wanted and fnmatch.fnmatchcase(model, line.model)]
    return max(fitting, key=lambda line: particularity(line.model), default=None)


def repeated(names: Iterable[str]) -> str | None:
    """The first name that stands there more than once."""
    return next((name for name, times in Counter(names).items() if times > 1), None)


def read(path: Path) -> RateCard:
    """Reads a card. Raises BadRateCard in one line saying what is wrong with which entry."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, ValueError) as error:
        if isinstance(error, tomllib.TOMLDecodeError | UnicodeDecodeError):
            raise BadRateCard(f"{path}: not TOML: {error}") from error
        raise BadRateCard(f"{path}: {getattr(error, 'strerror', error)}", "name a readable rate card in billing.rate_card") from error
    try:
        return RateCard.model_validate(tables)
    except ValidationError as error:
        raise BadRateCard(f"{path}: {_first(error.errors()[0])}") from error


def _first(error: Any) -> str:
    where = ".".join(str(part + 1) if isinstance(part, int) else part for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
