"""The FAQ of a site: TOML becomes a book of entries, or one line that says which entry is wrong, where, and what to do."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from agent.dialog.faq.words import LANGUAGES, Language, normalised
from agent.errors import BadInput

ENTRIES_MAX = 10_000
"""Twice the largest FAQ a site was said to have; the vectors of more would not fit a robot's memory."""

BYTES_MAX = 32 * 1024 * 1024
"""Ten thousand entries with twenty aliases each; a longer file is not an FAQ."""

ANSWER_CHARACTERS_MAX = 600
"""About forty seconds of speech; nobody listens longer to a robot."""

QUESTION_CHARACTERS_MAX = 300
"""Longer than any question; also what the embedder reads of one."""

ALIASES_MAX = 30

KEYS = ("id", "question", "answer", "aliases")

HEADER = re.compile(r"\s*\[\[\s*[\"']?entry[\"']?\s*\]\]")


class BadFaq(BadInput):
    """An FAQ that can't be spoken from."""

    code = "bad-faq"


@dataclass(frozen=True, slots=True)
class Entry:
    """A question, other ways to ask it, and the answer, spoken word for word."""

    id: str
    question: str
    answer: str
    aliases: tuple[str, ...] = ()

    @property
    def questions(self) -> tuple[str, ...]:
        return (self.question, *self.aliases)


@dataclass(frozen=True, slots=True)
class Book:
    """All entries of a site, in the order of the file."""

    entries: tuple[Entry, ...]
    language: Language | None = None
    """What it is written in, where the file says so."""


def read(path: Path) -> Book:
    """Reads and checks an FAQ. Raises BadFaq for the first thing that is wrong with it."""
    text = _text(path)
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadFaq(f"{path}: not TOML: {error}", "mend that place") from error
    return _Reader(path, text).book(tables)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(BYTES_MAX + 1)
        if len(raw) > BYTES_MAX:
            raise BadFaq(f"{path} is larger than {BYTES_MAX // 2**20} MiB", "name an FAQ")
        return raw.decode("utf-8")
    except OSError as error:
        raise BadFaq(f"{path}: {error.strerror}", "name a readable FAQ") from error
    except UnicodeDecodeError as error:
        raise BadFaq(f"{path} is not UTF-8 (byte {error.start})", "save it as UTF-8") from error


class _Reader:
    """Checks one file; knows where its entries begin, to say where something is wrong."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._lines = text.splitlines()
        self._starts = [number for number, line in enumerate(self._lines) if HEADER.match(line)]
        self._ids: dict[str, int] = {}
        self._asked: dict[str, str] = {}

    def book(self, tables: dict[str, Any]) -> Book:
        language, entries = tables.pop("language", None), tables.pop("entry", None)
        if tables:
            raise BadFaq(f"{self._path}: unknown key {min(tables)}", "an FAQ has language and [[entry]]")
        if language is not None and language not in LANGUAGES:
            raise BadFaq(f"{self._path}: language is {language!r}", f"it is one of: {', '.join(LANGUAGES)}")
        if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
            raise BadFaq(f"{self._path} has no entries", "add an [[entry]] with id, question and answer")
        if len(entries) > ENTRIES_MAX:
            raise BadFaq(f"{self._path} has {len(entries)} entries", f"leave at most {ENTRIES_MAX}")
        return Book(tuple(self._entry(number, entry) for number, entry in enumerate(entries)), language)

    def _entry(self, number: int, table: dict[str, Any]) -> Entry:
        for key in table:
            if key not in KEYS:
                self._fail(number, table, key, f"unknown key {key}", f"an entry has {', '.join(KEYS)}")
        name, question = self._string(number, table, "id", 100), self._string(number, table, "question", QUESTION_CHARACTERS_MAX)
        answer = self._string(number, table, "answer", ANSWER_CHARACTERS_MAX)
        aliases = table.get("aliases", [])
        if not isinstance(aliases, list) or not all(isinstance(alias, str) and alias.strip() for alias in aliases):
            self._fail(number, table, "aliases", "aliases is not a list of questions", 'write aliases = ["…", "…"]')
        if len(aliases) > ALIASES_MAX or any(len(alias) > QUESTION_CHARACTERS_MAX for alias in aliases):
            limits = f"{ALIASES_MAX} of {QUESTION_CHARACTERS_MAX} characters each"
            self._fail(number, table, "aliases", "there are too many aliases, or too long ones", f"leave at most {limits}")
        if name in self._ids:
            self._fail(number, table, "id", f"entry {self._ids[name] + 1} has the same id", "give each its own")
        self._ids[name] = number
        entry = Entry(name, question, answer, tuple(alias.strip() for alias in aliases))
        for asked in entry.questions:
            self._once(number, table, asked)
        return entry

    def _once(self, number: int, table: dict[str, Any], asked: str) -> None:
        """A question that two entries answer has no answer; one that stands twice in an entry was meant to be another."""
        key = normalised(asked)
        at = "question" if asked == table["question"].strip() else "aliases"
        if not key:
            self._fail(number, table, at, f"{asked!r} has no words", "write a question")
        if key in self._asked:
            self._fail(number, table, at, f"{asked!r} is asked by entry {self._asked[key]!r} already", "leave it to one of them")
        self._asked[key] = table["id"].strip()

    def _string(self, number: int, table: dict[str, Any], key: str, most: int) -> str:
        value = table.get(key)
        if value is None:
            self._fail(number, table, key, f"{key} is missing", f"add {key}")
        if not isinstance(value, str) or not value.strip():
            self._fail(
                number, table, key, f"{key} is {'empty' if value == '' or isinstance(value, str) else 'not a text'}", f"write the {key}"
            )
        if len(value) > most:
            self._fail(number, table, key, f"{key} has {len(value)} characters", f"shorten it to {most}")
        return str(value).strip()

    def _fail(self, number: int, table: dict[str, Any], key: str, says: str, todo: str) -> NoReturn:
        name = table.get("id")
        which = f"entry {number + 1}" + (f" ({name[:100]})" if isinstance(name, str) and name.strip() else "")
        line = self._line(number, key)
        raise BadFaq(f"{self._path}{f':{line}' if line else ''}: {which}: {says}", todo)

    def _line(self, number: int, key: str) -> int | None:
        """The line of an entry's key, or of the entry; None where entries are written in another way."""
        if number >= len(self._starts):
            return None
        start, end = self._starts[number], (*self._starts, len(self._lines))[number + 1]
        assigned = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=")
        return next((at + 1 for at in range(start, end) if assigned.match(self._lines[at])), start + 1)
