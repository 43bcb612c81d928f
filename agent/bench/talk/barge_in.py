"""How soon the robot gives way: from the first sound of somebody who interrupts to a lowered voice, and to silence at the loudspeaker."""

import asyncio
import statistics
from collections.abc import Sequence
from random import Random
from typing import Any

from agent.bench.talk.latency import percentile
from agent.bench.talk.questions import ASK_FOR_STORY, Question
from agent.bench.talk.stage import Stage
from agent.sim.sound import detect
from agent.sim.sound.detect import Samples
from agent.values import RATE_HZ

REACH_MS = {"ducked": 100, "silent": 300}
"""95th percentile."""

INTO_STORY_S = (1.5, 6.0)
"""So long into a story somebody interrupts."""

KNOWN_S = 1.0
"""Sound before the interruption by which the same place is found in the story as told without one."""


async def measure(
    stage: Stage, questions: Sequence[Question], interruptions: Sequence[Question], rounds: int, chance: Random
) -> dict[str, Any]:
    """Hears each story once to its end, then interrupts stories at random moments."""
    whole = [await _whole(stage, question) for question in questions]
    ducked: list[float] = []
    silent: list[float] = []
    missed = 0
    for number in range(rounds):
        at = number % len(questions)
        one = await _interrupted(stage, questions[at], interruptions[number % len(interruptions)], whole[at], chance)
        missed += one is None or one[1] is None
        ducked += [one[0]] if one and one[0] is not None else []
        silent += [one[1]] if one and one[1] is not None else []
    return {
        "rounds": rounds,
        "missed": missed,
        "ducked_ms": _figures(ducked) | {"reach": REACH_MS["ducked"]},
        "silent_ms": _figures(silent) | {"reach": REACH_MS["silent"]},
    }


def _figures(values: list[float]) -> dict[str, Any]:
    return {"seen": len(values), "median": round(statistics.median(values), 1) if values else None, "p95": percentile(values, 0.95)}


async def _whole(stage: Stage, question: Question) -> Samples:
    """A story as the loudspeaker plays it when nobody interrupts."""
    asked = await stage.ask(question.pcm)
    assert asked.plan.startswith("faq:story"), f"{question.text!r} was heard as {asked.turn['transcript']!r}"
    _, samples = stage.played_since(asked.spoken.last_at)
    return samples


async def _interrupted(
    stage: Stage, story: Question, interruption: Question, whole: Samples, chance: Random
) -> tuple[float | None, float | None] | None:
    """(ms to lowered, ms to silent) from the interruption's first sample; None where the story did not begin."""
    begun = stage.hall.say(story.pcm)
    await begun.over()
    first = await _first_sound(stage, begun.last_at)
    if first is None:
        return None
    await asyncio.sleep(chance.uniform(*INTO_STORY_S))
    spoken = stage.hall.say(interruption.pcm)
    await spoken.over()
    begin, samples = stage.played_since(first)
    onset = spoken.first_at - begin
    known = samples[max(0, int((onset - KNOWN_S) * RATE_HZ)) :]
    offset = max(0.0, onset - KNOWN_S)
    lowered = detect.ducked_at(known, whole, RATE_HZ, onset - offset)
    quiet = detect.silent_at(samples, RATE_HZ, onset)
    for _ in range(2):  # the story that was given up, and the answer to who interrupted it
        await stage.turn()
    await asyncio.sleep(0.4)
    return None if lowered is None else (lowered + offset - onset) * 1000, None if quiet is None else (quiet - onset) * 1000


async def _first_sound(stage: Stage, moment: float) -> float | None:
    for _ in range(100):
        if (at := stage.first_sound_after(moment)) is not None:
            return at
        await asyncio.sleep(0.05)
    return None


STORIES = ASK_FOR_STORY
