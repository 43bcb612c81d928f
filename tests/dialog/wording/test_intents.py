"""What customers say is taken as what they mean; above all, no question is taken for small talk."""

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dialog.wording.intents import consent, intent, polite_noise
from agent.dialog.wording.lists import LANGUAGES, Language

UTTERANCES = tomllib.loads((Path(__file__).parents[2] / "golden/utterances.toml").read_text(encoding="utf-8"))


def table(language: Language) -> Iterator[tuple[str, str, str]]:
    for kind, texts in UTTERANCES[language].items():
        for text in texts:
            yield "question" if kind == "fishing" else kind, intent(text, language), text


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_utterance_is_taken_as_meant(language: Language) -> None:
    assert [(meant, taken, text) for meant, taken, text in table(language) if meant != taken] == []
    assert len(UTTERANCES[language]["small_talk"]) >= (40 if language == "en" else 15)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Where does the bus stop?"),
        ("en", "Stop by stop, how far is it?"),
        ("en", "Is there a bus stop near the hotel, please?"),
        ("en", "Is there a bus stop"),
        ("en", "Do I wait here for the shuttle?"),
        ("en", "When should I stop eating?"),
        ("en", "Let me know when the bus stops"),
        ("en", "Let me go to the pool"),
        ("en", "Can you stop by my room?"),
        ("en", "No."),
        ("en", "No, no."),
        ("en", "No, no, no problem"),
        ("en", "Ouch!"),
        ("zh", "停车场"),
        ("zh", "不要"),
        ("zh", "快快快"),
        ("id", "Jangan lupa"),
        ("id", "Jalan jalan"),
    ],
)
def test_a_stop_inside_a_question_stops_nothing(language: Language, text: str) -> None:
    assert intent(text, language) == "question"


@pytest.mark.parametrize(
    ("language", "text"),
    [("en", "stop now " * 60 + "x"), ("zh", "停" * 60 + "吗"), ("zh", "对" * 60 + "吗"), ("id", "sudah cukup " * 60 + "x")],
)
def test_what_is_said_again_and_again_does_not_keep_the_robot_thinking(language: Language, text: str) -> None:
    assert intent(text, language) == "question"


@given(
    st.sampled_from([text for _, _, text in table("en") if _ == "small_talk"]),
    st.sampled_from(["sauna", "floor", "7", "breakfast", "price", "open"]),
)
def test_one_unknown_word_makes_a_question(text: str, word: str) -> None:
    assert intent(f"{text.rstrip('.!?')} {word}?", "en") != "small_talk"


@pytest.mark.parametrize(
    ("language", "text", "noise"),
    [
        ("en", "uh-huh", True),
        ("en", "Okay, okay.", True),
        ("en", "Mm.", True),
        ("en", "I see.", True),
        ("en", "No, wait.", False),
        ("en", "okay but where is it", False),
        ("zh", "嗯嗯", True),
        ("zh", "好的", True),
        ("zh", "不对", False),
        ("id", "oke", True),
        ("id", "iya iya", True),
        ("id", "bukan itu", False),
    ],
)
def test_listeners_noise_interrupts_nobody(language: Language, text: str, noise: bool) -> None:
    assert polite_noise(text, language) is noise


@pytest.mark.parametrize(
    ("language", "text", "answer"),
    [
        ("en", "Yes, please.", "yes"),
        ("en", "Okay.", "yes"),
        ("en", "No, thank you.", "no"),
        ("en", "Where is it?", ""),
        ("en", "", ""),
        ("zh", "好的", "yes"),
        ("zh", "不用了，谢谢", "no"),
        ("zh", "几点？", ""),
        ("id", "Iya, boleh.", "yes"),
        ("id", "Tidak usah.", "no"),
        ("id", "di mana?", ""),
    ],
)
def test_an_offer_is_taken_or_refused(language: Language, text: str, answer: str) -> None:
    assert consent(text, language) == answer


@given(st.text(max_size=60), st.sampled_from(LANGUAGES))
def test_no_text_breaks_it(text: str, language: Language) -> None:
    intent(text, language)
    polite_noise(text, language)
    consent(text, language)
