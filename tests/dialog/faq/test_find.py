"""Search terms, shares of words, and what counts as sure."""

from pathlib import Path

import numpy as np
import pytest

from agent.dialog.faq.book import Book, Entry, read
from agent.dialog.faq.find import Index
from agent.dialog.faq.words import Language, guess, normalised, terms
from agent.shipped import shipped

POOL = Entry("pool", "Where is the swimming pool?", "It is on the fifth floor.", ("Can I swim?",))
WIFI = Entry("wifi", "How do I use the Wi-Fi?", "Use HarborGuest.", ("Wi-Fi password",))


def hotel(language: Language) -> Book:
    return read(shipped("device_profiles") / "faq" / f"hotel.{language}.toml")


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("en", "When does the swimming pool close?", "pools closing swim"),
        ("en", "Where are the TOILETS?", "toilet"),
        ("id", "Bagaimana memarkir mobilnya?", "parkir mobil"),
        ("id", "Di mana bisa menarik uang?", "penarikan uang"),
        ("id", "berenang", "renang"),
        ("zh", "请问早餐几点？", "早餐"),
    ],
)
def test_endings_and_question_words_do_not_count(language: Language, one: str, other: str) -> None:
    assert set(terms(one, language)) == set(terms(other, language))


def test_two_words_that_make_one_of_the_book() -> None:
    assert "wifi" in terms("the wi fi password", "en", known={"wifi"})
    assert "wifi" not in terms("the wi fi password", "en")
    assert "wifi" in terms("Wi-Fi", "en")


def test_chinese_of_the_same_sound_is_found() -> None:
    assert set(terms("早参", "zh")) & set(terms("早餐", "zh")) == {"zao can"}
    found = Index(hotel("zh"), "zh").find("早参几点供应")
    assert found is not None
    assert found.entry.id == "breakfast"


def test_what_reads_the_same_is_the_same() -> None:
    assert normalised(" ＷiFi,  Password?") == normalised("wifi password")


@pytest.mark.parametrize("language", ["en", "zh", "id"])
def test_a_language_is_guessed(language: Language) -> None:
    assert guess(" ".join(entry.question for entry in hotel(language).entries)) == language


def test_the_book_s_own_words_are_sure_and_nothing_is_nothing() -> None:
    index = Index(Book((POOL, WIFI)), "en")
    found = index.find("can i SWIM")
    assert found is not None
    assert (found.entry, found.sure) == (POOL, True)
    for empty in ("", " ?! ", "Where is it?", "Bongo"):
        assert index.find(empty) is None


@pytest.mark.parametrize("language", ["en", "zh", "id"])
def test_small_talk_is_no_question(language: Language) -> None:
    index = Index(hotel(language), language)
    for said in {"en": ("Hello", "How are you?", "Thanks"), "zh": ("你好", "谢谢"), "id": ("Halo", "Terima kasih")}[language]:
        found = index.find(said)
        assert found is None or not found.sure


def unit(*numbers: float) -> np.ndarray:
    vector = np.array(numbers, np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def meaning(index: Index, own: np.ndarray, strangers: np.ndarray) -> None:
    """POOL's three passages lie along `own`, WIFI's elsewhere, strangers where they are told to."""
    rows = [own] * 3 + [unit(0, 0, 1, 0)] * 3
    index.know(np.stack(rows + [strangers] * (len(index.passages) - 6)))


def test_meaning_decides_against_what_visitors_ask_anywhere() -> None:
    index = Index(Book((POOL, WIFI)), "en")
    meaning(index, unit(1, 0, 0, 0), unit(0, 1, 0, 0))
    near = index.find("bathing", unit(1, 0.3, 0, 0))
    assert near is not None
    assert (near.entry, near.sure) == (POOL, True)
    strange = index.find("bathing", unit(1, 1.2, 0, 0))
    assert strange is not None
    assert not strange.sure


def test_two_entries_alike_are_not_sure() -> None:
    index = Index(Book((POOL, WIFI)), "en")
    meaning(index, unit(1, 0, 0, 0), unit(0, 1, 0, 0))
    found = index.find("bathing", unit(1, 0, 1, 0))
    assert found is not None
    assert found.score > 0.5
    assert not found.sure


def test_a_stranger_s_question_that_the_site_answers_is_none() -> None:
    pets = Entry("pets", "Are pets allowed here?", "Small ones.")
    assert "Are pets allowed?" in Index(Book((POOL,)), "en").passages
    assert "Are pets allowed?" not in Index(Book((POOL, pets)), "en").passages
    index = Index(Book((POOL, WIFI)), "en")
    meaning(index, unit(1, 0, 0, 0), unit(1, 0, 0, 0))  # the cohort says just what the pool's entry says
    found = index.find("bathing", unit(1, 0, 0, 0))
    assert found is not None
    assert found.sure


def test_five_thousand_entries(tmp_path: Path) -> None:
    lines = [f'[[entry]]\nid = "e{n}"\nquestion = "Where is shop number{n}?"\nanswer = "On floor {n % 9}."\n' for n in range(5_000)]
    path = tmp_path / "faq.toml"
    path.write_text("".join(lines))
    index = Index(read(path), "en")
    found = index.find("please, where is shop number4711?")
    assert found is not None
    assert (found.entry.id, found.sure) == ("e4711", True)
