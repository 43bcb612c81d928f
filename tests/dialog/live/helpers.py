"""Plays scenes of a conversation and reads their books."""

from pathlib import Path
from typing import Any

from agent.metering.cards import Cards
from agent.sim.talk import Played, Scene, play
from agent.sim.talk.campaign import problems
from agent.store.reading import LedgerReader
from tests.metering.test_rating import card

CARDS = Cards.of([card()])

LONG = "Let me tell you about our breakfast. " + "It is served from half past six to ten in the garden. " * 2


def usage(folder: Path) -> list[dict[str, Any]]:
    return [record["data"] for record in LedgerReader(folder).records("usage")]


def endings(folder: Path) -> list[tuple[str, str]]:
    return [(record["stage"], record["outcome"]) for record in usage(folder)]


def played(folder: Path, scene: Scene, seed: int = 1) -> Played:
    """Plays it; whatever happened, the books are whole and say the same as the turns that were told."""
    told = play(scene, folder, CARDS, seed)
    assert problems(folder, told) == []
    return told
