"""Takes what was said apart into words, as the lists write them."""

import re
from collections.abc import Callable

WORD = re.compile(r"[^\W_]+(?:[.:'-][^\W_]+)*")

WRITTEN_OUT = (
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"\bcan(?:'t|not)\b"), "can not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"'m\b"), " am"),
    (re.compile(r"'re\b"), " are"),
    (re.compile(r"'s\b"), " is"),
    (re.compile(r"'ll\b"), " will"),
    (re.compile(r"'ve\b"), " have"),
    (re.compile(r"'d\b"), " would"),
)

CHARACTERS_MAX = 8
"""Of the longest Chinese word in the lists."""


def plain(text: str) -> str:
    """Lower case, English contractions written out; marks as they were."""
    shape = text.casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    for short, whole in WRITTEN_OUT:
        shape = short.sub(whole, shape)
    return shape


def spaced(text: str) -> str:
    """The plain text's words with one space between; Chinese keeps its runs whole."""
    return " ".join(WORD.findall(plain(text)))


def uncovered(text: str, listed: Callable[[str], bool]) -> list[str]:
    """What is left of each run of Chinese when it is laid out with listed words so that as little as possible is."""
    return [rest for run in text.split() if (rest := _rest(run, listed))]


def _rest(run: str, listed: Callable[[str], bool]) -> str:
    left = [(0, "")]
    for end in range(1, len(run) + 1):
        count, rest = left[end - 1]
        ways = [left[start] for start in range(max(0, end - CHARACTERS_MAX), end) if listed(run[start:end])]
        left.append(min([*ways, (count + 1, rest + run[end - 1])], key=lambda way: way[0]))
    return left[-1][1]
