"""Composes what decides the answers: the site's FAQ with what finds its entries, or nothing but the language model."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from agent import fitting
from agent.clock import Clock
from agent.dialog.exchange.plan import Mind, OpenMind
from agent.dialog.faq.book import Book, read
from agent.dialog.faq.finder import Finder
from agent.dialog.mind import SiteMind
from agent.dialog.wording.guard import Guard
from agent.dialog.wording.phrases import phrases
from agent.ports import Embedder
from agent.profile import Profile

VECTORS_FILE = "faq.vectors"
"""Beside the ledger: what the embedder made of the FAQ, so that a start need not make it again."""


@dataclass(frozen=True, slots=True)
class Minded:
    """One robot's mind, and what keeps it from saying what it must not."""

    mind: Mind
    guard: Guard


@contextlib.asynccontextmanager
async def minded(profile: Profile, state: Path, embed: Embedder | None, clock: Clock) -> AsyncIterator[Minded]:
    """Raises BadFaq for an FAQ that can't be used."""
    dialog = profile.dialog
    if not dialog.faq:
        yield Minded(OpenMind(), Guard(dialog.language, dialog.block_words, [dialog.system_prompt]))
        return
    book = await asyncio.to_thread(read, fitting.faq_path(profile))
    finder = await asyncio.to_thread(_finder, book, profile, state, embed, clock)
    await finder.open()
    try:
        guard = Guard(dialog.language, dialog.block_words, [entry.answer for entry in book.entries])
        yield Minded(SiteMind(dialog.language, phrases(dialog.language), finder.find), guard)
    finally:
        await finder.aclose()


def _finder(book: Book, profile: Profile, state: Path, embed: Embedder | None, clock: Clock) -> Finder:
    """A large book takes seconds to index; nobody listening should wait for it in the event loop."""
    return Finder(book, profile.dialog.language, embed, clock, cache=state / VECTORS_FILE)
