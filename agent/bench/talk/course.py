"""The course of one robot through the hall, in real time, and what its books say of it afterwards."""

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import fitting
from agent.bench.talk import barge_in, latency, own_voice, questions
from agent.bench.talk.stage import Stage, staged
from agent.clock import seeded
from agent.metering.record import FIGURES
from agent.profile import Profile
from agent.store.reading import LedgerReader
from agent.store.verify import verify_books
from agent.weights import catalog

LISTENING_SECONDS_MAX, MEMORY_MB_MAX, MEMORY_MB_STRETCH = 3.0, 900, 600

MADE_S = 3.0
"""After a start: the phrases and the vectors of an FAQ that was never read before are made, which a robot does once."""

READ_BYTES = 1 << 20

COUNTED = ("input_tokens", "output_tokens", "cached_tokens", "audio_in_ms", "audio_out_ms", "characters")

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Setup:
    """One run."""

    profile: Profile
    name: str
    """The profile's, or its path."""
    corpus: Path
    seed: int
    questions: int
    interruptions: int
    echo_minutes: float


def _warm(profile: Profile) -> None:
    """Reads the weights once, so that a start finds them in memory: files are warm."""
    known, models = catalog.read(), catalog.models_folder()
    for part in fitting.parts_of(profile, live=True):
        for path in fitting.settings_of(profile, part, known, models).files.values():
            with path.open("rb") as file:
                while file.read(READ_BYTES):
                    pass


async def in_hall(setup: Setup, progress: Progress) -> dict[str, Any]:
    """All that is measured in real time, and the robot's books afterwards."""
    _warm(setup.profile)
    with tempfile.TemporaryDirectory() as scratch:
        return await _in_hall(setup, Path(scratch), progress)


async def _in_hall(setup: Setup, scratch: Path, progress: Progress) -> dict[str, Any]:
    seed = setup.seed
    faq, state = questions.site_faq(fitting.faq_path(setup.profile), scratch / "faq.toml"), scratch / "state"
    asked = list(questions.spoken(questions.chosen(setup.questions, setup.corpus, seed), seed))
    stories = list(questions.spoken([("story", text) for text in questions.ASK_FOR_STORY], seed))
    interruptions = list(questions.spoken([("interruption", text) for text in questions.INTERRUPTIONS], seed + 1))
    async with staged(setup.name, state, {"VOXMETER_DIALOG__FAQ": str(faq)}) as stage:
        told: dict[str, Any] = {"listening_after_s": _at_most(round(stage.listening_after_s, 2), LISTENING_SECONDS_MAX)}
        progress(f"listening after {stage.listening_after_s:.2f} s")
        await asyncio.sleep(MADE_S)
        told["latency"] = latency.told(await latency.ask_all(stage, asked, progress))
        told["barge_in"] = await barge_in.measure(stage, stories, interruptions, setup.interruptions, seeded(seed), progress=progress)
        told["own_voice"] = await own_voice.measure(stage, stories, setup.echo_minutes, progress)
        told |= await _health(stage)
    return told | {"said": stage.said, "books": books(state, stage.turns)}


async def _health(stage: Stage) -> dict[str, Any]:
    health = await stage.health()
    memory = _at_most(health["pss_mb"], MEMORY_MB_MAX) | {"stretch": MEMORY_MB_STRETCH}
    return {"memory_pss_mb": memory, "health": health["health"]}


def _at_most(value: float, reach: float) -> dict[str, Any]:
    return {"value": value, "reach": reach, "reached": value <= reach}


def books(state: Path, turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Whether a ledger verifies, and whether the stages on it are those of the turns told: as many, and as much of everything."""
    verdict, told = verify_books(state), [stage for turn in turns for stage in turn["stages"]]
    reader = LedgerReader(state)
    try:
        usage = [record["data"] for record in reader.records("usage")]
    finally:
        reader.close()
    known = {turn["turn_id"] for turn in turns}
    of_turns = [one for one in usage if one["turn_id"] in known]
    on_books = {name: sum(one.get(FIGURES[name]) or 0 for one in of_turns) for name in COUNTED}
    in_turns = {name: sum(stage[name] or 0 for stage in told) for name in COUNTED}
    adds_up = on_books == in_turns and len(of_turns) == len(told)
    return {
        "records": verdict.records,
        "problem": verdict.problem,
        "turns": len(turns),
        "stages": {"on_books": len(of_turns), "told": len(told), "of_no_turn": len(usage) - len(of_turns)},
        "sums": {"on_books": on_books, "told": in_turns},
        "adds_up": adds_up,
        "reached": verdict.whole and adds_up,
    }
