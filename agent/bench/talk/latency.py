"""How long a guest waits for the first sound, by where the answer comes from, and what was thought in vain."""

import statistics
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from agent.bench.talk.questions import Question
from agent.bench.talk.stage import Asked, Stage

REACH_MS = {"llm": (550, 1000), "ready": (350, 600)}
"""(median, 95th percentile) of the first sound, of answers of the language model and of those that stand ready."""

SUPERSEDED_SHARE_MAX = 0.15


def percentile(values: list[float], share: float) -> float | None:
    """The nearest rank; None of nothing."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else None


async def ask_all(stage: Stage, questions: Iterable[Question], progress: Any) -> list[tuple[Question, Asked]]:
    """Asks one after the other, each when the answer before has ended."""
    asked = []
    for number, question in enumerate(questions, 1):
        one = await stage.ask(question.pcm)
        asked.append((question, one))
        progress(f"{number}: {question.text!r} heard as {one.turn['transcript']!r}, {one.plan}, {one.first_sound_ms} ms")
    return asked


def group(asked: Asked) -> str:
    """`llm`: the model's own words sound first. `ready`: an FAQ entry or a phrase, also the one that stands in for the model."""
    return "llm" if asked.plan == "llm" and not asked.gave_way else "gave_way" if asked.plan == "llm" else "ready"


def told(asked: list[tuple[Question, Asked]]) -> dict[str, Any]:
    """Figures with what they should reach."""
    by_group: dict[str, list[float]] = {"llm": [], "ready": [], "gave_way": []}
    for _, one in asked:
        if one.first_sound_ms is not None:
            by_group[group(one)].append(one.first_sound_ms)
    figures: dict[str, Any] = {}
    for name, values in by_group.items():
        figures[name] = {
            "answers": len(values),
            "median_ms": round(statistics.median(values), 1) if values else None,
            "p95_ms": percentile(values, 0.95),
            "reach_ms": REACH_MS.get(name),
        }
    return {"questions": len(asked), "first_sound": figures, "superseded": _superseded(asked), "answered_by": _sources(asked)}


def _superseded(asked: list[tuple[Question, Asked]]) -> dict[str, Any]:
    """Tokens of answers that were taken back, against all that are billed."""
    stages = [stage for _, one in asked for stage in one.turn["stages"] if stage["billed_tokens"] is not None]
    lost = sum((Decimal(stage["billed_tokens"]) for stage in stages if stage["outcome"] == "superseded"), Decimal(0))
    billed = sum((Decimal(stage["billed_tokens"]) for stage in stages if stage["outcome"] != "superseded"), Decimal(0))
    return {
        "tokens": str(lost),
        "billed": str(billed),
        "share": round(float(lost / billed), 4) if billed else None,
        "reach": SUPERSEDED_SHARE_MAX,
    }


def _sources(asked: list[tuple[Question, Asked]]) -> dict[str, dict[str, int]]:
    """By kind of question, where its answer came from."""
    kinds: dict[str, Counter[str]] = {}
    for question, one in asked:
        source = one.plan.split(":")[0] if one.plan.startswith("faq") else one.plan
        kinds.setdefault(question.kind, Counter())[f"{source}, gave way" if one.gave_way else source] += 1
    return {kind: dict(count) for kind, count in kinds.items()}
