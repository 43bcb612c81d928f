"""How a number or an address looks when it was said and not typed: in words, in groups with pauses, "at" and "dot" for the marks.

A comma between groups is a pause in a telephone number and the mark between prices, rooms or hours as well: `one_number` tells them apart.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

FILLER = "\0"
"""Fills up the place of a number word behind its digit, so that every index stays; no folded text has one of its own."""

CHARACTERS = str.maketrans("〇零一二三四五六七八九幺", "001234567891")

WORDS = {
    word: digit
    for names in (
        "zero one two three four five six seven eight nine",
        "oh",
        "nol satu dua tiga empat lima enam tujuh delapan sembilan",
        "kosong",
    )
    for digit, word in zip("0123456789", names.split(), strict=False)
}

WORD = re.compile(rf"(?<![a-z0-9])(?:{'|'.join(WORDS)})(?![a-z0-9])")

COMMAS, DASHES = ",、", r"\-_·•・\u2010-\u2015\u2212"

COMMA, DASH = re.compile(f"[{COMMAS}]"), re.compile(f"[{DASHES}]")

TIGHT = re.compile("[./]$")
"""Of hours, dates and fractions; a full stop with a space behind it may be a pause."""

AMOUNT = r"[1-9]\d{0,2}(?:,\d{3})*"

AMOUNTS = re.compile(rf"{AMOUNT}(?:[{COMMAS}]? {{0,2}}(?<=[ 、]){AMOUNT})*")

STEP_MAX = 100
"""Rooms, years and hours that are listed are nearer to each other than the groups of a number."""

FLOOR_MAX = 1200
"""So far are rooms on floors next to each other; of a thousand cards, hardly one has groups that mount like that."""

HOSTS = r"(?:gmail|googlemail|yahoo|ymail|rocketmail|hotmail|outlook|icloud|proton|protonmail|aol|gmx|qq|163|126|sina|foxmail)"
"""Where people have their mail: "look at booking.com" is no address."""

ENDS = r"(?:com|net|org|me|co|id|cn|hk|tw|sg|my|uk|in|au|jp|de|fr)"

DOT = r"(?:\.|\s{1,2}(?:dot|titik)\s{1,2})"

AT = r"(?:\s{0,2}@\s{0,2}|\s{1,2}at\s{1,2})"

MARK = r"(?:dot|titik|underscore|dash|minus|strip)"

PART = r"[a-z0-9._%+\-]*[a-z0-9_%+\-]"

NAME = rf"(?<![a-z0-9._%+\-]){PART}(?:\s{{1,2}}{MARK}\s{{1,2}}{PART})*"

MAIL = re.compile(rf"{NAME}{AT}{HOSTS}{DOT}{ENDS}(?:{DOT}{ENDS})?(?![a-z0-9])")

MAIL_TAIL = re.compile(
    rf"{NAME}(?:\s{{1,2}}(?:{MARK}\s{{0,2}}|[a-z]{{0,10}})"
    rf"|{AT}(?:[a-z0-9]{{0,10}}|{HOSTS}(?:{DOT}{ENDS}?){{0,2}}\s{{0,2}}[a-z]{{0,5}}\s{{0,2}}))?$"
)


def digits(text: str) -> str:
    """The text with a digit where a number was written in Chinese or said as a word; every index stays."""
    return WORD.sub(lambda word: WORDS[word.group()].ljust(len(word.group()), FILLER), text.translate(CHARACTERS))


def written(mail: str) -> str:
    """A mail address as it would be typed."""
    typed = re.sub(r"\s+(?:dot|titik)\s+", ".", mail)
    typed = re.sub(r"\s+underscore\s+", "_", re.sub(r"\s+(?:dash|minus|strip)\s+", "-", typed))
    return re.sub(r"\s", "", re.sub(r"\s+at\s+", "@", typed))


def thousands(groups: Sequence[str], between: Sequence[str], mark: str) -> int:
    """How many groups from the first on are one amount, parted by a mark as an accountant does; 0 if they are none."""
    count = 1
    while count < len(groups) and between[count - 1] == mark and len(groups[count]) == 3:
        count += 1
    return count if count > 1 and len(groups[0]) <= 3 and groups[0][0] != "0" else 0


def round_price(groups: Sequence[str], between: Sequence[str]) -> int:
    """How many groups from the first on are such an amount with full stops, down to 000: no telephone is so round."""
    count = thousands(groups, between, ".")
    return count if count and groups[count - 1] == "000" else 0


def one_number(groups: Sequence[str], between: Sequence[str], *, plus: bool) -> bool:
    """May groups with a comma somewhere between them be one number? Not if they are a list, amounts, dates or hours."""
    for at, mark in enumerate(between):
        if TIGHT.search(mark) or (DASH.search(mark) and min(len(groups[at]), len(groups[at + 1])) < 3):
            return False
    if plus or groups[0][0] == "0":
        return True
    whole = groups[0] + "".join(mark + group for mark, group in zip(between, groups[1:], strict=True))
    amounts = re.search(r"\d,\d", whole) and AMOUNTS.fullmatch(whole)
    return not (amounts or _listed(groups, STEP_MAX) or {len(group) for group in groups} == {1, 2})


def as_on_a_card(groups: Sequence[str]) -> bool:
    """The groups that a card's number is read out in; a list of rooms passes a card's check one time in ten."""
    sizes = [len(group) for group in groups]
    if _listed(groups, FLOOR_MAX):
        return False
    return sizes == [4, 6, 5] or (sizes[0] in (1, 2, 4) and len(set(sizes[:-1])) == 1 and sizes[-1] <= sizes[0])


def _listed(groups: Sequence[str], step_max: int) -> bool:
    if any(group[0] == "0" or not group.isdecimal() for group in groups):
        return False
    steps = [int(after) - int(before) for before, after in pairwise(groups)]
    return all(0 < step <= step_max for step in steps) or all(-step_max <= step < 0 for step in steps)
