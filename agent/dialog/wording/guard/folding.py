"""Folds text so that a word looks the same however it is disguised, and knows where each folded character came from."""

import functools
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

LOOKALIKES = str.maketrans("аеорсхуіѕјκοαιν", "aeopcxyisjkoaiv")
"""Cyrillic and Greek letters that nobody can tell from Latin ones on a screen."""

BLANKS = frozenset("\u115f\u1160\u3164\u2800")
"""Letters by their category, empty to the eye."""

APOSTROPHES = frozenset("'\N{RIGHT SINGLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}\N{MODIFIER LETTER APOSTROPHE}`")


@dataclass(frozen=True, slots=True)
class Folded:
    """Folded text."""

    text: str
    at: tuple[int, ...]
    """For each of its characters, the index of the original one it came from."""

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where the folded characters from `start` up to `end` stand in the original."""
        return self.at[start], self.at[end - 1] + 1


def fold(text: str) -> Folded:
    """Compatibility forms, case, accents and look-alikes levelled; what can't be seen is gone."""
    return gather((shape, index) for index, character in enumerate(text) for shape in _shape(character))


def gather(pairs: Iterable[tuple[str, int]]) -> Folded:
    """Folded text of (character, index in the original)."""
    kept = list(pairs)
    return Folded("".join(character for character, _ in kept), tuple(index for _, index in kept))


def ideograph(character: str) -> bool:
    """Written without spaces between words."""
    return "\u3400" <= character <= "\u9fff" or "\u3040" <= character <= "\u30ff" or "\U00020000" <= character <= "\U0003ffff"


@functools.lru_cache(maxsize=4096)
def _shape(character: str) -> str:
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    return "".join(one for one in plain if not _unseen(one)).translate(LOOKALIKES)


def _unseen(character: str) -> bool:
    if character in BLANKS:
        return True
    category = unicodedata.category(character)
    return category in ("Mn", "Me", "Cf") or (category == "Cc" and not character.isspace())
