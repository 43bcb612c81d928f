"""A turn as `ask --json` prints it: the shape other programs read."""

from typing import Any

from agent.metering.ratecard import RateCard
from agent.metering.rating import Rated, plain, total, trimmed
from agent.metering.record import rated_of
from agent.values import StageResult, Turn


def told(turn: Turn, card: RateCard, *, reply_audio: str | None, problems: list[str]) -> dict[str, Any]:
    """JSON values; money and billed tokens as decimal strings, None for what is not known or not of that stage.

    `problems` are those that came after the turn; the turn's own are added.
    """
    rated = [rated_of(stage, card) for stage in turn.stages]
    priced = [one for one in rated if one is not None]
    return {
        "turn_id": turn.turn_id,
        "session_id": turn.session_id,
        "transcript": turn.transcript,
        "reply": turn.reply,
        "reply_audio": reply_audio,
        "stages": [_stage(stage, one) for stage, one in zip(turn.stages, rated, strict=True)],
        "total": {
            "billed_tokens": plain(trimmed(total(one.billed_tokens for one in priced))),
            "amount": plain(total(one.amount for one in priced)),
            "currency": card.currency,
        },
        "latency": {"speech_end_to_first_audio_ms": turn.speech_end_to_first_audio_ms},
        "notes": list(turn.notes),
        "problems": [*turn.problems, *problems],
    }


def _stage(stage: StageResult, rated: Rated | None) -> dict[str, Any]:
    usage = stage.usage
    return {
        "stage": stage.stage,
        "engine": stage.engine,
        "model": stage.model,
        "placement": stage.placement,
        "origin": usage.origin,
        "outcome": stage.outcome,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "audio_in_ms": usage.audio_in_ms,
        "audio_out_ms": usage.audio_out_ms,
        "characters": usage.characters,
        "billed_tokens": None if rated is None else plain(rated.billed_tokens),
        "amount": None if rated is None else plain(rated.amount),
        "started_ms": stage.times.started_ms,
        "first_output_ms": stage.times.first_output_ms,
        "duration_ms": stage.times.duration_ms,
    }
