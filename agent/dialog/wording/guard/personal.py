"""Finds what belongs to a person: mail addresses, and numbers that a check says are phones, cards, accounts or identities."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import phonenumbers
from stdnum import iban, luhn
from stdnum.cn import ric
from stdnum.exceptions import ValidationError
from stdnum.id import nik

from agent.dialog.wording.guard.folding import Folded, fold

Personal = Literal["email", "phone", "card", "iban", "identity"]

REGIONS = ("ID", "CN", "US")
"""Where numbers without a country code come from."""

DIGITS = str.maketrans("〇零一二三四五六七八九幺", "001234567891")

SEPARATORS = r"[ \t().\-/+]{0,3}"

RUN = re.compile(rf"[+(]{{0,2}}\d(?:{SEPARATORS}\d)*x?")
"""Digits that belong together to the eye."""

RUN_TAIL = re.compile(rf"[+(]{{0,2}}(?:\d(?:{SEPARATORS}\d)*{SEPARATORS})?$")

EMAIL = re.compile(r"[a-z0-9._%+\-]*[a-z0-9_%+\-]\s{0,2}@\s{0,2}[a-z0-9\-]+(?:\.[a-z0-9\-]+)*\.[a-z]{2,}")

EMAIL_TAIL = re.compile(r"[a-z0-9._%+\-]*[a-z0-9_%+\-]\s{0,2}(?:@\s{0,2}[a-z0-9.\-]*)?$")

IBAN = re.compile(r"(?<![a-z0-9])[a-z]{2}\d{2}(?:[ \-]?[a-z0-9]){11,30}(?![a-z0-9])")

IBAN_TAIL = re.compile(r"(?<![a-z0-9])[a-z]{2}\d{2}(?:[ \-]?[a-z0-9]){0,30}[ \-]?$")

NUMBER_DIGITS_MAX = 19
"""Digits of the longest card number."""


@dataclass(frozen=True, slots=True)
class _Group:
    start: int
    end: int
    digits: str


class PersonalNumbers:
    """What `allowed` texts say is the site's own and nobody's secret."""

    def __init__(self, allowed: Iterable[str]) -> None:
        texts = [fold(text).text.translate(DIGITS) for text in allowed]
        runs = (match.group() for text in texts for match in RUN.finditer(text))
        self._numbers = frozenset(re.sub(r"\D", "", run) for run in runs)
        self._mails = frozenset(re.sub(r"\s", "", match.group()) for text in texts for match in EMAIL.finditer(text))

    def find(self, folded: Folded) -> Iterator[tuple[Personal, tuple[int, int]]]:
        """Kinds, and where they stand in the original; they may overlap."""
        text = folded.text.translate(DIGITS)
        for match in EMAIL.finditer(text):
            if re.sub(r"\s", "", match.group()) not in self._mails:
                yield "email", folded.span(*match.span())
        for match in IBAN.finditer(text):
            if end := _iban_end(match.group()):
                yield "iban", folded.span(match.start(), match.start() + end)
        for match in RUN.finditer(text):
            for kind, start, end in self._in_run(text, match):
                yield kind, folded.span(start, end)

    def doubtful(self, folded: Folded) -> int:
        """From which index of the folded text on something may still become such a number; its length if nothing may."""
        text = folded.text.translate(DIGITS)
        tails = (tail.search(text) for tail in (RUN_TAIL, EMAIL_TAIL, IBAN_TAIL))
        return min((tail.start() for tail in tails if tail), default=len(text))

    def _in_run(self, text: str, run: re.Match[str]) -> Iterator[tuple[Personal, int, int]]:
        groups = [_Group(one.start(), one.end(), one.group()) for one in re.compile(r"\d+x?").finditer(text, run.start(), run.end())]
        first = 0
        while first < len(groups):
            taken, kind = self._longest(text, run.start(), groups[first:])
            if kind:
                plus = text[run.start() : groups[first].start] if first == 0 else ""
                yield kind, groups[first].start - len(plus), groups[first + taken - 1].end
            first += taken

    def _longest(self, text: str, run_start: int, groups: list[_Group]) -> tuple[int, Personal | None]:
        """How many groups from the first on are one number, and its kind; one and None if they are none."""
        plus = "+" in text[max(run_start, groups[0].start - 3) : groups[0].start]
        most = next((at for at in range(1, len(groups)) if "+" in text[groups[at - 1].end : groups[at].start]), len(groups))
        for count in range(most, 0, -1):
            digits = "".join(group.digits for group in groups[:count])
            if digits in self._numbers:
                return count, None
            if len(digits) <= NUMBER_DIGITS_MAX and (kind := _kind(digits, plus=plus)):
                return count, kind
        return 1, None


def _kind(digits: str, *, plus: bool) -> Personal | None:
    if len(digits) == 18 and _resident(digits):
        return "identity"
    if not digits.isdecimal():
        digits = digits[:-1]
    if len(digits) >= 13 and digits[0] in "23456" and luhn.is_valid(digits):
        return "card"
    if len(digits) == 16 and nik.is_valid(digits):
        return "identity"
    return "phone" if any(_phone(number, region) for number, region in _readings(digits, plus=plus)) else None


def _resident(digits: str) -> bool:
    """A Chinese resident's number by its check digit and date; the library's own table of places has holes."""
    try:
        return bool(ric.get_birth_date(digits)) and ric.calc_check_digit(digits) == digits[-1].upper()
    except ValidationError:
        return False


def _readings(digits: str, *, plus: bool) -> Iterator[tuple[str, str]]:
    """How digits may be a phone number: only forms that people write, so that dates and prices are none."""
    if not 8 <= len(digits) <= 15:
        return
    if plus or (digits[:2] in ("62", "86") and len(digits) >= 11):
        yield "+" + digits, "ZZ"
    if digits.startswith("00"):
        yield "+" + digits.lstrip("0"), "ZZ"
    elif digits.startswith("0"):
        yield from ((digits, region) for region in ("ID", "CN"))
    if len(digits) == 11 and digits.startswith("1"):
        yield from ((digits, region) for region in ("CN", "US"))
    if len(digits) == 10:
        yield digits, "US"
    if digits.startswith("8") and len(digits) >= 9:
        yield "0" + digits, "ID"


def _phone(number: str, region: str) -> bool:
    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(number, region)))
    except phonenumbers.NumberParseException:
        return False


def _iban_end(text: str) -> int:
    """Length of the account number a text begins with; 0 if it begins with none."""
    return next((end for end in range(len(text), 14, -1) if text[end - 1].isalnum() and iban.is_valid(text[:end])), 0)
