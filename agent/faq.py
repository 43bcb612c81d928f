"""Composes the check of an FAQ: the book, an embedder where its weights are here, and questions to judge it by."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from agent.clock import Clock
from agent.dialog.faq import book as books
from agent.dialog.faq import check as checks
from agent.dialog.faq.book import Book
from agent.dialog.faq.finder import Finder
from agent.dialog.faq.words import LANGUAGES, Language, guess
from agent.engines.host import Hosted, start
from agent.errors import BadInput, VoxmeterError
from agent.ports import EngineSettings
from agent.weights import catalog, verify

ROLE = "embed"

ALIASES_FEW = 3
"""With fewer, an entry is found by few of the ways people ask for it."""


async def check(path: Path, questions: Path | None, language: str | None, models: Path, clock: Clock) -> dict[str, Any]:
    """What `faq check` prints, see `checks.judge`; with `notices`, what the site should know.

    Without questions the book's own are asked, as if they had not been read there. Raises BadInput for a file that can't be used.
    """
    book = books.read(path)
    chosen = language_of(book, language)
    asked = checks.own(book) if questions is None else checks.read(questions, chosen, book)
    async with contextlib.AsyncExitStack() as stack:
        embed, notices = None, _thin(book)
        try:
            embed = await stack.enter_async_context(embedder(models, clock))
        except VoxmeterError as error:
            notices = [*notices, f"searched by words alone, which finds less: {error}"]
        finder = Finder(book, chosen, embed, clock)
        stack.push_async_callback(finder.aclose)
        await finder.open()
        if embed is not None:
            await finder.known()
        told = await checks.judge(asked, lambda text: finder.find(text, exact=questions is not None))
    return told | {"language": chosen, "by": "words" if embed is None else embed.model, "notices": notices}


def language_of(book: Book, chosen: str | None = None) -> Language:
    """The one asked for, else the one the file names, else what its questions look like. Raises BadInput for an unknown one."""
    for language in LANGUAGES:
        if language == (chosen or book.language):
            return language
    if chosen:
        raise BadInput(f"no language is called {chosen!r}", f"there are: {', '.join(LANGUAGES)}")
    return guess(" ".join(entry.question for entry in book.entries))


@contextlib.asynccontextmanager
async def embedder(models: Path, clock: Clock) -> AsyncIterator[Hosted[str, bytes]]:
    """The catalogue's embedder, started. Raises BadWeights where its weights are not here, EngineFailed where it does not start."""
    model = next(model for model in catalog.read().model if model.role == ROLE)
    files = await asyncio.to_thread(verify.paths, model, models)
    host = await start(EngineSettings(model.engine, model.name, files), clock)
    try:
        yield host
    finally:
        await host.aclose()


def _thin(book: Book) -> list[str]:
    thin = [entry.id for entry in book.entries if len(entry.aliases) < ALIASES_FEW]
    if not thin:
        return []
    return [
        f"{len(thin)} of {len(book.entries)} entries have fewer than {ALIASES_FEW} aliases, the first is {thin[0]!r}: add other ways to ask"
    ]
