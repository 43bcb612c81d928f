"""Makes of good messages what a broken or hostile sender might send: bytes cut, doubled and flipped, values that are no values."""

from collections.abc import Sequence
from random import Random  # noqa: TID251  the type alone; chance is handed in
from typing import Any

import orjson

CHANGES_MAX = 4
"""Of one message: with more of them nothing gets past the first check."""

ODD_TEXTS = (
    *(b"null", b"true", b"-1", b"0", b"1e999", b"-0.0", b"9007199254740993", b"1" * 400, b"NaN", b"Infinity", b'""', b"{}", b"[]"),
    *(b'"\\ud800"', b'"\\u0000"', b"\xff\xfe", b"\xc0\x80", b"[" * 2000, b'{"a":' * 600, b",", b":", b'"', b"\\", b"."),
)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**53, -(2**53), 2**63, 0.5, 1e308, "", "\x00", "x" * 5000, "0" * 32, "é" * 20, "\u202e", "../../etc"),
    *([], {}, [[]], [None], {"": ""}, "1", "voxmeter", "2026-02-30T00:00:00Z", "2026-11-27T00:00:00Z", ["a"] * 600),
)


def mutated(good: Sequence[bytes], chance: Random) -> bytes:
    """One message out of some good ones; the same for the same chance. It may happen to be good."""
    text = chance.choice(good)
    if chance.random() < 0.5:
        text = _value_changed(text, chance)
    if chance.random() < 0.6:
        for _ in range(chance.randint(1, CHANGES_MAX)):
            text = _bytes_changed(text, chance, good)
    return text


def _bytes_changed(text: bytes, chance: Random, good: Sequence[bytes]) -> bytes:
    at = chance.randrange(len(text) + 1)
    to = min(len(text), at + chance.choice((0, 1, 1, 2, 7, 40, 500)))
    kind = chance.randrange(6)
    if kind == 0:
        return text[:at] + bytes([chance.randrange(256)]) + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[to:]
    if kind == 2:
        return text[:to] + text[at:to] + text[to:]
    if kind == 3:
        return text[:at] + chance.choice(ODD_TEXTS) + text[to:]
    if kind == 4:
        return text[:at]
    other = chance.choice(good)
    return text[:at] + other[chance.randrange(len(other) + 1) :]


def _value_changed(text: bytes, chance: Random) -> bytes:
    """One value, name or place inside a JSON text; what is none stays as it is."""
    try:
        whole = orjson.loads(text)
    except ValueError:
        return text
    holder = whole
    for _ in range(chance.randrange(4)):  # down to some depth
        inner = [one for one in (holder.values() if isinstance(holder, dict) else holder) if isinstance(one, dict | list) and one]
        if not inner:
            break
        holder = chance.choice(inner)
    if not isinstance(holder, dict | list) or not holder:
        return text
    _spoil(holder, chance)
    try:
        return orjson.dumps(whole)
    except (TypeError, ValueError):
        return text


def _spoil(holder: Any, chance: Random) -> None:
    place = chance.choice(list(holder)) if isinstance(holder, dict) else chance.randrange(len(holder))
    kind = chance.randrange(4)
    if kind == 0 and isinstance(holder, dict):
        holder[str(place) + chance.choice(("", "x", " "))] = holder.pop(place)
    elif kind == 1:
        del holder[place]
    elif kind == 2 and isinstance(holder, list):
        holder.append(holder[place])
    else:
        holder[place] = chance.choice(ODD_VALUES)
