"""An FAQ is taken whole, or refused in one line that names the entry, its line and what to do."""

from pathlib import Path

import pytest

from agent.dialog.faq.book import ENTRIES_MAX, BadFaq, read
from agent.shipped import shipped

GOOD = '[[entry]]\nid = "pool"\nquestion = "Where is the pool?"\nanswer = "On the roof."\n'


def entry(**changes: object) -> str:
    held: dict[str, object] = {"id": "gym", "question": "Is there a gym?", "answer": "Yes."} | changes
    return "[[entry]]\n" + "".join(f"{key} = {value!r}\n" for key, value in held.items() if value is not None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD + entry(answer=None), ":5: entry 2 (gym): answer is missing; add answer"),
        (GOOD + entry(id=None), ":5: entry 2: id is missing"),
        (GOOD + entry(answer=" "), ":8: entry 2 (gym): answer is empty"),
        (GOOD + entry(answer=7), ":8: entry 2 (gym): answer is not a text"),
        (GOOD + entry(answer="y" * 601), ":8: entry 2 (gym): answer has 601 characters; shorten it to 600"),
        (GOOD + entry(anwser="Yes"), ":9: entry 2 (gym): unknown key anwser; an entry has id, question, answer, aliases"),
        (GOOD + entry(id="pool"), ":6: entry 2 (pool): entry 1 has the same id"),
        (GOOD + entry(question="where is the POOL"), ":7: entry 2 (gym): 'where is the POOL' is asked by entry 'pool' already"),
        (GOOD + entry(aliases=["Where is the pool?!"]), ":9: entry 2 (gym): 'Where is the pool?!' is asked by entry 'pool' already"),
        (GOOD + entry(aliases=["Is there a gym"]), ":9: entry 2 (gym): 'Is there a gym' is asked by entry 'gym' already"),
        (GOOD + entry(question="?!"), ":7: entry 2 (gym): '?!' has no words"),
        (GOOD + entry(aliases="gym"), ":9: entry 2 (gym): aliases is not a list of questions"),
        (GOOD + entry(aliases=[f"gym {number}" for number in range(31)]), "too many aliases"),
        (GOOD + "[[entry]\n", "not TOML: Expected ']]' at the end of an array declaration (at line 5"),
        ("", " has no entries; add an [[entry]]"),
        ("entry = 3", " has no entries"),
        ("entry = [1]", " has no entries"),
        ('entry = [{id = "a", question = "b"}]', ": entry 1 (a): answer is missing"),
        ("title = 1\n" + GOOD, "unknown key title"),
        ('language = "fr"\n' + GOOD, "language is 'fr'; it is one of: en, zh, id"),
        (GOOD.replace("roof", "ro\udcff"), "is not UTF-8"),
    ],
)
def test_a_broken_faq_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "faq.toml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadFaq) as refused:
        read(path)
    assert f"{path}" in str(refused.value)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(BadFaq, match="name a readable FAQ"):
            read(path)


def test_more_entries_than_a_robot_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "faq.toml"
    path.write_text("".join(f"[[entry]]\nid='{number}'\n" for number in range(ENTRIES_MAX + 1)))
    with pytest.raises(BadFaq, match=f"{ENTRIES_MAX + 1} entries; leave at most {ENTRIES_MAX}"):
        read(path)


@pytest.mark.parametrize("language", ["en", "zh", "id"])
def test_the_shipped_faqs_are_whole(language: str) -> None:
    book = read(shipped("device_profiles") / "faq" / f"hotel.{language}.toml")
    assert (book.language, len(book.entries)) == (language, 12)
    assert all(len(entry.aliases) >= 3 for entry in book.entries)
