"""Price x usage, in exact decimals: the one rule both sides of a bill run.

`amount = sum of quantity x unit price x coefficient`, unrounded. A usage whose figures are unknown, or that the card has no
price for, has no amount: it stands on the statement as unresolved, it is never 0.
"""

import decimal
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from agent.metering.ratecard import NEEDED, OUTCOME_COEFFICIENTS, RAW_CLASSES, TOKEN_CLASSES, RateCard
from agent.values import Outcome, Placement, Stage, StageUsage

EXACT = decimal.Context(prec=80, traps=[decimal.Inexact, decimal.InvalidOperation])
"""Wide enough for every product and sum of a record; a digit that would be lost is an error, not a rounding."""


@dataclass(frozen=True, slots=True)
class Charge:
    """One line of the price."""

    class_: str
    quantity: int
    unit_price: Decimal
    coefficient: Decimal

    @property
    def amount(self) -> Decimal:
        return EXACT.multiply(EXACT.multiply(Decimal(self.quantity), self.unit_price), self.coefficient)


@dataclass(frozen=True, slots=True)
class Rated:
    """What one usage costs."""

    charges: tuple[Charge, ...]

    @property
    def amount(self) -> Decimal:
        return total(charge.amount for charge in self.charges)

    @property
    def billed_tokens(self) -> int:
        """Quantities of the token lines, without coefficients."""
        return sum(charge.quantity for charge in self.charges if charge.class_ in TOKEN_CLASSES)


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
    usage: StageUsage, card: RateCard, *, stage: Stage, model: str, placement: Placement, outcome: Outcome, priority: str = "standard"
) -> Rated | None:
    """The charges for one usage, or None where it can't be priced: figures unknown, a needed price or the priority missing."""
    held = quantities(usage)
    prices = {class_: price for class_ in held if (price := card.unit_price(stage, model, placement, class_)) is not None}
    if priority not in card.priorities or card.missing(stage, model, placement) or not _covered(stage, prices):
        return None
    plain_coefficient = OUTCOME_COEFFICIENTS[placement][outcome]
    token_coefficient = EXACT.multiply(plain_coefficient, card.priorities[priority])
    charges = (
        Charge(class_, held[class_], price, token_coefficient if class_ in TOKEN_CLASSES else plain_coefficient)
        for class_, price in prices.items()
        if held[class_]
    )
    return Rated(tuple(charges))


def _covered(stage: Stage, priced: Iterable[str]) -> bool:
    """Whether every quantity the stage is billed by is known and priced. Nothing need be cached."""
    known = {*priced, "cached_input"}
    return all(known & set(group) for group in NEEDED[stage])


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum."""
    result = Decimal(0)
    for amount in amounts:
        result = EXACT.add(result, amount)
    return result


def plain(number: Decimal) -> str:
    """A decimal as records write it: digits and a point, no exponent."""
    return format(number, "f")
