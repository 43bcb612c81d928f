"""The demo: three guests of a hotel speak to a robot without hardware, and its books are shown."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent import profile as profiles
from agent.app import opened
from agent.audio import wav
from agent.clock import SystemClock
from agent.sim.guests import hotel_guests
from agent.sim.waterfall import draw
from agent.weights import catalog, verify

RECORDING = "beckett.wav"

Shown = Callable[[str, dict[str, Any]], None]


def questions(folder: Path) -> list[str]:
    """What guests ask, spoken, as files in a new folder. Raises MissingPart or BadWeights where that can't be."""
    folder.mkdir()
    recording = verify.paths(catalog.read().find("recordings"), catalog.models_folder())[RECORDING]
    return [str(guest.wav) for guest in hotel_guests(folder, recording)]


async def run(folder: Path, profile: str, state: Path, show: Shown) -> Path:
    """Runs the three turns, showing each as it ends; leaves replies, guests and a picture in `folder`, which exists."""
    models = catalog.models_folder()
    recordings = verify.paths(catalog.read().find("recordings"), models)
    turns: list[tuple[str, dict[str, Any]]] = []
    async with opened(profiles.load(profile), state, models, SystemClock()) as app:
        for guest in hotel_guests(folder, recordings[RECORDING]):
            reply = folder / f"reply-{len(turns) + 1}.wav"
            told = await app.ask(wav.read(guest.wav), reply)
            turns.append((guest.name, told))
            show(guest.name, told)
    picture = folder / "waterfall.png"
    draw(turns, picture)
    return picture
