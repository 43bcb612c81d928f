"""Decides whether a sentence of the language model states anything: only small talk may pass, and words of the site's own entry.

A small model asked about a site invents. So its words count as invented unless they stand in a text that may be told (`allowed`,
the FAQ entry at hand) or in a list of small talk that can't carry a fact. What the customer asked is no such text: to repeat "a
sauna" is to affirm one. Beside the words, shapes are refused that affirm without a word of their own: "I do.", "That is not."
"""

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from agent.dialog.wording.lists import Language, read
from agent.dialog.wording.words import WORD, plain, uncovered

CLAUSE = re.compile(r"[^,;:.!?…，；：。！？、—\n]+")

SENTENCE = re.compile(r"[^.!?…。！？]+[.!?…。！？]+\s*")
"""With its end: a sentence that was cut off may still turn into anything."""


@dataclass(frozen=True, slots=True)
class _Talk:
    words: frozenset[str]
    phrases: tuple[re.Pattern[str], ...]
    claims: tuple[re.Pattern[str], ...]


class FactGuard:
    """What a reply may be made of; serves its clauses as they come, or the whole."""

    def __init__(self, language: Language, allowed: Sequence[str] = ()) -> None:
        self._language = language
        self._talk = _talk(language)
        self._told = [plain(text) for text in allowed]
        self._told_words = frozenset(word for text in self._told for word in WORD.findall(text))

    def clause(self, text: str) -> bool:
        """May it be said?"""
        return not self.invented(text)

    def passing(self, reply: str) -> str:
        """The reply's whole sentences up to the first that may not be said."""
        said = ""
        for sentence in SENTENCE.findall(reply):
            if not WORD.search(sentence) or not self.clause(sentence):
                break
            said += sentence
        return said.strip()

    def invented(self, text: str) -> tuple[str, ...]:
        """Words that state something, and clauses that affirm something, in order; empty if all of it is small talk."""
        found: list[str] = []
        for clause in CLAUSE.findall(plain(text)):
            found += self._in_clause(clause)
        return tuple(found)

    def _in_clause(self, clause: str) -> Iterator[str]:
        words = " ".join(WORD.findall(clause))
        if any(claim.search(words) for claim in self._talk.claims):
            yield words
            return
        for phrase in self._talk.phrases:
            words = phrase.sub(" ", words)
        if self._language == "zh":
            yield from uncovered(words, self._listed)
        else:
            yield from (word for word in words.split() if word not in self._talk.words and word not in self._told_words)

    def _listed(self, word: str) -> bool:
        return word in self._talk.words or (len(word) > 1 and any(word in text for text in self._told))


def invented(reply: str, allowed: Sequence[str], language: Language) -> tuple[str, ...]:
    """What a reply states that no text it may tell says."""
    return FactGuard(language, allowed).invented(reply)


@functools.cache
def _talk(language: Language) -> _Talk:
    lists = read("facts", language)
    apart = "" if language == "zh" else r"(?<!\S)"
    phrases = tuple(re.compile(f"{apart}(?:{phrase}){apart.replace('<!', '!')}") for phrase in lists["phrases"])
    return _Talk(frozenset(lists["words"]), phrases, tuple(re.compile(claim) for claim in lists["claims"]))
