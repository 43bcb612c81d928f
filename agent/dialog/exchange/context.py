"""Decides what of a conversation the model is shown: the instructions always, then as much of the newest words as fit."""

from collections.abc import Sequence

from agent.ports import Counter
from agent.values import Message

MESSAGE_TOKENS = 8
"""What the template puts around each message, rounded up."""


def fit(opening: Sequence[Message], history: Sequence[Message], words: str, room: int, count: Counter) -> tuple[tuple[Message, ...], str]:
    """Messages of at most `room` tokens by `count`, and a note if the customer's own words had to be cut.

    Old exchanges go first, oldest first. Words that alone are too long keep their end: a question comes last.
    """
    left = room - sum(count(message.text) + MESSAGE_TOKENS for message in opening) - MESSAGE_TOKENS
    asked, note = _tail(words, left, count)
    left -= count(asked)
    kept: list[Message] = []
    for message in reversed(history):
        left -= count(message.text) + MESSAGE_TOKENS
        if left < 0:
            break
        kept.insert(0, message)
    while kept and kept[0].role == "assistant":  # an answer without its question misleads
        kept.pop(0)
    return (*opening, *kept, Message("user", asked)), note


def _tail(words: str, room: int, count: Counter) -> tuple[str, str]:
    if count(words) <= room:
        return words, ""
    pieces = words.split()
    low, high = 0, len(pieces)
    while low < high:
        middle = (low + high) // 2
        if count(" ".join(pieces[middle:])) <= room:
            high = middle
        else:
            low = middle + 1
    return " ".join(pieces[low:]), f"the question is too long for the model: its first {low} of {len(pieces)} words were left out"
