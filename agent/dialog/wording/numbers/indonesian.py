"""How Indonesian reads numbers aloud, in rules by hand: a full stop parts thousands, and hours from minutes."""

import re

from agent.dialog.wording.numbers.rules import Piece, Rule, apart, apply

ONES = ("nol", "satu", "dua", "tiga", "empat", "lima", "enam", "tujuh", "delapan", "sembilan", "sepuluh", "sebelas")
DIGITS = ONES[:10]
SCALES = ((1_000_000_000, "miliar"), (1_000_000, "juta"), (1000, "ribu"), (100, "ratus"))
MONTHS = ["Januari", "Februari", "Maret", "April", "Mei", "Juni", "Juli", "Agustus", "September", "Oktober", "November", "Desember"]
MONEY = {"Rp": "rupiah", "IDR": "rupiah", "$": "dolar", "US$": "dolar", "€": "euro", "£": "pound", "¥": "yuan", "￥": "yuan"}
CENTS = {"dolar": "sen", "euro": "sen", "pound": "pence"}

AMOUNT = r"(\d{1,3}(?:\.\d{3})+|\d+)(?:,(\d+))?"
TIME = r"(\d{1,2})[.:](\d{2})(?!\d)"
TO = r"\s?[-–—]\s?"


def cardinal(number: int) -> str:
    """A whole number below a trillion in words."""
    if number < 12:
        return ONES[number]
    if number < 20:
        return f"{ONES[number - 10]} belas"
    for size, name in SCALES:
        if number >= size:
            count, rest = divmod(number, size)
            head = f"se{name}" if count == 1 and size <= 1000 else f"{cardinal(count)} {name}"
            return head + (f" {cardinal(rest)}" if rest else "")
    return f"{ONES[number // 10]} puluh" + (f" {ONES[number % 10]}" if number % 10 else "")


def pieces(text: str) -> list[Piece]:
    """The text by all rules."""
    return apply(text, RULES)


def _number(whole: str, fraction: str | None) -> str:
    if len(whole) > 15 or (len(whole) > 1 and whole.startswith("0")):
        return apart(whole, DIGITS)
    said = cardinal(int(whole.replace(".", "")))
    return said if fraction is None else f"{said} koma " + " ".join(DIGITS[int(digit)] for digit in fraction)


def _money(match: re.Match[str]) -> str:
    fraction = None if match[3] and not match[3].strip("0") else match[3]
    scale = f" {match[4]}" if match[4] else ""
    return f"{_number(match[2], fraction)}{scale} {MONEY[match[1].rstrip('.')]}"


def _foreign(match: re.Match[str]) -> str:
    """With the marks as they are where the money comes from."""
    unit, fraction = MONEY[match[1]], match[3] if match[3] and match[3].strip("0") else None
    whole = match[2].replace(",", "")
    if fraction and len(fraction) == 2 and unit in CENTS:
        cents = f"{cardinal(int(fraction))} {CENTS[unit]}"
        return cents if whole == "0" else f"{_number(whole, None)} {unit} {cents}"
    return f"{_number(whole, fraction)} {unit}"


def _iso(match: re.Match[str]) -> str:
    """Year, month and day as written by machines."""
    year, month, day = int(match[1]), int(match[2]), int(match[3])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return apart(match.group(), DIGITS)
    return f"{cardinal(day)} {MONTHS[month - 1]} {cardinal(year)}"


def _clock(hour: str, minute: str) -> str:
    hours, minutes = int(hour), int(minute)
    if hours > 24 or minutes > 59:
        return f"{cardinal(hours)} koma {_number(minute, None)}"
    return cardinal(hours) + ("" if minutes == 0 else f" lewat {cardinal(minutes)} menit")


def _date(match: re.Match[str]) -> str:
    day, month, year = int(match[1]), int(match[2]), match[3]
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return apart(match.group(), DIGITS)
    return f"{cardinal(day)} {MONTHS[month - 1]}" + (f" {cardinal(int(year))}" if year else "")


def _room(match: re.Match[str]) -> str:
    return match[1] + (cardinal(int(match[2])) if len(match[2]) < 3 else apart(match[2], DIGITS))


def _phone(match: re.Match[str]) -> str:
    if len(re.sub(r"\D", "", match.group())) < 7:
        return " ".join(_number(group, None) for group in re.findall(r"\d+", match.group()))
    return ("plus " if match.group().startswith("+") else "") + apart(match.group(), DIGITS)


RULES: tuple[Rule, ...] = tuple(
    (re.compile(pattern), write)
    for pattern, write in (
        (r"(US\$|[$€£¥￥])\s?(\d{1,3}(?:,\d{3})+|\d+)\.(\d{1,2})(?![\d.,]*\d)", _foreign),
        (r"(US\$|[$€£¥￥])\s?(\d{1,3}(?:,\d{3})+)()(?![\d.,]*\d)", _foreign),
        (rf"(US\$|[$€£¥￥]|\bRp\.?|\bIDR)\s?{AMOUNT}(?:\s(ribu|juta|miliar)\b)?", _money),
        (r"(?<![\w.,])(\d{4})-(\d{1,2})-(\d{1,2})(?![\d-])", _iso),
        (r"(?<![\w.,])(\d{1,2})[/-](\d{1,2})[/-](\d{4})(?!\d)", _date),
        (rf"(?<![\w.,:]){TIME}{TO}{TIME}", lambda match: f"{_clock(match[1], match[2])} sampai {_clock(match[3], match[4])}"),
        (rf"(?<![\w.,:])(?<=[Pp]ukul ){TIME}", lambda match: _clock(match[1], match[2])),
        (rf"(?<![\w.,:])(?<=[Jj]am ){TIME}", lambda match: _clock(match[1], match[2])),
        (rf"(?<![\w.,:]){TIME}(?!\.\d)", lambda match: _clock(match[1], match[2])),
        (r"(?i)\b((?:kamar|ruang|penerbangan|ekstensi|kode|pin)(?:\snomor)?\s#?)(\d{1,5})\b", _room),
        (r"(?:\+\s?|\(|\b)0?\d(?![\d.]*\.\d{3}\b)[\d() \-]{5,}\d\b(?![%,])", _phone),
        (r"\b([A-Za-z]+)(\d+)\b", lambda match: f"{match[1]} {apart(match[2], DIGITS)}"),
        (rf"{AMOUNT}\s?%", lambda match: f"{_number(match[1], match[2])} persen"),
        (r"(?<![\w.,])(\d{1,4})[-–](\d{1,4})(?![\w.,]*\d)", lambda match: f"{_number(match[1], None)} sampai {_number(match[2], None)}"),
        (r"\bke-(\d{1,3})\b", lambda match: "pertama" if match[1] == "1" else f"ke{cardinal(int(match[1]))}"),
        (rf"(?<![\d.,]){AMOUNT}(?=([A-Za-z])?)", lambda match: _number(match[1], match[2]) + (" " if match[3] else "")),
        (r"\d+", lambda match: apart(match.group(), DIGITS)),
    )
)
