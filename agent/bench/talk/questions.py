"""What guests ask in the hall: questions the FAQ has, small talk, and strange questions, each said by one of several voices."""

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.clock import seeded
from agent.sim.guests import GuestVoice
from agent.sim.guests import said as said  # noqa: PLC0414  others here take it from this module

SPEEDS = (1.0, 0.94, 1.06)
"""A voice played slower or faster, its pitch with it, stands for another voice."""

SHARES = {"faq": 0.4, "small_talk": 0.45, "strange": 0.15}

STORIES = 3

STORY = (
    "Our house was built by a captain who never wanted to live on land again. He had the windows made round, so that the garden looked "
    "like the sea to him, and he hung his hammock between two pillars of the hall. Guests came to hear his stories, and those who came "
    "too late for the coach had to stay, so he bought beds. When the beds were full he bought the house next door, and when that was full "
    "he sent for a cook. The cook stayed for forty years, and his soup is still on the card.",
    "Every evening at the same hour the lights of the harbour go on, one after the other, from the old tower to the new bridge. People "
    "say that a keeper once walked the whole way with a burning stick, and that the lamps still wait for him before they begin. Children "
    "count them aloud from the windows of the upper floors, and whoever reaches the last one first may choose the cake for tomorrow. "
    "Nobody has ever agreed on how many there are, which is why they count again each night.",
    "The garden has one tree that is older than the house. It came as a stick in the hand of a gardener, who leaned on it while he thought "
    "about where to plant the roses. He thought for so long that the stick took root, and he had to go home without it. Since then nobody "
    "leans on anything in our garden, and the roses grow wherever they like. In spring you can smell them from the stairs, and in autumn "
    "the leaves of the old stick cover the benches in yellow and red.",
)
"""Long answers, for a robot that is to speak for minutes."""

ASK_FOR_STORY = ("Tell me about the captain.", "Tell me about the lights of the harbour.", "Tell me about the old tree.")

INTERRUPTIONS = ("Excuse me, where is the toilet?", "Stop, how much is parking per hour?", "Sorry, is there a cash machine?")


@dataclass(frozen=True, slots=True)
class Question:
    """One question and its sound."""

    kind: str
    text: str
    pcm: bytes
    """s16le at 16 kHz, silence at both ends cut off."""


def spoken(texts: list[tuple[str, str]], seed: int) -> Iterator[Question]:
    """(kind, text) said aloud, in voices chosen by the seed."""
    voice, chance = GuestVoice(), seeded(seed)
    for kind, text in texts:
        yield Question(kind, text, said(voice, text, chance.choice(SPEEDS)))


def chosen(count: int, corpus: Path, seed: int) -> list[tuple[str, str]]:
    """As many questions of each kind as SHARES says, from the corpus, in the order of the seed."""
    chance = seeded(seed)
    faq = json.loads((corpus / "faq" / "questions.json").read_text(encoding="utf-8"))["en"]
    talk = tomllib.loads((corpus / "utterances.toml").read_text(encoding="utf-8"))["en"]["small_talk"]
    kinds = {"faq": [text for text, *_ in faq["asked"]], "small_talk": list(talk), "strange": list(faq["strangers"])}
    picked: list[tuple[str, str]] = []
    for kind, texts in kinds.items():
        chance.shuffle(texts)
        wanted = round(count * SHARES[kind])
        picked += [(kind, texts[at % len(texts)]) for at in range(wanted)]
    chance.shuffle(picked)
    return picked


def site_faq(shipped: Path, target: Path) -> Path:
    """The shipped FAQ with the stories added, as the measured robot has it."""
    entries = "".join(
        f'\n[[entry]]\nid = "story-{at}"\nquestion = "{ask}"\nanswer = "{text}"\n'
        for at, (ask, text) in enumerate(zip(ASK_FOR_STORY, STORY, strict=True))
    )
    target.write_text(shipped.read_text(encoding="utf-8") + entries, encoding="utf-8")
    return target
