"""Answers out of a book while its vectors are still being made, and also when the embedder fails: then by words alone.

    words only --open, all passages embedded--> meaning
    either --the embedder fails in a question--> this question by words; the next one asks it again

The embedder works on one call at a time, so passages and questions share one, taking turns in small pieces: no customer waits for a
book of thousands. A call that has died, or is out of step because somebody stopped waiting, is dropped and a new one opened.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np

from agent.clock import Clock
from agent.dialog.faq.book import QUESTION_CHARACTERS_MAX, Book
from agent.dialog.faq.find import Found, Index, Vectors
from agent.dialog.faq.words import Language
from agent.errors import EngineFailed
from agent.files import write_durably
from agent.ports import Call, Embedder
from agent.tasks import stopped

PIECE_TEXTS = 4
"""Passages embedded before a waiting question has its turn: about 60 ms on one core."""

FIND_SECONDS_MAX = 1.0
"""A customer has waited for the embedder longer than anything else of a turn takes; words alone are quicker."""

RETRY_SECONDS = 5
"""Before passages are tried again with an embedder that fails."""


class Finder:
    """A site's book, ready for questions from `open` to `aclose`."""

    def __init__(self, book: Book, language: Language, embed: Embedder | None, clock: Clock, cache: Path | None = None) -> None:
        self._index = Index(book, language)
        self._clock = clock
        self._line = None if embed is None else _Line(embed)
        self._cache = None if embed is None or cache is None else _Cache(cache, embed.model, self._index.passages)
        self._task: asyncio.Task[None] | None = None
        self._known = asyncio.Event()

    async def open(self) -> None:
        """Returns at once; vectors come out of the cache, or in the background."""
        if self._line is None:
            return
        held = await asyncio.to_thread(self._cache.read) if self._cache else None
        if held is not None:
            self._know(held)
        else:
            self._task = asyncio.create_task(self._embed(self._line), name="embedding the FAQ")

    async def known(self) -> None:
        """Returns when questions are found by meaning. With an embedder that never works: never."""
        await self._known.wait()

    async def find(self, question: str, *, exact: bool = True) -> Found | None:
        """The entry that fits best and whether it may be spoken; see `Index.find`."""
        vector = None
        if self._line is not None and self._known.is_set():
            with contextlib.suppress(EngineFailed, TimeoutError):
                async with asyncio.timeout(FIND_SECONDS_MAX):
                    (vector,) = await self._line.vectors([f"query: {question[:QUESTION_CHARACTERS_MAX]}"])
        return self._index.find(question, vector, exact=exact)

    async def aclose(self) -> None:
        try:
            if self._task is not None:
                await stopped(self._task)
        finally:
            if self._line is not None:
                await self._line.aclose()

    def _know(self, vectors: Vectors) -> None:
        self._index.know(vectors)
        self._known.set()

    async def _embed(self, line: "_Line") -> None:
        passages, made = self._index.passages, list[Vectors]()
        while len(made) < len(passages):
            piece = [f"passage: {text}" for text in passages[len(made) : len(made) + PIECE_TEXTS]]
            try:
                made += await line.vectors(piece)
            except EngineFailed:
                await self._clock.sleep(RETRY_SECONDS)
        vectors = np.stack(made)
        if self._cache is not None:
            with contextlib.suppress(OSError):  # the next start embeds again
                await asyncio.to_thread(self._cache.write, vectors)
        self._know(vectors)


class _Line:
    """One long call of the embedder, opened again where it was lost."""

    def __init__(self, embed: Embedder) -> None:
        self._embed = embed
        self._turn = asyncio.Lock()
        self._call: Call[str, bytes] | None = None
        self._outputs: AsyncIterator[bytes] | None = None

    async def vectors(self, texts: Sequence[str]) -> list[Vectors]:
        """Raises EngineFailed; the next use opens a new call."""
        async with self._turn:
            whole = False
            try:
                if self._call is None or self._outputs is None:
                    self._call = self._embed.open()
                    self._outputs = aiter(self._call)
                for text in texts:
                    await self._call.send(text)
                made = [np.frombuffer(await anext(self._outputs), "<f4") for _ in texts]
                whole = True
            except StopAsyncIteration as error:
                raise EngineFailed(f"{self._embed.name} has ended its call") from error
            finally:
                if not whole:  # outputs still to come would be taken for the next text's; opening the next call cancels this one
                    self._call = self._outputs = None
            return made

    async def aclose(self) -> None:
        if self._call is not None:
            await self._call.cancel()


class _Cache:
    """The vectors of one book by one model on the disk: a digest of both, then little-endian float32."""

    def __init__(self, path: Path, model: str, passages: Sequence[str]) -> None:
        self._path = path
        self._count = len(passages)
        self._key = hashlib.sha256("\0".join([model, *passages]).encode()).digest()

    def read(self) -> Vectors | None:
        """None where there are none, or those of another book or model, or not all."""
        try:
            held = self._path.read_bytes()
        except OSError:
            return None
        numbers, rest = divmod(len(held) - len(self._key), self._count * 4)
        if not held.startswith(self._key) or rest or not numbers:
            return None
        return np.frombuffer(held, "<f4", offset=len(self._key)).reshape(self._count, numbers)

    def write(self, vectors: Vectors) -> None:
        write_durably(self._path, self._key + vectors.astype("<f4").tobytes())
