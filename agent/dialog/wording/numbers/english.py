"""How English reads numbers aloud, in rules by hand: its voices misread money, times, rooms and phone numbers."""

import re

from agent.dialog.wording.numbers.rules import Piece, Rule, apart, apply

ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"),
    *("fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
DIGITS = ("oh", *ONES[1:10])
SCALES = ((1_000_000_000, "billion"), (1_000_000, "million"), (1000, "thousand"))
ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth", "twelve": "twelfth"}
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"]
MONEY = {
    "$": ("dollar", "cent"),
    "US$": ("dollar", "cent"),
    "€": ("euro", "cent"),
    "£": ("pound", "penny"),
    "¥": ("yuan", ""),
    "￥": ("yuan", ""),
    "Rp": ("rupiah", ""),
}
SAME_IN_PLURAL = {"yuan", "rupiah"}

AM = r"\s?([ap])(?:\.m\.(?=\s[a-z])|\.?m\b)"
"""A full stop behind "p.m" that ends the sentence, too, is left where it is."""
TIME = rf"(\d{{1,2}})[:.](\d{{2}})(?::\d{{2}})?(?!\d)(?:{AM})?"
HALF = rf"(\d{{1,2}}){AM}"
AMOUNT = r"(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d+))?"
TO = r"\s?[-–—]\s?"


def cardinal(number: int) -> str:
    """A whole number below a trillion in words."""
    for size, name in SCALES:
        if number >= size:
            rest = number % size
            return f"{cardinal(number // size)} {name}" + (f" {cardinal(rest)}" if rest else "")
    if number >= 100:
        return f"{ONES[number // 100]} hundred" + (f" {cardinal(number % 100)}" if number % 100 else "")
    if number >= 20:
        return TENS[number // 10] + (f"-{ONES[number % 10]}" if number % 10 else "")
    return ONES[number]


def ordinal(number: int) -> str:
    """First, second, … in words."""
    head, mark, last = _parted(cardinal(number))
    named = ORDINALS.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return head + mark + named


def pieces(text: str) -> list[Piece]:
    """The text by all rules."""
    return apply(text, RULES)


def _parted(words: str) -> tuple[str, str, str]:
    cut = max(words.rfind(" "), words.rfind("-"))
    return (words[:cut], words[cut], words[cut + 1 :]) if cut >= 0 else ("", "", words)


def _number(whole: str, fraction: str | None) -> str:
    if len(whole) > 12 or (len(whole) > 1 and whole.startswith("0")):
        return apart(whole, DIGITS)
    said = cardinal(int(whole.replace(",", "")))
    return said if fraction is None else f"{said} point " + " ".join(ONES[int(digit)] for digit in fraction)


def _many(count: str, fraction: str | None, unit: str) -> str:
    if unit in SAME_IN_PLURAL or (count == "1" and not fraction):
        return unit
    return "pence" if unit == "penny" else unit + "s"


def _money(match: re.Match[str]) -> str:
    unit, small = MONEY[match[1]]
    whole, fraction, scale = match[2], match[3], match[4]
    if scale:
        return f"{_number(whole, fraction)} {scale} {_many('2', None, unit)}"
    if fraction and len(fraction) == 2 and small:
        if whole == "0" and fraction != "00":
            return f"{cardinal(int(fraction))} {_many(str(int(fraction)), None, small)}"
        cents = "" if fraction == "00" else f" and {cardinal(int(fraction))} {_many(str(int(fraction)), None, small)}"
        return f"{_number(whole, None)} {_many(whole, None, unit)}{cents}"
    return f"{_number(whole, fraction)} {_many(whole, fraction, unit)}"


def _time(match: re.Match[str]) -> str:
    return _clock(match[1], match[2], match[3])


def _clock(hour: str, minute: str, half: str | None) -> str:
    hours, minutes = int(hour), int(minute)
    if hours > 24 or minutes > 59:
        return f"{cardinal(hours)} {_number(minute, None)}"
    tail = f" {half.upper()}M" if half else ""
    name = "midnight" if hours in (0, 24) and not half else cardinal(hours)
    if minutes == 0:
        return name + (tail or ("" if name == "midnight" else " o'clock" if hours <= 12 else " hundred hours"))
    lead = "zero" if name == "midnight" else name
    return f"{lead} {'oh ' if minutes < 10 else ''}{cardinal(minutes)}{tail}"


def _hour(match: re.Match[str]) -> str:
    return f"{cardinal(int(match[1]))} {match[2].upper()}M"


def _times(match: re.Match[str]) -> str:
    return f"{_clock(match[1], match[2], match[3])} to {_clock(match[4], match[5], match[6])}"


def _hours(match: re.Match[str]) -> str:
    first = cardinal(int(match[1])) + (f" {match[2].upper()}M" if match[2] else "")
    return f"{first} to {cardinal(int(match[3]))} {match[4].upper()}M"


def _date(match: re.Match[str]) -> str:
    """Year, month and day as written by machines."""
    month, day = int(match[2]), int(match[3])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return apart(match.group(), DIGITS)
    return f"{MONTHS[month - 1]} {ordinal(day)}, {_year(match[1])}"


def _slashed(match: re.Match[str]) -> str:
    """Nobody knows whether 5/12 is in May or in December: it is read as it stands."""
    return " slash ".join(cardinal(int(part)) for part in match.group().split("/"))


def _year(digits: str) -> str:
    high, low = int(digits[:2]), int(digits[2:])
    if low == 0 or (digits[1] == "0" and low < 10):
        return cardinal(int(digits)) if digits[1] == "0" else f"{cardinal(high)} hundred"
    return f"{cardinal(high)} {'oh ' if low < 10 else ''}{cardinal(low)}"


def _room(match: re.Match[str]) -> str:
    digits = match[2]
    return match[1] + (cardinal(int(digits)) if len(digits) < 3 else apart(digits, DIGITS)) + (f" {match[3].upper()}" if match[3] else "")


def _code(match: re.Match[str]) -> str:
    return f"{match[1]} {apart(match[2], DIGITS)}"


def _space(match: re.Match[str]) -> str:
    """Before a unit that stands close."""
    return " " if match.string[match.end() : match.end() + 1].isalpha() else ""


def _range(match: re.Match[str]) -> str:
    return f"{_number(match[1], None)} to {_number(match[2], None)}"


RULES: tuple[Rule, ...] = tuple(
    (re.compile(pattern), write)
    for pattern, write in (
        (r"(?<![\w.,])(\d{4})-(\d{2})-(\d{2})(?!\d)", _date),
        (rf"(US\$|[$€£¥￥]|\bRp)\s?{AMOUNT}(?:\s(million|billion|thousand)\b)?", _money),
        (rf"(?<![\w.,:]){TIME}{TO}{TIME}", _times),
        (rf"(?<![\w.,:])(\d{{1,2}})(?:{AM})?{TO}{HALF}", _hours),
        (rf"(?<![\w.,:])(?=\d{{1,2}}:|\d{{1,2}}\.\d\d\s?[ap]\.?m){TIME}", _time),
        (rf"(?<![\w.,:]){HALF}", _hour),
        (r"(?<![\w.,/])\d{1,2}/\d{1,2}(?:/\d{2,4})?(?![\d/])", _slashed),
        (
            r"(?i)\b((?:(?:rooms?|suites?)(?:\snumber)?|(?:flight|extension|ext\.?|code|pin)(?:\snumber)?(?:\sis)?)\s#?)(\d{1,5})([a-z])?\b",
            _room,
        ),
        (r"(?:\+\s?|\(|\b)\d[\d() .\-]{5,}\d\b(?![%,])", lambda match: _phone(match.group())),
        (r"\b([A-Za-z]+)(\d+)\b", _code),
        (rf"{AMOUNT}\s?%", lambda match: f"{_number(match[1], match[2])} percent"),
        (r"(?<![\w.,])(\d{1,4})[-–](\d{1,4})(?![\w.,]*\d)", _range),
        (r"\b(\d{1,3})(?:st|nd|rd|th)\b", lambda match: ordinal(int(match[1]))),
        (r"(?<![\d.,])((?:19|20)\d{2})(?![\d.,]*\d)", lambda match: _year(match[1])),
        (rf"(?<![\d.,]){AMOUNT}", lambda match: _number(match[1], match[2]) + _space(match)),
        (r"\d+", lambda match: apart(match.group(), DIGITS)),
    )
)


def _phone(text: str) -> str:
    groups = re.findall(r"\d+", text)
    if sum(map(len, groups)) < 7:
        return " ".join(_number(group, None) for group in groups)
    return ("plus " if text.startswith("+") else "") + apart(text, DIGITS)
