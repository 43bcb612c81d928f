"""How Chinese reads numbers aloud: rooms and telephones digit by digit, all else by a normaliser, loaded when it is first needed."""

import functools
import re
from typing import Any

from agent.dialog.wording.numbers.rules import Piece, Rule, apart, apply

DIGITS = ("零", "幺", "二", "三", "四", "五", "六", "七", "八", "九")
PLAIN = ("零", "一", *DIGITS[2:])
NUMBERED = re.compile(r"[\d０-９]")

UNITS = "kg|km|cm|mm|m|g|mg|ml|l|s|h|min|GB|MB|TB|kW|W|V"
"""Latin letters that the normaliser may read with the number before them; of other words it would take the first letter for one."""

AMOUNT = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
TO = "[-–—~～]"

COUNTED = "点元块个天位间人层"
"""Before these a two is 两."""

SPELLED = "|".join(
    f"(?<={name}{link})"
    for name in ("房间", "房间号", "房间号码", "分机", "分机号", "密码", "验证码")
    for link in ("", "是", "为", "是 ", "为 ", ":", ": ", "：")
)
"""Behind these a number is read digit by digit."""


def pieces(text: str) -> list[Piece]:
    """The text by the rules, then what they left by the normaliser."""
    out: list[Piece] = []
    for piece in apply(text, RULES):
        out += _normalised(piece.original) if not piece.done and NUMBERED.search(piece.original) else [piece]
    return out


def _plain(amount: str) -> str:
    """Without commas between thousands and zeros that say nothing: the normaliser stumbles over either."""
    whole, mark, fraction = amount.replace(",", "").partition(".")
    return whole if not fraction.strip("0") else whole + mark + fraction


def _amount(match: re.Match[str]) -> str:
    return _words(match[1] + _plain(match[2]) + match[3])


def _money_range(match: re.Match[str]) -> str:
    return f"{_words(_plain(match[1]))}到{_words(_plain(match[2]))}元"


def _percent_range(match: re.Match[str]) -> str:
    return f"{_words(match[1] + '%')}到{_words(match[2] + '%')}"


def _range(match: re.Match[str]) -> str:
    counted = match[2] == "2" and match.string[match.end() : match.end() + 1] in COUNTED
    return f"{_words(match[1])}到{'两' if counted else _words(match[2])}"


def _date(match: re.Match[str]) -> str:
    """Year, month and day as written by machines."""
    year, month, day = match[1], int(match[2]), int(match[3])
    return (
        _words(f"{year}年{month}月{day}日") if 1 <= month <= 12 and 1 <= day <= 31 else apart(match.group(), PLAIN, "").replace(", ", "，")
    )


def _phone(text: str) -> str:
    if len(re.sub(r"\D", "", text)) < 7:
        return "，".join(_words(group) for group in re.findall(r"\d+", text))
    return ("加" if text.startswith("+") else "") + apart(text, DIGITS, "").replace(", ", "，")


def _words(text: str) -> str:
    return "".join(piece.spoken for piece in _normalised(text))


def _normalised(text: str) -> list[Piece]:
    """Pieces as the normaliser maps them; the space around what it wrote is kept."""
    try:
        said = _normaliser().normalize_with_mapping(text)
    except (ValueError, RuntimeError):  # it gives up on some rare characters
        return apply(text, [(re.compile(r"\d+"), lambda match: apart(match.group(), PLAIN, ""))])
    out: list[Piece] = []
    at = spoken = 0
    for part in said.mappings:
        out.append(Piece(text[at : part.input_start], said.output_text[spoken : part.output_start]))
        out.append(Piece(text[part.input_start : part.input_end], part.output_text, done=True))
        at, spoken = part.input_end, part.output_end
    out.append(Piece(text[at:], said.output_text[spoken:]))
    return [piece for piece in out if piece.original or piece.spoken]


@functools.cache
def _normaliser() -> Any:
    import wetext  # noqa: PLC0415 - a second of loading that a robot which speaks no Chinese is spared

    return wetext.Normalizer(lang="zh", operator="tn")


RULES: tuple[Rule, ...] = tuple(
    (re.compile(pattern), write)
    for pattern, write in (
        (r"\d{3,5}(?=\s?(?:号?房|室|号房))", lambda match: apart(match.group(), DIGITS, "")),
        (rf"(?:{SPELLED})\s?\d{{3,8}}(?![\d.,:]*\d|\s?(?:元|块|个|间|%))", lambda match: apart(match.group(), DIGITS, "")),
        (r"(?<=分机)\s?\d{2,5}(?!\d)", lambda match: apart(match.group(), DIGITS, "")),
        (r"(?<![\w.\-])(\d{4})-(\d{1,2})-(\d{1,2})(?![\d\-])", _date),
        (rf"[¥￥]\s?({AMOUNT}){TO}[¥￥]?\s?({AMOUNT})", _money_range),
        (rf"(?<![\d.])(\d+(?:\.\d+)?)%?{TO}(\d+(?:\.\d+)?)%", _percent_range),
        (r"(?<![\d.:\-–—])(\d{1,4})(?:[-~～](?=\d{1,4}(?:点|时|元|块))|[–—](?=\d{1,4}[\u4e00-\u9fff]))(\d{1,4})", _range),
        (
            rf"(?<![\d.,])([$¥￥€£]?)\s?(\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|(?<=[$¥￥€£])\d+\.0+)(?![\d,]*\d)((?:\s?(?:{UNITS})\b)?)",
            _amount,
        ),
        (r"\+?\d[\d()（） \-]{5,}\d(?![\d.]|\s?(?:元|块|年|%|人|公里|美元))", lambda match: _phone(match.group())),
        (rf"[$¥￥€£]?\d+(?:[:.,]\d+)*%?(?=\s?(?!(?:{UNITS})\b)[A-Za-z])", lambda match: _words(match.group())),
        (r"(?<=[A-Za-z])\d+(?![\d:.])", lambda match: apart(match.group(), PLAIN, "")),
    )
)
