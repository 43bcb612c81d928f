"""Applies reading rules to a text: each sees only what the rules before it left alone."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text and how it is spoken."""

    original: str
    spoken: str
    done: bool = False
    """A rule has written it; no other looks at it."""


Rule: TypeAlias = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]
"""What it looks for, and how that is spoken."""


def apply(text: str, rules: Iterable[Rule]) -> list[Piece]:
    """The pieces of a text, in order, after all rules."""
    pieces = [Piece(text, text)] if text else []
    for pattern, write in rules:
        pieces = [new for piece in pieces for new in (_split(piece, pattern, write))]
    return pieces


def _split(piece: Piece, pattern: re.Pattern[str], write: Callable[[re.Match[str]], str]) -> list[Piece]:
    if piece.done:
        return [piece]
    out: list[Piece] = []
    at = 0
    for match in pattern.finditer(piece.original):
        if match.start() > at:
            out.append(Piece(piece.original[at : match.start()], piece.original[at : match.start()]))
        out.append(Piece(match.group(), write(match), done=True))
        at = match.end()
    if at < len(piece.original):
        out.append(Piece(piece.original[at:], piece.original[at:]))
    return out


def apart(digits: str, names: tuple[str, ...], between: str = " ") -> str:
    """Digit by digit; anything else is a short break."""
    groups = re.findall(r"\d+", digits)
    return ", ".join(between.join(names[int(digit)] for digit in group) for group in groups)
