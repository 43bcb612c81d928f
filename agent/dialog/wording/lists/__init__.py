"""Reads the word lists that travel with the code: one file per subject, one table per language."""

import functools
import tomllib
from pathlib import Path
from typing import Any, Literal

Language = Literal["en", "zh", "id"]

LANGUAGES: tuple[Language, ...] = ("en", "zh", "id")


@functools.cache
def read(subject: str, language: Language) -> dict[str, Any]:
    """The table of a language in `<subject>.toml`; read once."""
    table: dict[str, Any] = tomllib.loads((Path(__file__).parent / f"{subject}.toml").read_text(encoding="utf-8"))[language]
    return table
