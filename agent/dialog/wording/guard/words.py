"""Finds words that must not be said: whole words where a language has spaces, anywhere where it has none."""

import re
from collections.abc import Iterable, Iterator

import ahocorasick

from agent.dialog.wording.guard.folding import APOSTROPHES, Folded, fold, gather, ideograph

TRICKS = " *.-_·|/~+"
"""What is put between the letters of a word to hide it; a comma or a full stop of Chinese ends a phrase instead."""

SPELLED = re.compile(r"(?<![^\W_])[^\W\d_](?:[ *._\-|/~+]{1,3}[^\W\d_]){2,}(?![^\W_])")
"""Single letters with something between them."""

SPELLED_TAIL = re.compile(r"(?<![^\W_])[^\W\d_](?:[ *._\-|/~+]{1,3}[^\W\d_])*[ *._\-|/~+]{0,3}$")

GLUED = re.compile(r"[^\W_]+(?:[*._\-|~+]{1,2}[^\W_]+)+")
"""One word with marks inside."""

SUFFIXED = re.compile(r"[a-z]{4,} $")
"""A shorter word is too often the beginning of another."""


class BlockedWords:
    """An automaton over all of them at once."""

    def __init__(self, words: Iterable[str], suffixes: Iterable[str] = ()) -> None:
        """`suffixes` are what a language hangs on a word: "-nya"."""
        patterns = {shape for shape in (_pattern(word) for word in words) if shape.strip()}
        patterns |= {f"{shape.rstrip()}{suffix} " for suffix in suffixes for shape in patterns if SUFFIXED.search(shape)}
        self._bare = frozenset(pattern.replace(" ", "") for pattern in patterns if not any(map(ideograph, pattern)))
        self._longest = max(map(len, patterns), default=0)
        self._automaton = ahocorasick.Automaton()
        for pattern in patterns:
            self._automaton.add_word(pattern, len(pattern))
        self._automaton.make_automaton()

    def find(self, folded: Folded) -> Iterator[tuple[int, int]]:
        """Where blocked words stand, in the original; they may overlap."""
        if not self._longest:
            return
        plain = _canonical(folded, closed=True)
        for last, length in self._automaton.iter(plain.text):
            found = plain.text[last + 1 - length : last + 1]
            start, end = last + 1 - len(found.lstrip()), last + 1 - len(found) + len(found.rstrip())
            yield plain.span(start, end)
        for match in (*SPELLED.finditer(folded.text), *GLUED.finditer(folded.text)):
            if self._hidden(re.sub(r"[\W_]", "", match.group())):
                yield folded.span(*match.span())

    def doubtful(self, folded: Folded) -> int:
        """From which index of the folded text on something may still become a blocked word; its length if nothing may."""
        whole = len(folded.text)
        if not self._longest:
            return whole
        spelled = SPELLED_TAIL.search(folded.text)
        starts = [spelled.start()] if spelled else []
        starts += self._begun(folded)
        if folded.text.endswith("s") and folded.text[-2:-1] in APOSTROPHES:
            starts += self._begun(Folded(folded.text[:-2], folded.at[:-2]))
        return min(starts, default=whole)

    def _begun(self, folded: Folded) -> list[int]:
        """From where on a text may be the beginning of a blocked word; empty if it can't."""
        plain = _canonical(folded, closed=False)
        for start in range(max(0, len(plain.text) - self._longest), len(plain.text)):
            rest = plain.text[start:]
            if self._automaton.longest_prefix(rest) == len(rest):
                return [folded.at.index(plain.at[start])]
        return []

    def _hidden(self, letters: str) -> bool:
        """Letters that are a blocked word, give or take a word of one letter on either side."""
        return any(one in self._bare for one in (letters, letters[1:], letters[:-1], letters[1:-1]))


def _pattern(word: str) -> str:
    shape = _canonical(fold(word), closed=True).text.strip()
    if not shape:
        return ""
    return ("" if ideograph(shape[0]) else " ") + shape + ("" if ideograph(shape[-1]) else " ")


def _canonical(folded: Folded, *, closed: bool) -> Folded:
    """Words with one space between them and one before the first, ideographs with none; `closed` puts one behind the last, too."""
    return gather(_spaced(folded, closed=closed))


def _spaced(folded: Folded, *, closed: bool) -> Iterator[tuple[str, int]]:
    before, between = "", ""
    for place, (character, index) in enumerate(zip(folded.text, folded.at, strict=True)):
        if character in APOSTROPHES:
            between += character if _owns(folded.text, place, closed=closed) else ""
            continue
        if not character.isalnum():
            between += character
            continue
        glued = ideograph(before or " ") and ideograph(character)
        if not (glued and all(one in TRICKS for one in between)) and (between or not before or ideograph(before) != ideograph(character)):
            yield " ", index
        yield character, index
        before, between = character, ""
    if closed or between:
        yield " ", folded.at[-1] if folded.at else 0


def _owns(text: str, place: int, *, closed: bool) -> bool:
    """Does an apostrophe part a word from the s of an owner? Within a word it only hides the word; of an open text nobody knows yet."""
    after = text[place + 2 : place + 3]
    return text[place + 1 : place + 2] == "s" and (not after.isalnum() if after else closed)
