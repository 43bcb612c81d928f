"""How soon the robot gives way: from the onset of somebody who interrupts to a lowered voice, and to silence at the loudspeaker.

The onset is where the first ONSET_MS begin that are all within ONSET_DB of the interruption's own speech level: breath and the rise of
a soft consonant before it are no speech yet, to a person as little as to a detector. Told are milliseconds from the onset's first sample
at the virtual microphone. Silent is the robot after its last sound before the guest has finished. Somebody it does not fall silent for
until then is missed, and counted. A round whose onset falls into a pause of the story, or just before one,
is done again, as is one whose story was misheard.
"""

import asyncio
import contextlib
import statistics
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeAlias

import numpy as np

from agent.bench.talk.latency import percentile
from agent.bench.talk.questions import Question
from agent.bench.talk.stage import SETTLE_S, Stage
from agent.sim.sound import detect
from agent.sim.sound.detect import HUSH_S, SOUND_DB, STEP_S, Samples, floats, levels_db, speech_level_db
from agent.values import RATE_HZ

REACH_MS = {"ducked": 100, "silent": 300}
"""95th percentile."""

ONSET_MS, ONSET_DB = 30, 20.0

TRIES = 3
"""A story that was misheard is asked for again."""

SOUNDING_S = 0.05
"""Who is interrupted has sounded so shortly before, and who gives way so shortly before that is seen."""

STORY_PLAN = "faq:story"

ANSWER_SECONDS_MAX = 45.0
"""The longest story, told to its end because nobody was heard; and the answer to who interrupted."""

INTO_STORY_S = (1.5, 6.0)
"""So long into a story somebody interrupts."""

KNOWN_S = 1.0
"""Sound before the interruption by which the same place is found in the story as told without one."""


Times: TypeAlias = tuple[float | None, float | None]
"""Milliseconds from the onset to lowered, and to silent; None for what did not happen."""


async def measure(
    stage: Stage,
    questions: Sequence[Question],
    interruptions: Sequence[Question],
    rounds: int,
    chance: Random,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Hears each story once to its end, then interrupts stories at random moments."""
    told = [(question, whole) for question in questions if (whole := await _whole(stage, question)) is not None]
    ducked: list[float] = []
    silent: list[float] = []
    done = 0
    for number in range(rounds if told else 0):
        story, whole = told[number % len(told)]
        asked = len(stage.floors)
        times = await _interrupted(stage, story, interruptions[number % len(interruptions)], whole, chance)
        done += times is not None
        lowered, quiet = times or (None, None)
        floors = " ".join(floor for _, floor in stage.floors[asked:])
        progress(f"interruption {number + 1}: lowered after {lowered} ms, silent after {quiet} ms, {floors}")
        ducked += [lowered] if lowered is not None else []
        silent += [quiet] if quiet is not None else []
    return {
        "rounds": rounds,
        "not_begun": rounds - done,
        "missed": done - len(silent),
        "ducked_ms": _figures(ducked, REACH_MS["ducked"]),
        "silent_ms": _figures(silent, REACH_MS["silent"]),
    }


def onset_s(samples: Samples) -> float:
    """Seconds from the first sample to the onset; 0 for silence."""
    loud = levels_db(samples, RATE_HZ) >= speech_level_db(samples, RATE_HZ) - ONSET_DB
    steps = round(ONSET_MS / 1000 / STEP_S)
    return int(np.argmax(np.convolve(loud, np.ones(steps), "valid") == steps)) * STEP_S if len(loud) >= steps else 0.0


def _figures(values: list[float], reach: int) -> dict[str, Any]:
    p95 = percentile(values, 0.95)
    return {
        "seen": len(values),
        "median": round(statistics.median(values), 1) if values else None,
        "p95": p95,
        "each": [round(value) for value in values],
        "reach_p95": reach,
        "reached": None if p95 is None else p95 <= reach,
    }


async def _whole(stage: Stage, question: Question) -> Samples | None:
    """A story as the loudspeaker plays it when nobody interrupts; None where it is misheard again."""
    for _ in range(TRIES):
        asked = await stage.asked(question.pcm)
        if asked is not None and asked.plan.startswith(STORY_PLAN):
            return stage.played_since(asked.spoken.last_at)[1]
    return None


async def _interrupted(stage: Stage, story: Question, interruption: Question, whole: Samples, chance: Random) -> Times | None:
    """None where no story could be interrupted in the middle of its sound."""
    for _ in range(TRIES):
        await stage.settled()
        begun = stage.hall.say(story.pcm)
        await begun.over()
        first = await _first_sound(stage, begun.last_at)
        await asyncio.sleep(chance.uniform(*INTO_STORY_S))
        spoken = stage.hall.say(interruption.pcm)
        await spoken.over()
        onset = spoken.first_at + onset_s(floats(interruption.pcm))
        times = None if first is None else _times(*stage.played_since(first), onset, spoken.last_at, whole)
        if await _told_story(stage) and times is not None:
            return times
    return None


def _times(begin: float, samples: Samples, onset: float, over: float, whole: Samples) -> Times | None:
    at = onset - begin
    if not _sounding(samples, at):
        return None
    offset = max(0.0, at - KNOWN_S)
    lowered, quiet = detect.ducked_at(samples[int(offset * RATE_HZ) :], whole, RATE_HZ, at - offset), silent_ms(samples, at, over - begin)
    lowered_ms = None if lowered is None else round((lowered + offset - at) * 1000, 1)
    paused = lowered_ms is not None and quiet is not None and lowered_ms > quiet + SOUNDING_S * 1000
    return None if paused else (lowered_ms, quiet)  # by itself, before it gave way: there was nothing to lower, or to end


def _sounding(samples: Samples, at: float) -> bool:
    """Shortly before a moment, in seconds."""
    return bool((levels_db(samples[int(max(0.0, at - SOUNDING_S) * RATE_HZ) : int(at * RATE_HZ)], RATE_HZ) > SOUND_DB).any())


def silent_ms(samples: Samples, at: float, over: float) -> float | None:
    """From a moment to the end of the last sound before `over`, both in seconds; None where there is no silence before that."""
    loud = np.flatnonzero(levels_db(samples[int(at * RATE_HZ) : int(over * RATE_HZ)], RATE_HZ) > SOUND_DB)
    after = (int(loud[-1]) + 1) * STEP_S if len(loud) else 0.0
    return round(after * 1000, 1) if over - at - after >= HUSH_S else None


async def _told_story(stage: Stage) -> bool:
    """Whether it was the story that was interrupted; returns when its turn has ended, and the interruption's where one comes of it."""
    story = False
    with contextlib.suppress(TimeoutError):
        line = await stage.turn(ANSWER_SECONDS_MAX)
        if not line["plan"].startswith(STORY_PLAN):
            return False
        story = True
        await stage.turn(ANSWER_SECONDS_MAX)
        await asyncio.sleep(SETTLE_S)
    return story


async def _first_sound(stage: Stage, moment: float) -> float | None:
    for _ in range(100):
        if (at := stage.first_sound_after(moment)) is not None:
            return at
        await asyncio.sleep(0.05)
    return None
