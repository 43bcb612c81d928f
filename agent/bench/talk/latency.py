"""How long a guest waits for the first sound, by where the answer comes from, and what was thought in vain."""

import statistics
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from agent.bench.talk.questions import Question
from agent.bench.talk.stage import Asked, Stage
from agent.dialog.exchange.plan import UNSURE

REACH_MS = {"llm": (550, 1000), "ready": (350, 600)}
"""(median, 95th percentile) of the first sound, of answers of the language model and of those that stand ready."""

SUMS = {"ready": ("faq", "phrase"), "all_ready": ("faq", "phrase", "unknown")}
"""Groups that are also reported together."""

GROUPS = ("llm", "gave_way", "faq", "phrase", "unknown")

SUPERSEDED_SHARE_MAX = 0.15


def percentile(values: list[float], share: float) -> float | None:
    """The nearest rank; None of nothing."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else None


async def ask_all(stage: Stage, questions: Iterable[Question], progress: Any) -> list[tuple[Question, Asked | None]]:
    """Asks one after the other, each when the answer before has ended; None for what no turn came of."""
    asked: list[tuple[Question, Asked | None]] = []
    for number, question in enumerate(questions, 1):
        one = await stage.asked(question.pcm)
        asked.append((question, one))
        if one is None:
            progress(f"{number}: {question.text!r} was not heard")
        else:
            progress(f"{number}: {question.text!r} heard as {one.turn['transcript']!r}, {one.plan}, {one.first_sound_ms} ms")
    return asked


def group(asked: Asked) -> str:
    """Whose words sound first, and whether somebody vouched that the customer had finished.

    `llm`: the model's own. `gave_way`: a phrase in place of the model's, which were stopped. `faq`: an entry. `phrase`: one that is
    certain, as a greeting. `unknown`: a phrase that admits, offers a person or makes do; it waits longer on purpose, because words
    that nobody knows may not have been all. `none`: nothing was to be said.
    """
    source, _, about = asked.plan.partition(":")
    if source == "llm":
        return "gave_way" if asked.gave_way else "llm"
    if source == "phrase":
        return "unknown" if about in UNSURE else "phrase"
    return "faq" if source == "faq" else "none"


def told(results: list[tuple[Question, Asked | None]]) -> dict[str, Any]:
    """Figures with what they should reach. Who was answered before he had finished waited for nothing, and is only counted."""
    asked = [(question, one) for question, one in results if one is not None]
    by_group: dict[str, list[float]] = {name: [] for name in GROUPS}
    for _, one in asked:
        if one.first_sound_ms is not None and not one.cut_off and group(one) in by_group:
            by_group[group(one)].append(one.first_sound_ms)
    by_group |= {name: [value for part in parts for value in by_group[part]] for name, parts in SUMS.items()}
    return {
        "questions": len(results),
        "not_heard": len(results) - len(asked),
        "cut_off": sum(one.cut_off for _, one in asked),
        "no_sound": sum(one.first_sound_ms is None for _, one in asked),
        "first_sound": {name: _figures(values, REACH_MS.get(name)) for name, values in by_group.items()},
        "superseded": _superseded(asked),
        "answered_by": _sources(asked),
    }


def _figures(values: list[float], reach: tuple[int, int] | None) -> dict[str, Any]:
    median, p95 = (round(statistics.median(values), 1) if values else None), percentile(values, 0.95)
    figures = {"answers": len(values), "median_ms": median, "p95_ms": p95, "each_ms": [round(value) for value in values]}
    if reach is None:
        return figures
    reached = median <= reach[0] and p95 <= reach[1] if median is not None and p95 is not None else None
    return figures | {"reach_ms": list(reach), "reached": reached}


def _superseded(asked: list[tuple[Question, Asked]]) -> dict[str, Any]:
    """Tokens of answers that were taken back, against all that are billed."""
    stages = [stage for _, one in asked for stage in one.turn["stages"] if stage["billed_tokens"] is not None]
    lost = sum((Decimal(stage["billed_tokens"]) for stage in stages if stage["outcome"] == "superseded"), Decimal(0))
    billed = sum((Decimal(stage["billed_tokens"]) for stage in stages if stage["outcome"] != "superseded"), Decimal(0))
    share = round(float(lost / billed), 4) if billed else None
    reached = None if share is None else share <= SUPERSEDED_SHARE_MAX
    return {"tokens": str(lost), "billed": str(billed), "share": share, "reach": SUPERSEDED_SHARE_MAX, "reached": reached}


def _sources(asked: list[tuple[Question, Asked]]) -> dict[str, dict[str, int]]:
    """By kind of question, where its answer came from."""
    kinds: dict[str, Counter[str]] = {}
    for question, one in asked:
        source = one.plan.split(":")[0] if one.plan.startswith("faq") else one.plan
        kinds.setdefault(question.kind, Counter())[f"{source}, gave way" if one.gave_way else source] += 1
    return {kind: dict(count) for kind, count in kinds.items()}
