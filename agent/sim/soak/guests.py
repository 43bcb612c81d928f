"""What guests do in a soak, one visit after the other for ever: they ask, wait, interrupt, cough, and stay away for a while."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from agent.clock import seeded
from agent.dialog.faq.book import Book
from agent.sim.guests import GuestVoice, said
from agent.values import RATE_HZ

SPEEDS = (1.0, 0.94, 1.06)

SMALL_TALK = (
    *("How are you today?", "What is your name?", "Do you like music?", "Are you a robot?", "I am so happy today!", "You are funny."),
    *("Who made you?", "How old are you?", "Can you dance?", "Do you sleep?", "I am bored.", "What a day!", "Tell me a joke."),
    *("I had a long flight and I am very tired.", "Nice to meet you.", "I love robots.", "What do you think about people?"),
)

STRANGE = (
    *("What is the capital of France?", "Who won the football game last night?", "Do you sell laptops?", "Is the pool heated?"),
    "Can you please tell me when the next train to the mountains leaves, and whether I can take my bicycle with me?",
    *("I want to speak to a person.", "Goodbye, and thank you very much.", "Thank you.", "Uh-huh.", "Hello."),
)

INTERRUPTIONS = ("Stop.", "Excuse me, where is the toilet?", "Wait, that is not what I meant.", "Sorry, is there a cash machine?", "Okay.")

NOISES_S = (0.05, 0.12, 0.2, 0.35, 0.6, 1.5)
"""From a click over coughs to a chair that is moved."""

NOISE_LEVEL = 6_000

AWAY_S = (7.0, 12.0)
"""Longer than the robot's sessions, so that one ends."""

LATER_S = (0.3, 1.5)
"""After an answer's end, and after the beginning of one that is interrupted."""

Kind = Literal["question", "interruption", "noise"]


@dataclass(frozen=True, slots=True)
class Clip:
    """Something that is heard."""

    kind: Kind
    text: str
    pcm: bytes
    """s16le at RATE_HZ."""

    @property
    def seconds(self) -> float:
        return len(self.pcm) / 2 / RATE_HZ


@dataclass(frozen=True, slots=True)
class Visit:
    """One thing guests do. The numbers are those of clips."""

    wait_s: float
    """Quiet before."""
    say: int
    then: int | None = None
    """What sounds while the answer to it is being spoken."""
    then_s: float = 0.0
    """After the answer's beginning."""


SHARES = {"ask": 0.6, "interrupt": 0.16, "cough": 0.1, "noise": 0.06, "away": 0.08}


def clips(book: Book, seed: int) -> list[Clip]:
    """All that may be said, each in one of several voices."""
    voice, chance = GuestVoice(), seeded(seed)
    asked = [question for entry in book.entries for question in entry.questions]
    spoken: list[tuple[Kind, str]] = [("question", text) for text in (*asked, *SMALL_TALK, *STRANGE)]
    spoken += [("interruption", text) for text in INTERRUPTIONS]
    voices = [Clip(kind, text, said(voice, text, chance.choice(SPEEDS))) for kind, text in spoken]
    return voices + [Clip("noise", f"{seconds} s", noise(seconds, seed)) for seconds in NOISES_S]


def noise(seconds: float, seed: int) -> bytes:
    """A burst that dies away, s16le."""
    samples = int(seconds * RATE_HZ)
    rough = np.frombuffer(seeded(seed).randbytes(samples), np.int8) / 128
    return bytes((rough * np.linspace(1, 0, samples) * NOISE_LEVEL).astype("<i2").tobytes())


def visits(heard: Sequence[Clip], seed: int) -> Iterator[Visit]:
    """Without an end, the same for the same seed. No question comes again before all have been asked, so that what the robot keeps of
    its answers, and each length of a question, is there early."""
    chance = seeded(seed)
    numbers = {kind: [at for at, clip in enumerate(heard) if clip.kind == kind] for kind in ("question", "interruption", "noise")}
    left: list[int] = []
    while True:
        (kind,) = chance.choices(list(SHARES), list(SHARES.values()))
        left = left or chance.sample(numbers["question"], len(numbers["question"]))
        say = chance.choice(numbers["noise"]) if kind == "noise" else left.pop()
        wait_s = chance.uniform(*(AWAY_S if kind == "away" else LATER_S))
        if kind in ("interrupt", "cough"):
            then = chance.choice(numbers["interruption" if kind == "interrupt" else "noise"])
            yield Visit(wait_s, say, then, chance.uniform(*LATER_S))
        else:
            yield Visit(wait_s, say)
