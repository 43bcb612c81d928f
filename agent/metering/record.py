"""Makes the data of a usage record out of what a stage used, rated by a card; and reads the same back out of a record."""

from collections.abc import Mapping
from typing import Any, Final

from agent.metering.ratecard import NEEDED, RAW_CLASSES, RateCard
from agent.metering.rating import Rated, plain, quantities, rate
from agent.values import Stage, StageResult, StageUsage

OPERATIONS: dict[Stage, str] = {"asr": "transcription", "llm": "chat", "tts": "speech"}
"""`gen_ai.operation.name` by stage; only `chat` has a name in OpenTelemetry's conventions."""

LOCAL_PROVIDER = "voxmeter"
"""`gen_ai.provider.name` of a model that runs on the device."""

INPUT: Final = "gen_ai.usage.input_tokens"
OUTPUT: Final = "gen_ai.usage.output_tokens"
CACHED: Final = "gen_ai.usage.cache_read.input_tokens"

FIGURES = {
    "input_tokens": INPUT,
    "output_tokens": OUTPUT,
    "cached_tokens": CACHED,
    "audio_in_ms": "audio_in_ms",
    "audio_out_ms": "audio_out_ms",
    "characters": "characters",
    "characters_heard": "characters_heard",
}
"""Fields of StageUsage by their names in a record."""

UNKNOWN: Final = "unknown"
"""The class that counts usage without figures."""


def usage_data(
    result: StageResult,
    *,
    turn_id: str,
    session_id: str,
    card: RateCard,
    tokenizer: str,
    intent: Mapping[str, Any] | None = None,
    replaces: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The `data` of a usage record, canonical values only. `tokenizer` names what counted the tokens.

    `intent` is the record that announced the call, `replaces` the one this is issued again for: `{epoch, sequence}` each.
    """
    named: dict[str, Any] = {
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
        "priority": result.priority,
        "rate_card": card.name,
        "currency": card.currency,
    }
    if result.usage.origin == "counted":
        named["tokenizer"] = tokenizer
    features = {name: uses for name, uses in result.features.items() if uses}
    for name, held in (("features", features), ("intent", intent), ("replaces", replaces)):
        if held:
            named[name] = dict(held)
    return named | _figures(result.usage) | _charged(rated_of(result, card))


def rated_of(result: StageResult, card: RateCard) -> Rated | None:
    """What the card asks for this stage."""
    return rate(
        result.usage,
        card,
        stage=result.stage,
        model=result.model,
        placement=result.placement,
        outcome=result.outcome,
        priority=result.priority,
        features=result.features,
    )


def rated_of_data(data: Mapping[str, Any], card: RateCard) -> Rated | None:
    """What the card asks for a record's raw units: how an invoice prices it. Same card, same digits as the device's estimate.

    None also for a stage this code has not heard of.
    """
    if data["stage"] not in NEEDED:
        return None
    usage = StageUsage(**{field: data.get(name) for field, name in FIGURES.items()}, origin=data["origin"])
    return rate(
        usage,
        card,
        stage=data["stage"],
        model=data["gen_ai.request.model"],
        placement=data["placement"],
        outcome=data["outcome"],
        priority=data["priority"],
        features=data.get("features"),
    )


def odometer_of(result: StageResult) -> Mapping[tuple[str, str, str, str], int]:
    """What the odometer advances by: (stage, model, placement, class); usage of unknown size counts once as `unknown`."""
    held = quantities(result.usage) or {UNKNOWN: 1}
    return {(result.stage, result.model, result.placement, name): quantity for name, quantity in held.items() if quantity}


def odometer_of_data(data: Mapping[str, Any]) -> Mapping[tuple[str, str, str, str], int]:
    """The same, from a record's data, to check the odometer by; evidence of a call that another party bills counts nothing."""
    if data["role"] != "billable":
        return {}
    stage, model, placement = data["stage"], data["gen_ai.request.model"], data["placement"]
    held = quantities_of_data(data) or {UNKNOWN: 1}
    return {(stage, model, placement, name): quantity for name, quantity in held.items() if quantity}


def quantities_of_data(data: Mapping[str, Any]) -> dict[str, int]:
    """`rating.quantities` of a record. It runs for every record when a ledger is verified, so it makes nothing it does not return."""
    held: dict[str, int] = {}
    if data["origin"] == "unknown":
        return held
    if INPUT in data:
        held["input"] = data[INPUT] - data.get(CACHED, 0)
    if CACHED in data:
        held["cached_input"] = data[CACHED]
    if OUTPUT in data:
        held["output"] = data[OUTPUT]
    for name in RAW_CLASSES:
        if name in data:
            held[name] = data[name]
    return held


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
            "quantity": plain(charge.quantity),
            "unit_price": plain(charge.unit_price),
            "coefficient": plain(charge.coefficient),
            "amount": plain(charge.amount),
        }
        for charge in rated.charges
    ]
    return {"charges": charges, "billed_tokens": plain(rated.billed_tokens), "amount": plain(rated.amount)}
