"""Makes the data of a usage record out of what a stage used, rated by a card."""

from collections.abc import Mapping
from typing import Any

from agent.metering.ratecard import RateCard
from agent.metering.rating import Rated, plain, quantities, rate
from agent.values import Stage, StageResult, StageUsage

OPERATIONS: dict[Stage, str] = {"asr": "transcription", "llm": "chat", "tts": "speech"}
"""`gen_ai.operation.name` by stage; only `chat` has a name in OpenTelemetry's conventions."""

LOCAL_PROVIDER = "voxmeter"
"""`gen_ai.provider.name` of a model that runs on the device."""

FIGURES = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "audio_in_ms": "audio_in_ms",
    "audio_out_ms": "audio_out_ms",
    "characters": "characters",
    "characters_heard": "characters_heard",
}
"""Fields of StageUsage by their names in a record."""


def usage_data(result: StageResult, *, turn_id: str, session_id: str, card: RateCard, tokenizer: str) -> dict[str, Any]:
    """The `data` of a usage record, canonical values only. `tokenizer` names what counted the tokens."""
    named = {
        "stage": result.stage,
        "turn_id": turn_id,
        "session_id": session_id,
        "attempt": result.attempt,
        "role": "billable",
        "placement": result.placement,
        "engine": result.engine,
        "gen_ai.operation.name": OPERATIONS[result.stage],
        "gen_ai.provider.name": LOCAL_PROVIDER,
        "gen_ai.request.model": result.model,
        "outcome": result.outcome,
        "origin": result.usage.origin,
        "priority": "standard",
        "rate_card": card.name,
        "currency": card.currency,
    }
    if result.usage.origin == "counted":
        named["tokenizer"] = tokenizer
    return named | _figures(result.usage) | _charged(rated_of(result, card))


def rated_of(result: StageResult, card: RateCard) -> Rated | None:
    """What the card asks for this stage."""
    return rate(result.usage, card, stage=result.stage, model=result.model, placement=result.placement, outcome=result.outcome)


def odometer_of(result: StageResult) -> Mapping[tuple[str, str, str, str], int]:
    """What the odometer advances by: (stage, model, placement, class); usage of unknown size counts once as `unknown`."""
    held = quantities(result.usage) or {"unknown": 1}
    return {(result.stage, result.model, result.placement, name): quantity for name, quantity in held.items() if quantity}


def odometer_of_data(data: Mapping[str, Any]) -> Mapping[tuple[str, str, str, str], int]:
    """The same, from a record's data, to check the odometer by."""
    usage = StageUsage(**{field: data.get(name) for field, name in FIGURES.items()}, origin=data["origin"])
    held = quantities(usage) or {"unknown": 1}
    at = (data["stage"], data["gen_ai.request.model"], data["placement"])
    return {(*at, name): quantity for name, quantity in held.items() if quantity}


def _figures(usage: StageUsage) -> dict[str, int]:
    if usage.origin == "unknown":
        return {}
    held = {name: getattr(usage, field) for field, name in FIGURES.items()}
    return {name: figure for name, figure in held.items() if figure is not None}


def _charged(rated: Rated | None) -> dict[str, Any]:
    if rated is None:
        return {}
    charges = [
        {
            "class": charge.class_,
            "quantity": str(charge.quantity),
            "unit_price": plain(charge.unit_price),
            "coefficient": plain(charge.coefficient),
            "amount": plain(charge.amount),
        }
        for charge in rated.charges
    ]
    return {"charges": charges, "billed_tokens": str(rated.billed_tokens), "amount": plain(rated.amount)}
