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

RULES: tuple[Rule, ...] = tuple(
    (re.compile(pattern), write)
    for pattern, write in (
        (r"\d{3,5}(?=\s?(?:号?房|室|号房))", lambda match: apart(match.group(), DIGITS, "")),
        (
            r"(?<=房间)\s?\d{3,5}(?!\d)|(?<=房间号)\s?\d{3,5}(?!\d)|(?<=分机)\s?\d{2,5}(?!\d)",
            lambda match: apart(match.group(), DIGITS, ""),
        ),
        (r"\+?\d[\d()（） \-]{5,}\d(?![\d.]|\s?(?:元|块|年|%|人|公里|美元))", lambda match: _phone(match.group())),
        (rf"[$¥￥€£]?\d+(?:[:.,]\d+)*%?(?=\s?(?!(?:{UNITS})\b)[A-Za-z])", lambda match: _words(match.group())),
        (r"(?<=[A-Za-z])\d+(?![\d:.])", lambda match: apart(match.group(), PLAIN, "")),
    )
)


def pieces(text: str) -> list[Piece]:
    """The text by the rules, then what they left by the normaliser."""
    out: list[Piece] = []
    for piece in apply(text, RULES):
        out += _normalised(piece.original) if not piece.done and NUMBERED.search(piece.original) else [piece]
    return out


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
