"""Counts the tokens of a text with a model's own vocabulary, from a file on disk; nothing is ever downloaded."""

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tiktoken
from tokenizers import Tokenizer

from agent.errors import BadWeights

QWEN_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How Qwen splits text before merging; from its published tokenizer."""

DIGEST_DIGITS = 12
"""Digits of the vocabulary's sha256 in a counter's name: enough to tell files apart, short enough for a record."""


@dataclass(frozen=True, slots=True)
class TokenCounter:
    """A vocabulary at work."""

    name: str
    """`model@sha256-prefix`, as records name what counted."""
    ids: Callable[[str], list[int]]
    token: Callable[[int], str]
    """The text of one token; a piece of a character is shown as U+FFFD."""

    def count(self, text: str) -> int:
        return len(self.ids(text))


def load(model: str, path: Path) -> TokenCounter:
    """A counter from a `tokenizer.json` (Hugging Face) or a `.tiktoken` file (Qwen's). Raises BadWeights if it is neither."""
    raw = path.read_bytes()
    name = f"{model}@{hashlib.sha256(raw).hexdigest()[:DIGEST_DIGITS]}"
    try:
        return _tiktoken(name, raw) if path.suffix == ".tiktoken" else _tokenizers(name, raw)
    except (ValueError, binascii.Error) as error:
        raise BadWeights(f"{path} is not a vocabulary: {error}", f"run: voxmeter models pull {model}") from error


def _tokenizers(name: str, raw: bytes) -> TokenCounter:
    try:
        tokenizer = Tokenizer.from_buffer(raw)
    except Exception as error:  # the library raises bare Exception
        raise ValueError(error) from error
    tokenizer.encode_special_tokens = True  # a customer who says <|im_end|> says seven characters, not a control token

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    return TokenCounter(name, ids, lambda token: tokenizer.decode([token], skip_special_tokens=False))


def _tiktoken(name: str, raw: bytes) -> TokenCounter:
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in raw.splitlines() if line)}
    encoding = tiktoken.Encoding(name, pat_str=QWEN_PATTERN, mergeable_ranks=ranks, special_tokens={})
    return TokenCounter(name, encoding.encode_ordinary, lambda token: encoding.decode([token]))
