"""Whether the robot stops for itself: it tells stories for minutes while the hall plays its voice back to it."""

from collections.abc import Sequence
from typing import Any

from agent.bench.talk.questions import Question
from agent.bench.talk.stage import Stage

ECHO_DB = -10.0

STOPS = ("hushed",)
DUCKS = ("doubting",)

UNHEARD_MAX = 5
"""Of a robot that hears no more nothing can be said."""


async def measure(stage: Stage, stories: Sequence[Question], minutes: float, progress: Any) -> dict[str, Any]:
    """False stops and false duckings in so many minutes of the robot's own speech, its echo at ECHO_DB."""
    stage.hall.echo(ECHO_DB)
    spoken_s, told, cut, unheard = 0.0, 0, 0, 0
    since = len(stage.floors)
    try:
        while spoken_s < minutes * 60 and unheard < UNHEARD_MAX:
            asked = await stage.asked(stories[(told + unheard) % len(stories)].pcm)
            if asked is None:
                unheard += 1
                continue
            voices = [one for one in asked.turn["stages"] if one["stage"] == "tts"]
            _, samples = stage.played_since(asked.spoken.last_at)
            spoken_s += float((abs(samples) > 1e-4).mean() * len(samples) / 16_000) if len(samples) else 0.0
            cut += any(one["outcome"] == "interrupted" for one in voices)
            told += 1
            progress(f"own voice: {spoken_s:.0f} s of {minutes * 60:.0f}, {asked.plan}")
    finally:
        stage.hall.echo(None)
    floors = [floor for _, floor in stage.floors[since:]]
    stops, ducks = (sum(floor in names for floor in floors) for names in (STOPS, DUCKS))
    return {
        "minutes": round(spoken_s / 60, 2),
        "echo_db": ECHO_DB,
        "answers": told,
        "false_stops": stops,
        "cut": cut,
        "ducked": ducks,
        "not_heard": unheard,
        "reach": 0,
        "reached": stops == cut == 0 and spoken_s >= minutes * 60 if minutes else None,
    }
