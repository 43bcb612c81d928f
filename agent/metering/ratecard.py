"""What a token costs: a rate card read from TOML, refused whole if it could misprice."""

import datetime
import fnmatch
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from agent.errors import BadRateCard
from agent.values import Outcome, Placement, Stage

TOKEN_CLASSES: Final = ("input", "cached_input", "output")
"""Classes counted in tokens; input is net of cached."""

RAW_CLASSES: Final = ("audio_in_ms", "audio_out_ms", "characters")
"""Raw units a card may price instead."""

NEEDED: dict[Stage, tuple[tuple[str, ...], ...]] = {
    "asr": (("output", "audio_in_ms"),),
    "llm": (("input",), ("cached_input",), ("output",)),
    "tts": (("input", "characters", "audio_out_ms"),),
}
"""Per stage, the groups of classes of which a card must price at least one each."""

OUTCOME_COEFFICIENTS: dict[Placement, dict[Outcome, Decimal]] = {
    "device": {outcome: Decimal(1) for outcome in ("completed", "interrupted", "cut_off")}
    | {outcome: Decimal(0) for outcome in ("superseded", "failed")},
    "cloud": {outcome: Decimal(1) for outcome in ("completed", "interrupted", "cut_off", "superseded", "failed")},
}
"""What an outcome does to token lines: our own lost speculation and failures cost the customer nothing."""


def _exact(value: object) -> object:
    """TOML floats arrive as Decimal, so no digit is lost; a JSON-like float would already have lost some."""
    if isinstance(value, float):
        raise ValueError('write it as text, such as "0.01", to keep it exact')
    return value


Money = Annotated[Decimal, BeforeValidator(_exact), Field(ge=0, max_digits=24, decimal_places=12)]
Coefficient = Annotated[Decimal, BeforeValidator(_exact), Field(ge=1, le=3, max_digits=12, decimal_places=6)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class Price(BaseModel):
    """One price."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: Stage
    model: Name = "*"
    """Shell pattern over model names; of several that match, the longest wins."""
    placement: Placement
    class_: Annotated[str, Field(alias="class", pattern="^(" + "|".join(TOKEN_CLASSES + RAW_CLASSES) + ")$")]
    unit_price: Money
    """Per token, millisecond or character, in the card's currency."""


class RateCard(BaseModel):
    """The prices in force from a date on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Name
    version: Name
    currency: Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")]
    effective_from: datetime.date
    tokenizer: Name
    """Model whose vocabulary counts text given to a voice."""
    priorities: dict[Name, Coefficient] = {"standard": Decimal(1)}
    """Coefficient by priority, on token lines."""
    price: Annotated[tuple[Price, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_once(self) -> "RateCard":
        if "standard" not in self.priorities:
            raise ValueError("priorities have no standard")
        seen = set()
        for price in self.price:
            key = (price.stage, price.model, price.placement, price.class_)
            if key in seen:
                raise ValueError(f"two prices for {price.stage} {price.class_} of {price.model} on {price.placement}")
            seen.add(key)
        for stage, placement in {(price.stage, price.placement) for price in self.price}:
            if missing := self.missing(stage, "", placement):
                raise ValueError(f"no price for {stage} {missing} of every model on {placement}")
        return self

    @property
    def name(self) -> str:
        """As records name it."""
        return f"{self.id}@{self.version}"

    def unit_price(self, stage: str, model: str, placement: Placement, class_: str) -> Decimal | None:
        """The price of the most particular pattern, or None where the card has none."""
        fitting = [
            price
            for price in self.price
            if (price.stage, price.placement, price.class_) == (stage, placement, class_) and fnmatch.fnmatchcase(model, price.model)
        ]
        return max(fitting, key=lambda price: (len(price.model.replace("*", "")), price.model)).unit_price if fitting else None

    def missing(self, stage: Stage, model: str, placement: Placement) -> str:
        """The first class this stage could not be billed by, or nothing."""
        for group in NEEDED[stage]:
            if all(self.unit_price(stage, model, placement, class_) is None for class_ in group):
                return " or ".join(group)
        return ""


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
    return f"{where}: {error['msg']}" if where else str(error["msg"]).removeprefix("Value error, ")
