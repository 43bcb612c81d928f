"""Finds what belongs to a person: mail addresses, and numbers that a check says are phones, cards, accounts or identities."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import phonenumbers
from stdnum import iban, luhn
from stdnum.cn import ric
from stdnum.exceptions import ValidationError
from stdnum.id import nik

from agent.dialog.wording.guard import dictated
from agent.dialog.wording.guard.folding import Folded, fold

Personal = Literal["email", "phone", "card", "iban", "identity"]

REGIONS = ("ID", "CN", "US")
"""Where numbers without a country code come from."""

SEPARATORS = rf"[ \t()./+{dictated.COMMAS}{dictated.DASHES}]{{0,3}}"

DIGIT = rf"\d{dictated.FILLER}*"

RUN = re.compile(rf"[+(]{{0,2}}{DIGIT}(?:{SEPARATORS}{DIGIT})*x?")
"""Digits that belong together to the eye, or to the ear."""

RUN_TAIL = re.compile(rf"(?:(?P<run>[+(]{{0,2}}{DIGIT}(?:{SEPARATORS}{DIGIT})*{SEPARATORS})[a-z]{{0,8}}|[+(]{{1,2}})$")
"""With half a word behind it, which may become a number, too."""

GROUP = re.compile(rf"(?:{DIGIT})+x?")

EMAIL = re.compile(r"[a-z0-9._%+\-]*[a-z0-9_%+\-]\s{0,2}@\s{0,2}[a-z0-9\-]+(?:\.[a-z0-9\-]+)*\.[a-z]{2,}")

EMAIL_TAIL = re.compile(r"[a-z0-9._%+\-]*[a-z0-9_%+\-]\s{0,2}(?:@\s{0,2}[a-z0-9.\-]*)?$")

IBAN = re.compile(r"(?<![a-z0-9])[a-z]{2}\d{2}(?:[ \-]?[a-z0-9]){11,30}(?![a-z0-9])")

IBAN_TAIL = re.compile(r"(?<![a-z0-9])[a-z]{2}\d{2}(?:[ \-]?[a-z0-9]){0,30}[ \-]?$")

NUMBER_DIGITS_MIN = 7
"""A shorter one is nobody's telephone: that the site has a room 415 allows no number that begins so."""

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
        texts = [fold(text).text for text in allowed]
        runs = [match.group() for text in texts for match in RUN.finditer(dictated.digits(text))]
        parts = [part for run in runs for part in (run, *dictated.COMMA.split(run))]
        self._numbers = frozenset(re.sub(r"\D", "", part) for part in parts)
        self._mails = frozenset(dictated.written(match.group()) for text in texts for match in _mails(text.translate(dictated.CHARACTERS)))

    def find(self, folded: Folded) -> Iterator[tuple[Personal, tuple[int, int]]]:
        """Kinds, and where they stand in the original; they may overlap."""
        text = folded.text.translate(dictated.CHARACTERS)
        for match in _mails(text):
            if dictated.written(match.group()) not in self._mails:
                yield "email", folded.span(*match.span())
        for match in IBAN.finditer(text):
            if end := _iban_end(match.group()):
                yield "iban", folded.span(match.start(), match.start() + end)
        text = dictated.digits(folded.text)
        for match in RUN.finditer(text):
            for kind, start, end in self._in_run(text, match):
                yield kind, folded.span(start, end)

    def doubtful(self, folded: Folded) -> int:
        """From which index of the folded text on something may still become such a number; its length if nothing may."""
        text = folded.text.translate(dictated.CHARACTERS)
        tails = [tail.search(text) for tail in (EMAIL_TAIL, IBAN_TAIL, dictated.MAIL_TAIL)]
        tails.append(RUN_TAIL.search(dictated.digits(folded.text)))
        return min((tail.start() for tail in tails if tail), default=len(text))

    def _in_run(self, text: str, run: re.Match[str]) -> Iterator[tuple[Personal, int, int]]:
        found = GROUP.finditer(text, run.start(), run.end())
        groups = [_Group(one.start(), one.end(), one.group().replace(dictated.FILLER, "")) for one in found]
        first = 0
        while first < len(groups):
            taken, kind = self._longest(text, run.start(), groups[first : first + NUMBER_DIGITS_MAX])
            plus = text[run.start() : groups[first].start] if first == 0 else ""
            if kind:
                yield kind, groups[first].start - len(plus), groups[first + taken - 1].end
            unsure = kind and "+" not in plus and groups[first].digits[0] != "0"
            paused = dictated.COMMA.search(text, groups[first].start, groups[first + taken - 1].end)
            first += 1 if unsure and paused else taken  # another, the right one, may begin behind a comma

    def _longest(self, text: str, run_start: int, groups: list[_Group]) -> tuple[int, Personal | None]:
        """How many groups from the first on are one number, and its kind; None if they are none.

        What is a number without its commas ends there, or a number of guests behind it would go, too.
        """
        plus = "+" in text[max(run_start, groups[0].start - 3) : groups[0].start]
        between = [text[one.end : after.start] for one, after in pairwise(groups)]
        most = next((at for at, mark in enumerate(between, 1) if "+" in mark), len(groups))
        unbroken = next((at for at, mark in enumerate(between[: most - 1], 1) if dictated.COMMA.search(mark)), most)
        told = [group.digits for group in groups]
        if not plus and (price := dictated.round_price(told, between)):
            return price, None
        for count in (*range(unbroken, 0, -1), *range(most, unbroken, -1)):
            digits = "".join(told[:count])
            if len(digits) >= NUMBER_DIGITS_MIN and digits in self._numbers:
                return count, None
            if len(digits) > NUMBER_DIGITS_MAX:
                continue
            typed = count <= unbroken
            if not typed and not dictated.one_number(told[:count], between[: count - 1], plus=plus):
                continue
            if kind := _kind(digits, plus=plus, card=typed or dictated.as_on_a_card(told[:count])):
                return count, kind
        return max(1, dictated.thousands(told, between, ",")), None


def endless(folded: Folded) -> tuple[int, int] | None:
    """Where the digits at the end of a text stand in the original, if it ends with any."""
    tail = RUN_TAIL.search(dictated.digits(folded.text))
    return folded.span(*tail.span("run")) if tail and tail["run"] else None


def _mails(text: str) -> Iterator[re.Match[str]]:
    yield from EMAIL.finditer(text)
    yield from dictated.MAIL.finditer(text)


def _kind(digits: str, *, plus: bool, card: bool) -> Personal | None:
    if len(digits) == 18 and _resident(digits):
        return "identity"
    if not digits.isdecimal():
        digits = digits[:-1]
    if card and len(digits) >= 13 and digits[0] in "23456" and luhn.is_valid(digits):
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
