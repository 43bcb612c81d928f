"""Keeps back what must not be said, sent or kept: sensitive words, and what belongs to a person.

Text comes in pieces and leaves in pieces. What might be the beginning of something is held until it is known; whether it is held
is decided character by character, so that the same text leaves the same way however it was cut.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from agent.dialog.wording.guard.folding import Folded, fold, ideograph
from agent.dialog.wording.guard.personal import PersonalNumbers, endless
from agent.dialog.wording.guard.words import BlockedWords
from agent.dialog.wording.lists import Language, read

Kind = Literal["word", "email", "phone", "card", "iban", "identity", "number"]

Style = Literal["spoken", "kept"]
"""What stands in the place of what was found: a phrase for the ear, or `[phone]` for the books."""

HELD_CHARACTERS_MAX = 256
"""Longer than anything that is looked for; digits that run on beyond it are taken for a number of some kind."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was taken out. It says where, never what."""

    kind: Kind
    start: int
    end: int
    """Characters of the text as it came in."""


class Guard:
    """What is looked for at one site, in one language (and in English everywhere); serves any number of texts."""

    def __init__(self, language: Language, blocked: Sequence[str] = (), allowed: Sequence[str] = ()) -> None:
        """`blocked` adds to the shipped list; numbers and addresses in `allowed` texts (the site's FAQ) may be told."""
        shipped = {*read("guard", language)["blocked"], *read("guard", "en")["blocked"]}
        self._words = BlockedWords(shipped.union(blocked), read("guard", language).get("suffixes", ()))
        self._personal = PersonalNumbers(allowed)
        self._said: dict[str, str] = read("guard", language)["instead"]

    def stream(self, style: Style) -> "GuardedText":
        """A text that comes in pieces."""
        return GuardedText(self, style)

    def redact(self, text: str, style: Style) -> tuple[str, tuple[Finding, ...]]:
        """A whole text, and what was taken out of it."""
        stream = self.stream(style)
        return stream.add(text) + stream.finish(), stream.findings

    def find(self, folded: Folded) -> list[Finding]:
        """In order, without overlaps: of two that overlap the earlier, then the longer one is taken, up to where both end."""
        every = [Finding("word", *span) for span in self._words.find(folded)]
        every += [Finding(kind, *span) for kind, span in self._personal.find(folded)]
        found: list[Finding] = []
        for one in sorted(every, key=lambda one: (one.start, -one.end)):
            if found and one.start < found[-1].end:
                found[-1] = Finding(found[-1].kind, found[-1].start, max(one.end, found[-1].end))
            else:
                found.append(one)
        return found

    def doubtful(self, folded: Folded) -> int:
        """From which index of the folded text on something may still become a finding."""
        start = min(self._words.doubtful(folded), self._personal.doubtful(folded), len(folded.text))
        while start > 0 and not _apart(folded.text[start - 1]) and (start == len(folded.text) or not _apart(folded.text[start])):
            start -= 1
        return start

    def instead(self, kind: Kind, style: Style) -> str:
        return f"[{kind}]" if style == "kept" else self._said[kind]


class GuardedText:
    """One text on its way out."""

    def __init__(self, guard: Guard, style: Style) -> None:
        self._guard = guard
        self._style = style
        self._held = ""
        self._gone = 0
        self._findings: list[Finding] = []

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was taken out so far."""
        return tuple(self._findings)

    def add(self, delta: str) -> str:
        """What is certainly clean by now."""
        return "".join(self._step(character) for character in delta)

    def finish(self) -> str:
        """The rest, when no more text comes."""
        return self._release(len(self._held), self._guard.find(fold(self._held)))

    def _step(self, character: str) -> str:
        self._held += character
        full = len(self._held) >= HELD_CHARACTERS_MAX
        if _inside_word(character) and not full:
            return ""
        folded = fold(self._held)
        if full:
            found = self._guard.find(folded)
            return self._release(len(self._held), [*found, *self._endless(folded, found)])
        start = self._guard.doubtful(folded)
        cut = folded.at[start] if start < len(folded.text) else len(self._held)
        if not cut:
            return ""
        found = self._guard.find(folded)
        cut = min([cut, *(one.start for one in found if one.end > cut)])
        return self._release(cut, found)

    def _endless(self, folded: Folded, found: list[Finding]) -> Iterator[Finding]:
        """The digits at the end of a text that had to be cut."""
        if span := endless(folded):
            start = max([span[0], *(one.end for one in found)])
            if start < span[1]:
                yield Finding("number", start, span[1])

    def _release(self, cut: int, found: list[Finding]) -> str:
        out, at = "", 0
        for one in found:
            if one.end <= cut:
                out += self._held[at : one.start] + self._guard.instead(one.kind, self._style)
                at = one.end
                self._findings.append(Finding(one.kind, one.start + self._gone, one.end + self._gone))
        out += self._held[at:cut]
        self._held, self._gone = self._held[cut:], self._gone + cut
        return out


def _inside_word(character: str) -> bool:
    return character.isalnum() and not ideograph(character)


def _apart(character: str) -> bool:
    """A text may be cut on either side of it; a full stop of Chinese has no space behind it."""
    return character.isspace() or character == "\N{IDEOGRAPHIC FULL STOP}" or ideograph(character)
