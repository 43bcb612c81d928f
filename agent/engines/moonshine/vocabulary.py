"""Moonshine's tokens as text."""

import re
from pathlib import Path

BYTE_TOKEN = re.compile(rb"^<0x([0-9A-F]{2})>$")

TEXT_FROM = 3
"""Token ids below are marks of the model's own."""


OF_NOTHING = {"you", "thank you for watching"}
"""What the model says of noise, tones and silence; it learnt from subtitles. Nobody's whole utterance at a counter."""


def read_vocabulary(path: Path) -> list[bytes]:
    """Tokens by id: each is prefixed by its length, in two bytes where the first is 128 or more."""
    raw, tokens, at = path.read_bytes(), [], 0
    while at < len(raw):
        length = raw[at]
        at += 1
        if length >= 128:
            length = length - 128 + raw[at] * 128
            at += 1
        token = raw[at : at + length]
        byte = BYTE_TOKEN.match(token)
        tokens.append(bytes([int(byte[1], 16)]) if byte else token)
        at += length
    return tokens


def text_of(ids: list[int], vocabulary: list[bytes]) -> str:
    """The words; none where the model heard only what it hears in noise and music."""
    text = b"".join(vocabulary[token] for token in ids if token >= TEXT_FROM).decode("utf-8", "replace").replace("▁", " ").strip()
    words = "".join(character for character in text.lower() if character.isalnum() or character == " ").strip()
    return "" if not words or words in OF_NOTHING else text
