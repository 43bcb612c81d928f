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
    "IDR": ("rupiah", ""),
}
SCALED = {"m": "million", "M": "million", "bn": "billion", "k": "thousand", "K": "thousand"}
SAME_IN_PLURAL = {"yuan", "rupiah"}

AM = r"\s?([ap](?=\.?m)|[AP](?=\.?M))(?:\.[mM]\.(?=\s[a-z])|\.?[mM]\b)"
"""A full stop behind "p.m" that ends the sentence, too, is left where it is."""
TIME = rf"(\d{{1,2}})[:.](\d{{2}})(?::\d{{2}})?(?!\d)(?:{AM})?"
HALF = rf"(\d{{1,2}}){AM}"
AMOUNT = r"(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d+))?"
TO = r"\s?[-–—]\s?"
SCALE = r"(?:million|billion|thousand)\b"
DOOR = r"\d{1,5}[a-z]?\b"
NO_DOOR = r"(?!\s?(?:%|dollars?|euros?|pounds?|yuan|rupiah|percent|per|people|guests|hours?|minutes?|[ap]\.?m)\b)"
"""A number in front of these is none of a room."""


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
    scale = match[4]
    return _price(match[1], match[2], match[3], SCALED.get(scale, scale))


def _continental(match: re.Match[str]) -> str:
    """With the marks the other way round, as in Europe and Indonesia."""
    return _price(match[1], match[2].replace(".", ","), match[3] or None, None)


def _price(mark: str, whole: str, fraction: str | None, scale: str | None) -> str:
    unit, small = MONEY[mark.rstrip(".")]
    fraction = None if unit in SAME_IN_PLURAL and fraction and not fraction.strip("0") else fraction
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
    tail = _half(half)
    name = "midnight" if hours in (0, 24) and not half else cardinal(hours)
    if minutes == 0:
        return name + (tail or ("" if name == "midnight" else " o'clock" if hours <= 12 else " hundred hours"))
    lead = "zero" if name == "midnight" else name
    return f"{lead} {'oh ' if minutes < 10 else ''}{cardinal(minutes)}{tail}"


def _hour(match: re.Match[str]) -> str:
    return f"{cardinal(int(match[1]))} {match[2].upper()}M"


def _times(match: re.Match[str]) -> str:
    return f"{_clock(match[1], match[2], match[3])} to {_clock(match[4], match[5], match[6])}"


def _mixed(match: re.Match[str]) -> str:
    """From a full hour, or to one: 9:30AM-5PM."""
    first = _clock(match[1], match[2], match[3]) if match[2] else f"{cardinal(int(match[1]))}{_half(match[3])}"
    last = _clock(match[4], match[5], match[6]) if match[5] else f"{cardinal(int(match[4]))}{_half(match[6])}"
    return f"{first} to {last}"


def _half(half: str | None) -> str:
    return f" {half.upper()}M" if half else ""


def _hours(match: re.Match[str]) -> str:
    return f"{cardinal(int(match[1]))}{_half(match[2])} to {cardinal(int(match[3]))}{_half(match[4])}"


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
    return match[1] + _door(match[2]) + (f" {match[3].upper()}" if match[3] else "")


def _rooms(match: re.Match[str]) -> str:
    doors = re.sub(r"\s?[-–—]\s?", " to ", match[2])
    return match[1] + re.sub(
        r"(\d+)([a-z])?\b", lambda one: _door(one[1]) + (f" {one[2].upper()}" if one[2] else ""), doors, flags=re.IGNORECASE
    )


def _door(digits: str) -> str:
    return cardinal(int(digits)) if len(digits) < 3 else apart(digits, DIGITS)


def _code(match: re.Match[str]) -> str:
    return f"{match[1]} {apart(match[2], DIGITS)}"


def _short(match: re.Match[str]) -> str:
    """A number to call that has no groups."""
    return match[1] + apart(match[2], DIGITS)


def _space(match: re.Match[str]) -> str:
    """Before a unit that stands close."""
    return " " if match.string[match.end() : match.end() + 1].isalpha() else ""


def _range(match: re.Match[str]) -> str:
    return f"{_number(match[1], None)} to {_number(match[2], None)}"


RULES: tuple[Rule, ...] = tuple(
    (re.compile(pattern), write)
    for pattern, write in (
        (r"(?<![\w.,])(\d{4})-(\d{2})-(\d{2})(?!\d)", _date),
        (rf"(€|\bRp\.?|\bIDR)\s?(\d{{1,3}}(?:\.\d{{3}})+)(?:,(\d{{1,2}}))?(?![\d,.]*\d|\s?{SCALE})", _continental),
        (r"(US\$|[$€£¥￥])\s?(\d+),(\d{2})(?![\d,.]*\d)", _continental),
        (rf"(US\$|[$€£¥￥]|\bRp\.?|\bIDR)\s?{AMOUNT}(?:\s?({SCALE}|(?<=\d)(?:m|M|bn|k|K)\b))?", _money),
        (rf"(?<![\w.,:]){TIME}{TO}{TIME}", _times),
        (rf"(?<![\w.,:]){TIME}{TO}(\d{{1,2}})(){AM}", _mixed),
        (rf"(?<![\w.,:])(\d{{1,2}})()(?:{AM})?{TO}(\d{{1,2}}):(\d{{2}})(?!\d)(?:{AM})?", _mixed),
        (rf"(?<![\w.,:])(\d{{1,2}})(?:{AM})?{TO}{HALF}", _hours),
        (rf"(?<![\w.,:])(?=\d{{1,2}}:|\d{{1,2}}\.\d\d\s?[ap]\.?m){TIME}", _time),
        (rf"(?<![\w.,:]){HALF}", _hour),
        (r"(?<![\w.,/])24/7(?![\d/])", lambda _: "twenty-four seven"),
        (r"(?<![\w.,/])\d{1,2}/\d{1,2}(?:/\d{2,4})?(?![\d/])", _slashed),
        (
            rf"(?i)\b((?:rooms|suites)(?:\snumbers?)?(?::\s?|\s)#?)({DOOR}(?:(?:,?\s(?:and|or|to)\s|,\s|\s?[-–—&]\s?)#?{DOOR})+){NO_DOOR}",
            _rooms,
        ),
        (
            r"(?i)\b((?:(?:rooms?|suites?)(?:\snumber)?|(?:flight|extension|ext\.?|code|pin)(?:\snumber)?(?:\sis)?)(?::\s?|\s)#?)"
            rf"(\d{{1,5}})([a-z])?\b{NO_DOOR}",
            _room,
        ),
        (r"(?:\+\s?|\(|\b)\d[\d() .\-]{5,}\d\b(?![%,])", lambda match: _phone(match.group())),
        (r"(?i)\b(dial:?\s(?=\d{2})|call:?\s(?:us\s(?:at|on)\s)?(?=\d{3}))(\d{2,4})(?![\d%]|[.,:/]\d|\s(?:people|guests|times)\b)", _short),
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
