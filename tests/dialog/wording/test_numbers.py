"""What the voice is given reads rightly, reads the same when read again, loses no word, and leads back to the original."""

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dialog.wording.lists import LANGUAGES, Language
from agent.dialog.wording.numbers import aloud

CASES = tomllib.loads((Path(__file__).parents[2] / "golden/aloud.toml").read_text(encoding="utf-8"))["case"]

TEXTS = (
    *(
        "6:30",
        "10:00",
        "7",
        " am",
        "pm.",
        "p.m.",
        "$",
        "3.50",
        "Rp ",
        "200.000",
        "¥",
        "99",
        "-",
        "–",
        " ",
        ", ",
        ". ",
        "room ",
        "kamar ",
        "房间",
    ),
    *(
        "415",
        "1800 555 010",
        "%",
        "50",
        "/",
        "the ",
        "lantai ",
        "层",
        "第",
        "元",
        "+62 812",
        "bluewave",
        "24",
        ":",
        "年",
        "0",
        "3rd",
        "x",
        "s",
        "km",
    ),
    *(
        "1,250",
        "1.250.000",
        "€5,50",
        "call ",
        "rooms ",
        " and ",
        "1203",
        "AM",
        "m",
        "密码是",
        "房间号",
        "点",
        "~",
        ".00",
        "US$",
        "24/7",
        "2026-11-27",
    ),
)

PIECES = st.sampled_from(TEXTS)


def test_the_table_covers_all_languages() -> None:
    assert len(CASES) >= 40
    assert all(sum(case["language"] == language for case in CASES) >= 13 for language in LANGUAGES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["text"])[:40])
def test_numbers_are_read_rightly(case: dict[str, str]) -> None:
    language: Language = case["language"]  # type: ignore[assignment]
    told = aloud(case["text"], language)
    assert told.text == case["spoken"]
    assert aloud(told.text, language).text == told.text


@given(st.lists(PIECES, max_size=10).map("".join), st.sampled_from(LANGUAGES))
def test_reading_again_changes_nothing_and_spans_lead_back(text: str, language: Language) -> None:
    told = aloud(text, language)
    assert aloud(told.text, language).text == told.text
    assert not re.search(r"\d", told.text)
    heard = [told.heard(characters) for characters in range(len(told.text) + 1)]
    assert heard == sorted(heard)
    assert heard[-1] == len(text)
    assert all(0 <= characters <= len(text) for characters in heard)


@given(
    st.lists(st.sampled_from(["Breakfast", "starts", "7", "6:30", "$5", "pool", "kolam", "Rp 5.000", "早餐"]), max_size=8),
    st.sampled_from(LANGUAGES),
)
def test_no_word_is_lost(words: list[str], language: Language) -> None:
    spoken = aloud(" ".join(words), language).text
    at = 0
    for word in (word for word in words if word.isalpha()):
        at = spoken.index(word, at) + len(word)


def test_what_was_heard_is_told_in_the_original() -> None:
    told = aloud("Open 6:30 daily.", "en")
    assert told.text == "Open six thirty daily."
    assert told.heard(len("Ope")) == len("Ope")
    assert told.heard(len("Open six thir")) == len("Open ")
    assert told.heard(len("Open six thirty")) == len("Open 6:30")
    assert told.heard(len("Open six thirty dai")) == len("Open 6:30 dai")
    assert told.heard(10_000) == len("Open 6:30 daily.")
    assert aloud("", "en").heard(0) == 0


@given(st.text(max_size=60), st.sampled_from(LANGUAGES))
def test_no_text_breaks_it(text: str, language: Language) -> None:
    told = aloud(text, language)
    assert told.heard(len(told.text)) == len(text)
