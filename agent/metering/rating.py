"""Price x usage, in exact decimals: the one rule both sides of a bill run.

`amount = sum of quantity x unit price x coefficients`, unrounded. A usage whose figures are unknown, or that the card has no
price for, has no amount: it stands on the statement as unresolved, it is never 0. Volume tiers and rounding belong to
statements, which see a whole billing period; a device's estimate has neither.
"""

import decimal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from agent.metering.ratecard import (
    AUDIO_OF,
    NEEDED,
    OUTCOME_COEFFICIENTS,
    RAW_CLASSES,
    STANDARD,
    TOKEN_CLASSES,
    RateCard,
    VolumeTier,
)
from agent.values import Outcome, Placement, Stage, StageUsage

EXACT = decimal.Context(prec=80, traps=[decimal.Inexact, decimal.InvalidOperation])
"""Wide enough for every product and sum of a record; a digit that would be lost is an error, not a rounding."""

ROUNDING = decimal.Context(prec=80, rounding=decimal.ROUND_HALF_EVEN, traps=[decimal.InvalidOperation])
"""For totals only: a line is never rounded."""

MILLISECOND = Decimal("0.001")
"""In seconds, which a card's audio rates are per."""

FEATURE = "feature:"
"""What the class of a feature's line begins with; the feature's name follows."""

MINOR_UNITS = dict.fromkeys(("CLP", "ISK", "JPY", "KRW", "PYG", "UGX", "VND", "XAF", "XOF", "XPF"), 0) | dict.fromkeys(
    ("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3
)
"""Digits after the point by currency (ISO 4217), where they are not MINOR_UNITS_USUAL."""

MINOR_UNITS_USUAL = 2


@dataclass(frozen=True, slots=True)
class Charge:
    """One line of the price."""

    class_: str
    quantity: Decimal
    """Tokens, milliseconds, characters or uses; without superfluous zeros, so that its text is the same on both sides."""
    unit_price: Decimal
    coefficient: Decimal

    @property
    def amount(self) -> Decimal:
        return EXACT.multiply(EXACT.multiply(self.quantity, self.unit_price), self.coefficient)


@dataclass(frozen=True, slots=True)
class Rated:
    """What one usage costs."""

    charges: tuple[Charge, ...]

    @property
    def amount(self) -> Decimal:
        return total(charge.amount for charge in self.charges)

    @property
    def billed_tokens(self) -> Decimal:
        """Quantities of the token lines, without coefficients; a fraction where sound is billed as tokens."""
        return trimmed(total(charge.quantity for charge in self.charges if charge.class_ in TOKEN_CLASSES))


def quantities(usage: StageUsage) -> dict[str, int]:
    """Raw quantities by class, input net of cached; empty where nothing is known."""
    if usage.origin == "unknown":
        return {}
    cached = usage.cached_tokens or 0
    figures = {
        "input": None if usage.input_tokens is None else usage.input_tokens - cached,
        "cached_input": usage.cached_tokens,
        "output": usage.output_tokens,
        **{name: getattr(usage, name) for name in RAW_CLASSES},
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def rate(
    usage: StageUsage,
    card: RateCard,
    *,
    stage: Stage,
    model: str,
    placement: Placement,
    outcome: Outcome,
    priority: str = STANDARD,
    features: Mapping[str, int] | None = None,
) -> Rated | None:
    """The charges for one usage and the advanced features it took, or None where it can't be priced.

    It can't where figures are unknown, or the card lacks a price, a feature or the priority. The outcome changes what a stage
    did, not what a feature's uses cost.
    """
    held = _billable(usage, card, stage)
    prices = {class_: price for class_ in held if (price := card.unit_price(stage, model, placement, class_)) is not None}
    if priority not in card.priorities or card.missing(stage, model, placement) or not _covered(stage, prices):
        return None
    extra = _feature_charges(features or {}, card, priority)
    if extra is None:
        return None
    plain_coefficient = OUTCOME_COEFFICIENTS[placement][outcome]
    token_coefficient = EXACT.multiply(plain_coefficient, card.priorities[priority])
    charges = (
        Charge(class_, held[class_], price, token_coefficient if class_ in TOKEN_CLASSES else plain_coefficient)
        for class_, price in prices.items()
        if held[class_]
    )
    return Rated((*charges, *extra))


def _billable(usage: StageUsage, card: RateCard, stage: Stage) -> dict[str, Decimal]:
    """Raw quantities, and the tokens of sound where the card makes tokens of it: never rounded."""
    held = {name: Decimal(quantity) for name, quantity in quantities(usage).items()}
    if stage in card.audio_tokens_per_second and (sound := held.get(AUDIO_OF[stage])) is not None:
        seconds = EXACT.multiply(sound, MILLISECOND)
        held["audio"] = trimmed(EXACT.multiply(seconds, card.audio_tokens_per_second[stage]))
    return held


def _feature_charges(features: Mapping[str, int], card: RateCard, priority: str) -> list[Charge] | None:
    """A line for each feature that was used, or None if one has no price."""
    used = sorted((name, uses) for name, uses in features.items() if uses)
    coefficient = EXACT.multiply(card.feature_coefficient, card.priorities[priority])
    charges = []
    for name, uses in used:
        price = card.feature_price(name)
        if price is None:
            return None
        charges.append(Charge(f"{FEATURE}{name}", Decimal(uses), price, coefficient))
    return charges


def _covered(stage: Stage, priced: Iterable[str]) -> bool:
    """Whether every quantity the stage is billed by is known and priced. Nothing need be cached."""
    known = {*priced, "cached_input"}
    return all(known & set(group) for group in NEEDED[stage])


def tiered(charge: Charge, tiers: Sequence[VolumeTier], used: Decimal) -> list[Charge]:
    """Splits a line at the volume tiers it crosses: each unit costs what the tier it falls into says.

    `tiers` are `card.tiers(...)` of the line; `used` is the sum of the quantities of all lines of that key earlier in the
    period, whatever they cost. A negative quantity (an adjustment) gives back the units counted last, at their own prices.
    """
    after = EXACT.add(used, charge.quantity)
    low, high = min(used, after), max(used, after)
    floors = [low, *(Decimal(tier.over) for tier in tiers)]
    ceilings = [*floors[1:], high]
    parts = []
    for floor, ceiling, price in zip(floors, ceilings, [charge.unit_price, *(tier.unit_price for tier in tiers)], strict=True):
        units = EXACT.subtract(min(high, ceiling), max(low, floor))
        if units > 0:
            parts.append(replace(charge, quantity=trimmed(units.copy_sign(charge.quantity)), unit_price=price))
    return parts if charge.quantity > 0 else parts[::-1]


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum."""
    result = Decimal(0)
    for amount in amounts:
        result = EXACT.add(result, amount)
    return result


def rounded(amount: Decimal, currency: str) -> Decimal:
    """A total as it is paid: half-even, to the currency's minor unit. Nothing else is ever rounded."""
    unit = Decimal(1).scaleb(-MINOR_UNITS.get(currency, MINOR_UNITS_USUAL))
    paid = amount.quantize(unit, context=ROUNDING)
    return paid or paid.copy_abs()


def trimmed(number: Decimal) -> Decimal:
    """The same number without superfluous zeros."""
    return Decimal(plain(EXACT.normalize(number) or Decimal(0)))


def plain(number: Decimal) -> str:
    """A decimal as records write it: digits and a point, no exponent."""
    return format(number, "f")
