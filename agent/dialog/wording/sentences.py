"""Cuts a stream of text into what a voice can say: the first clause as soon as it is there, then whole sentences."""

import re

from sentence_stream import SentenceBoundaryDetector

CLAUSE_END = re.compile(r"[,;:，；：、—](?=\s)|[，；：、]")
"""Where a voice may breathe: a mark with a space behind it (so not inside 6:30 or 1,000), or a full-width mark."""

CLAUSE_CHARACTERS_MIN = 8
"""A shorter clause ("Yes,") sounds cut off, and the next could not be ready in time."""


class Sentences:
    """One reply's text, as it comes."""

    def __init__(self) -> None:
        self._detector = SentenceBoundaryDetector()
        self._opened = False

    def add(self, delta: str) -> list[str]:
        """What can be said now."""
        said = [sentence for sentence in self._detector.add_chunk(delta) if sentence]
        if not said and not self._opened:
            said = self._first_clause()
        self._opened = self._opened or bool(said)
        return said

    def finish(self) -> list[str]:
        """What is left when no more text comes."""
        rest = self._detector.finish()
        return [rest] if rest else []

    def _first_clause(self) -> list[str]:
        held = self._detector.current_sentence + self._detector.remaining_text
        for mark in CLAUSE_END.finditer(held):
            if mark.end() >= CLAUSE_CHARACTERS_MIN:
                self._detector.current_sentence, self._detector.remaining_text = "", held[mark.end() :].lstrip()
                return [held[: mark.end()].strip()]
        return []
