"""Judges an FAQ by questions whose entries are known, and by questions of strangers that no entry answers."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.dialog.faq.book import Book
from agent.dialog.faq.find import Found
from agent.dialog.faq.words import Language
from agent.errors import BadInput

BYTES_MAX = 16 * 1024 * 1024

SHAPE = 'write {"asked": [["question", "entry id"], …], "strangers": ["question", …]}, or that by language'

Find = Callable[[str], Awaitable[Found | None]]


@dataclass(frozen=True, slots=True)
class Questions:
    """What is asked, and the id of the entry that answers it; None: nothing does."""

    asked: tuple[tuple[str, str], ...]
    strangers: tuple[str, ...]


def own(book: Book) -> Questions:
    """Every question and alias of a book."""
    return Questions(tuple((asked, entry.id) for entry in book.entries for asked in entry.questions), ())


def read(path: Path, language: Language, book: Book) -> Questions:
    """Reads a file of questions. Raises BadInput in one line for what is wrong with it."""
    try:
        with path.open("rb") as file:
            tables = json.loads(file.read(BYTES_MAX).decode("utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}", "name a readable file of questions") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not JSON: {error}", SHAPE) from error
    if isinstance(tables, dict) and not tables.keys() & {"asked", "strangers"}:
        if language not in tables:
            raise BadInput(f"{path} has no questions in {language}", f"choose --lang, or {SHAPE}")
        tables = tables[language]
    if not isinstance(tables, dict) or not all(isinstance(tables.get(key, []), list) for key in ("asked", "strangers")):
        raise BadInput(f"{path} holds no questions", SHAPE)
    asked = tuple(_asked(path, number, row, book) for number, row in enumerate(tables.get("asked", []), 1))
    strangers = tables.get("strangers", [])
    for number, text in enumerate(strangers, 1):
        if not isinstance(text, str):
            raise BadInput(f"{path}: stranger {number} is not a text", SHAPE)
    return Questions(asked, tuple(strangers))


def _asked(path: Path, number: int, row: Any, book: Book) -> tuple[str, str]:
    if not isinstance(row, list) or len(row) < 2 or not all(isinstance(part, str) for part in row[:2]):
        raise BadInput(f"{path}: asked {number} is not a question and an entry id", SHAPE)
    if row[1] not in {entry.id for entry in book.entries}:
        raise BadInput(f"{path}: asked {number} names entry {row[1]!r}, which the FAQ does not have", "mend the id")
    return row[0], row[1]


async def judge(questions: Questions, find: Find) -> dict[str, Any]:
    """{right, false, asked, strangers, wrong}: asked ones answered by their entry, strangers answered at all, how many there were of
    either, and each that went wrong: its text, the entry expected and the one answered (None: none), the nearest and its score."""
    right, false, wrong = 0, 0, []
    pairs: list[tuple[str, str | None]] = [*questions.asked, *((text, None) for text in questions.strangers)]
    for text, expected in pairs:
        found = await find(text)
        answered = found.entry.id if found is not None and found.sure else None
        if answered == expected:
            right += expected is not None
            continue
        false += expected is None
        nearest = None if found is None else {"id": found.entry.id, "score": round(found.score, 4), "margin": round(found.margin, 4)}
        wrong.append({"text": text, "expected": expected, "answered": answered, "nearest": nearest})
    return {"right": right, "false": false, "asked": len(questions.asked), "strangers": len(questions.strangers), "wrong": wrong}
