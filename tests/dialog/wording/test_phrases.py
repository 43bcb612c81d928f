"""Every language has every phrase, and a site may word its own."""

from dataclasses import asdict

import pytest

from agent.dialog.wording.lists import LANGUAGES, Language
from agent.dialog.wording.phrases import opening, phrases
from agent.errors import BadProfile


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_all(language: Language) -> None:
    told = phrases(language)
    every = [*told.small_talk, *(text for name, text in asdict(told).items() if name != "small_talk")]
    assert all(text.strip() for text in every)
    assert len(set(every)) == len(every) == 12
    assert [told.small_talk_at(turn) for turn in range(4)] == [*told.small_talk, told.small_talk[0]]


def test_a_site_words_its_own() -> None:
    told = phrases("en", {"greeting": "Ahoy!", "small_talk": ["Ay."]})
    assert (told.greeting, told.small_talk, told.thanks) == ("Ahoy!", ("Ay.",), phrases("en").thanks)


@pytest.mark.parametrize(
    "own", [{"hello": "Hi"}, {"greeting": " "}, {"greeting": ["a"]}, {"small_talk": "a"}, {"small_talk": []}, {"small_talk": [""]}]
)
def test_what_can_be_no_phrase_is_named(own: dict[str, str | list[str]]) -> None:
    with pytest.raises(BadProfile, match=next(iter(own))):
        phrases("en", own)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_model_is_shown_exchanges(language: Language) -> None:
    roles = [message.role for message in opening(language)]
    assert roles == ["system", *["user", "assistant"] * ((len(roles) - 1) // 2)]
