"""Finds which phonemes say which words of a text, so that the voice knows what has been said.

A phonemiser marks words by spaces, but joins short ones ("in the" is one group) and spreads numbers over several ("$20"). Words
and groups are therefore paired as sentences are in Gale and Church's alignment: by their lengths, in order, at the least cost.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
"""A run without spaces, or one character of a script that has none."""

MARKS = ".,;:!?"
"""Punctuation the phonemiser keeps."""

WORDS_JOINED_MAX = 3

GROUPS_OF_WORD_MAX, GROUPS_OF_NUMBER_MAX = 4, 16
"""An abbreviation is spelt out; a telephone number takes sixteen."""

PHONEMES_PER_DIGIT = 5

MISPLACED_MARK = 4.0
"""Cost of a pair of which only one side ends in a mark; a clause rarely ends anywhere else."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text and the phonemes that say it, counted over the whole text."""

    until: int
    """Characters of the text up to the next word."""
    first: int
    last: int
    """Phonemes [first, last)."""


def align(text: str, phonemes: Sequence[str]) -> list[Word]:
    """Pairs the words of a text with its phonemes, of which " " ends a group. Where no pairing is possible words share the phonemes
    by their length. Empty where the text has no word or there is no phoneme."""
    starts = [found for found in WORD.finditer(text) if any(character.isalnum() for character in found[0])]
    if not starts or not phonemes:
        return []
    untils = [found.start() for found in starts[1:]] + [len(text)]
    words = [text[found.start() : until] for found, until in zip(starts, untils, strict=True)]
    spans = _pair(words, list(_groups(phonemes)), phonemes) or _share(words, len(phonemes))
    return [Word(until, first, last) for until, (first, last) in zip(untils, spans, strict=True)]


@dataclass(frozen=True, slots=True)
class Timed:
    """A word and the frames of its sentence that say it."""

    until: int
    """Characters of the text up to the next word."""
    first: int
    last: int
    """Frames [first, last)."""


def timed(words: Sequence[Word], offset: int, starts: Sequence[int]) -> list[Timed]:
    """The words of one sentence, whose phonemes begin at `offset` of the text's. `starts` are the frames at which its phonemes start,
    and at the end where the last one ends."""
    here = [word for word in words if offset <= word.first < offset + len(starts) - 1]
    return [Timed(word.until, starts[word.first - offset], starts[min(word.last - offset, len(starts) - 1)]) for word in here]


def told(words: Sequence[Timed], first: int, last: int, given: int, hop: int) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Of a piece of sound, frames [first, last), after `given` characters: the characters up to which its text goes, that of the words
    whose sound begins in it, and its marks (samples, characters): where each of these words has been said."""
    begun = [word for word in words if word.first < last and word.until > given]
    marks = {(min(word.last, last) - first) * hop: word.until - given for word in begun}
    return max((word.until for word in begun), default=given), tuple(sorted(marks.items()))


def _groups(phonemes: Sequence[str]) -> Iterator[tuple[int, int]]:
    first = 0
    for at, phoneme in enumerate((*phonemes, " ")):
        if phoneme == " ":
            if at > first:
                yield first, at
            first = at + 1


def _share(words: list[str], phonemes: int) -> list[tuple[int, int]]:
    """Every word as many phonemes as it has its part of the letters."""
    whole = sum(map(len, words))
    ends = [phonemes * sum(map(len, words[: at + 1])) // whole for at in range(len(words))]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def _pair(words: list[str], groups: list[tuple[int, int]], phonemes: Sequence[str]) -> list[tuple[int, int]]:
    """The cheapest way to give every word its groups; none where there are too many of either."""
    sounds = [_sound("".join(phonemes[first:last])) for first, last in groups]
    texts = [_letters(word) for word in words]
    best: dict[tuple[int, int], tuple[float, int, int]] = {(0, 0): (0.0, 0, 0)}
    for word in range(len(words)):
        for group in range(len(groups)):
            if (word, group) not in best:
                continue
            so_far = best[word, group][0]
            for joined, taken in _steps(words, word, len(groups) - group):
                cost = so_far + _cost(texts[word : word + joined], sounds[group : group + taken])
                to = (word + joined, group + taken)
                if to not in best or cost < best[to][0]:
                    best[to] = (cost, word, group)
    return _way_back(best, groups, len(words))


def _steps(words: list[str], word: int, groups_left: int) -> Iterator[tuple[int, int]]:
    """How many words from this one on may go with how many groups: several with one, or one with several."""
    for joined in range(1, min(WORDS_JOINED_MAX, len(words) - word) + 1):
        yield joined, 1
    most = GROUPS_OF_NUMBER_MAX if any(character.isdigit() for character in words[word]) else GROUPS_OF_WORD_MAX
    for taken in range(2, min(most, groups_left) + 1):
        yield 1, taken


def _way_back(best: dict[tuple[int, int], tuple[float, int, int]], groups: list[tuple[int, int]], words: int) -> list[tuple[int, int]]:
    at = (words, len(groups))
    if at not in best:
        return []
    spans: list[tuple[int, int]] = []
    while at != (0, 0):
        _, word, group = best[at]
        spans += [(groups[group][0], groups[at[1] - 1][1])] * (at[0] - word)
        at = (word, group)
    return spans[::-1]


def _sound(group: str) -> tuple[int, bool]:
    """Its length, and whether it ends in a mark."""
    return len(group.rstrip(MARKS)), group[-1] in MARKS


def _letters(word: str) -> tuple[int, bool]:
    """The length its sound is expected to have, and whether it ends in a mark."""
    told = word.strip()
    digits = sum(character.isdigit() for character in told)
    letters = sum(character.isalpha() for character in told)
    return letters + PHONEMES_PER_DIGIT * digits, told.rstrip("\"')]}»”’")[-1:] in tuple(MARKS)


def _cost(texts: list[tuple[int, bool]], sounds: list[tuple[int, bool]]) -> float:
    expected, long = sum(text[0] for text in texts), sum(sound[0] for sound in sounds)
    marks = MISPLACED_MARK * (texts[-1][1] != sounds[-1][1])
    inner = MISPLACED_MARK * (sum(text[1] for text in texts[:-1]) + sum(sound[1] for sound in sounds[:-1]))
    return (expected - long) ** 2 / (expected + long + 1) + marks + inner
