"""Judges by a light lexicon how content a customer sounds, and says when a person had better take over.

    utterance -> score (-3 … 3) -> Mood, which forgets by half each turn -> a reason to offer a person, or none

A customer who says the same thing again, or is not understood again and again, is not helped either: that counts, too.
"""

import functools
import re
from dataclasses import dataclass, field

from agent.dialog.wording.lists import Language, read
from agent.dialog.wording.words import spaced

REACH_WORDS = 3
"""A negation turns what stands so many words behind it: "not a very good idea"."""

SCORE_MAX = 3.0

ESCALATE_BELOW = -3.0
"""Of the accumulated mood: one very angry utterance, or two that clearly complain."""

FAILURES_MAX = 3
"""Answers in a row that did not help; the next would not either."""

KEPT = 0.5
"""What is left of a mood after a turn."""


def score(text: str, language: Language) -> float:
    """From -3 (furious) to 3 (delighted); 0 is indifferent."""
    words = _chinese(text) if language == "zh" else [word.rstrip(".") for word in spaced(text).split()]
    lists = read("mood", language)
    total, since, strong = 0.0, REACH_WORDS + 1, 1.0
    for word in words:
        value = lists["words"].get(word, 0)
        if word in lists["not"]:
            since, strong = 0, 1.0
            continue
        since += 1
        if value:
            turned = -0.75 if value > 0 else -0.25
            total += value * strong * (turned if since <= REACH_WORDS else 1)
        strong = 1.5 if word in lists["more"] else 1.0
    return max(-SCORE_MAX, min(SCORE_MAX, total))


@dataclass
class Mood:
    """One session's."""

    language: Language
    level: float = 0.0
    """The scores so far, older ones halved each turn."""
    failures: int = 0
    """Answers in a row that did not help."""
    _before: str = field(default="", repr=False)
    _again: int = 0

    def heard(self, text: str) -> None:
        """Takes in an utterance."""
        self.level = self.level * KEPT + score(text, self.language)
        said = spaced(text)
        self._again = self._again + 1 if said and said == self._before else 0
        self._before = said

    def answered(self, *, helped: bool) -> None:
        """Takes in how the answer went: False where the robot had to pass or to ask again."""
        self.failures = 0 if helped else self.failures + 1

    @property
    def reason(self) -> str:
        """Why a person should be offered: `angry`, `repeats` or `not-helped`; empty if none need be."""
        if self.level <= ESCALATE_BELOW:
            return "angry"
        if self._again >= 2:
            return "repeats"
        return "not-helped" if self.failures >= FAILURES_MAX else ""


def _chinese(text: str) -> list[str]:
    """The listed words of a text in order, the longest first at each place, and single characters between them."""
    return _listed().findall(spaced(text))


@functools.cache
def _listed() -> re.Pattern[str]:
    lists = read("mood", "zh")
    listed = sorted([*lists["words"], *lists["not"], *lists["more"]], key=len, reverse=True)
    return re.compile("|".join(map(re.escape, listed)) + "|.")
