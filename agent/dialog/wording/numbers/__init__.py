"""Writes a text the way a voice should read it: money, times, dates, rooms and phone numbers in words.

    text -> rules of the language, each told where it may look -> spoken text, and which of its characters come from which

Tokens and characters of the voice are counted on what this returns, since that is what is submitted. What was heard at a barge-in
is told in the original text: `heard` leads back.
"""

from collections.abc import Callable
from dataclasses import dataclass

from agent.dialog.wording.lists import Language
from agent.dialog.wording.numbers import chinese, english, indonesian
from agent.dialog.wording.numbers.rules import Piece

RULES: dict[Language, Callable[[str], list[Piece]]] = {"en": english.pieces, "zh": chinese.pieces, "id": indonesian.pieces}


@dataclass(frozen=True, slots=True)
class Aloud:
    """A text as the voice gets it."""

    text: str
    original: str
    spans: tuple[tuple[int, int], ...]
    """(end in `text`, end in `original`) of each piece, both growing; the last ends both."""

    def heard(self, characters: int) -> int:
        """How many characters of the original were heard once so many of the spoken text were; a piece half heard counts not at all,
        unless it was left as it is."""
        spoken = original = 0
        for spoken_end, original_end in self.spans:
            if characters < spoken_end:
                same = self.text[spoken:spoken_end] == self.original[original:original_end]
                return original + max(0, characters - spoken) if same else original
            spoken, original = spoken_end, original_end
        return len(self.original)


def aloud(text: str, language: Language) -> Aloud:
    """The text in words. What no rule knows stays as it is, and reading it again changes nothing."""
    spoken, original = 0, 0
    out: list[str] = []
    spans: list[tuple[int, int]] = []
    for piece in RULES[language](text):
        out.append(piece.spoken)
        spoken, original = spoken + len(piece.spoken), original + len(piece.original)
        spans.append((spoken, original))
    return Aloud("".join(out), text, tuple(spans))
