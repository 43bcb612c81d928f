"""Scores documents by the words of a question: BM25, given as the share of the best that any document could reach."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from agent.dialog.faq.words import Language, terms

Scores: TypeAlias = npt.NDArray[np.float32]

K1 = 1.2
"""BM25's usual saturation. Its other constant, for length, is 0: an entry with more aliases is not about less."""


class Lexical:
    """An inverted index over documents, each some texts."""

    def __init__(self, documents: Sequence[Sequence[str]], language: Language) -> None:
        self._language = language
        self._size = len(documents)
        found: dict[str, tuple[list[int], list[float]]] = {}
        for at, texts in enumerate(documents):
            counts = Counter(term for text in texts for term in terms(text, language))
            for term, count in counts.items():
                where, weights = found.setdefault(term, ([], []))
                where.append(at)
                weights.append(count / (count + K1))
        self._postings = {
            term: (np.array(where, np.int32), np.array(weights, np.float32) * np.float32(self._rarity(len(where))))
            for term, (where, weights) in found.items()
        }

    def scores(self, question: str) -> Scores:
        """For each document 0 to 1; words that no document has weigh most."""
        total, whole = np.zeros(self._size, np.float32), 0.0
        for term in set(terms(question, self._language, self._postings)):
            where, weights = self._postings.get(term, (np.empty(0, np.int32), np.empty(0, np.float32)))
            whole += self._rarity(len(where))
            total[where] += weights
        return total / np.float32(whole) if whole else total

    def _rarity(self, documents: int) -> float:
        return math.log(1 + (self._size - documents + 0.5) / (documents + 0.5))
