"""A finder embeds beside its questions, goes on by words when the embedder fails, and keeps what it has embedded."""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.dialog.faq.book import Book, Entry
from agent.dialog.faq.check import judge, own, read
from agent.dialog.faq.finder import Finder
from agent.engines.host import Hosted, start
from agent.errors import BadInput
from agent.ports import EngineSettings

BOOK = Book((Entry("pool", "Where is the pool?", "On the roof."), Entry("bar", "Where is the bar?", "In the hall.", ("I am thirsty",))))

Test = Callable[[Hosted[str, bytes]], Awaitable[None]]


def run(test: Test) -> None:
    async def main() -> None:
        host: Hosted[str, bytes] = await start(EngineSettings("embed_scripted", "script"), SystemClock())
        try:
            await asyncio.wait_for(test(host), 20)
        finally:
            await host.aclose()

    asyncio.run(main())


async def found_id(finder: Finder, question: str) -> str | None:
    found = await finder.find(question, exact=False)
    return None if found is None else found.entry.id


def test_without_an_embedder_words_decide() -> None:
    async def main() -> None:
        finder = Finder(BOOK, "en", None, SystemClock())
        await finder.open()
        assert await found_id(finder, "the pool please") == "pool"
        await finder.aclose()

    asyncio.run(main())


def test_a_killed_embedder_costs_one_question_its_meaning(tmp_path: Path) -> None:
    async def test(host: Hosted[str, bytes]) -> None:
        finder = Finder(BOOK, "en", host, SystemClock(), tmp_path / "vectors")
        await finder.open()
        assert await found_id(finder, "the pool please") == "pool"  # maybe before all is embedded
        await finder.known()
        by_meaning = await finder.find("on the roof", exact=False)
        os.kill(host.process_id, signal.SIGKILL)
        by_words = await finder.find("on the roof", exact=False)
        again = await finder.find("on the roof", exact=False)
        assert by_meaning is not None
        assert by_words is not None
        assert again is not None
        assert {by_meaning.entry.id, by_words.entry.id, again.entry.id} == {"pool"}
        assert again.score == by_meaning.score
        await finder.aclose()

    run(test)


def test_questions_asked_together_get_their_own_answers(tmp_path: Path) -> None:
    async def test(host: Hosted[str, bytes]) -> None:
        finder = Finder(BOOK, "en", host, SystemClock())
        await finder.open()
        await finder.known()
        lost = asyncio.create_task(finder.find("I am thirsty now"))  # somebody stops waiting: the line must not slip by one
        await asyncio.sleep(0)
        lost.cancel()
        asked = ["the pool", "the bar"] * 5
        assert await asyncio.gather(*(found_id(finder, text) for text in asked)) == ["pool", "bar"] * 5
        await finder.aclose()

    run(test)


def test_vectors_are_kept_for_the_same_book_only(tmp_path: Path) -> None:
    cache = tmp_path / "vectors"

    async def test(host: Hosted[str, bytes]) -> None:
        first = Finder(BOOK, "en", host, SystemClock(), cache)
        await first.open()
        await first.known()
        await first.aclose()
        second = Finder(BOOK, "en", host, SystemClock(), cache)
        await second.open()
        assert second._known.is_set()
        await second.aclose()
        other = Finder(Book(BOOK.entries[:1]), "en", host, SystemClock(), cache)
        await other.open()
        assert not other._known.is_set()
        await other.aclose()
        cache.write_bytes(cache.read_bytes()[:-3])
        cut = Finder(BOOK, "en", host, SystemClock(), cache)
        await cut.open()
        assert not cut._known.is_set()
        await cut.aclose()

    run(test)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not JSON"),
        ("[]", "holds no questions"),
        ('{"asked": 3}', "holds no questions"),
        ('{"en": {"asked": [["Where?"]]}}', "asked 1 is not a question and an entry id"),
        ('{"asked": [["Where?", "spa"]]}', "asked 1 names entry 'spa', which the FAQ does not have"),
        ('{"strangers": [1]}', "stranger 1 is not a text"),
        ('{"zh": {}}', "has no questions in en; choose --lang"),
    ],
)
def test_bad_questions_get_one_line(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "questions.json"
    path.write_text(content)
    with pytest.raises(BadInput, match=r"questions\.json") as refused:
        read(path, "en", BOOK)
    assert says in str(refused.value)


def test_what_went_wrong_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "questions.json"
    path.write_text(
        json.dumps({"asked": [["the pool please", "pool", "extra"], ["the pool please", "bar"]], "strangers": ["the bar?", "Hm"]})
    )
    finder = Finder(BOOK, "en", None, SystemClock())
    told = asyncio.run(judge(read(path, "en", BOOK), finder.find))
    assert {key: told[key] for key in ("right", "false", "asked", "strangers")} == {"right": 1, "false": 1, "asked": 2, "strangers": 2}
    assert [(row["text"], row["expected"], row["answered"]) for row in told["wrong"]] == [
        ("the pool please", "bar", "pool"),
        ("the bar?", None, "bar"),
    ]
    assert len(own(BOOK).asked) == 3
