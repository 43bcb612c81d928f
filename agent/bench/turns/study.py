"""Measures how many guests are cut off before they have finished, and how long the others wait."""

from pathlib import Path
from typing import Any

from agent.bench.turns.clips import QUESTIONS, clips
from agent.bench.turns.replay import Models, judge
from agent.clock import seeded
from agent.ports import Tts
from agent.profile import Hearing

SPEEDS = (1.0, 0.92, 1.08, 0.96)
"""Voices; with the questions there are, 264 clips with a pause and as many without."""

CUT_OFF_MAX = 0.04
SILENCE_MS_MEDIAN, SILENCE_MS_P95 = 250, 650


async def run(tts: Tts, root: Path, hearing: Hearing, seed: int, speeds: tuple[float, ...] = SPEEDS) -> dict[str, Any]:
    """Every question at every speed, with a pause and without: by sound and words alone, and where the robot knows what is asked.

    Who knows what is asked vouches for words that are nearly those of a question of the list, as an FAQ does for its own.
    """
    models = Models(root)
    pairs = [pair async for pair in clips(tts, speeds, seeded(seed))]
    told: dict[str, Any] = {
        "reach": {"cut_off_share": CUT_OFF_MAX, "silence_ms": {"median": SILENCE_MS_MEDIAN, "p95": SILENCE_MS_P95}},
    }
    for name, known in (("unknown", ()), ("known", QUESTIONS)):
        told[name] = {
            "paused": judge(models, hearing, [paused for paused, _ in pairs], known).told(),
            "plain": judge(models, hearing, [plain for _, plain in pairs], known).told(),
        }
    return told
