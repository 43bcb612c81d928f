"""Discontent is noticed, negation turned, and a person offered in time."""

import pytest

from agent.dialog.wording.lists import Language
from agent.dialog.wording.mood import Mood, score


@pytest.mark.parametrize(
    ("language", "text", "sign"),
    [
        ("en", "This is wonderful, thank you!", 1),
        ("en", "This is terrible.", -1),
        ("en", "That's not very helpful.", -1),
        ("en", "It isn't good.", -1),
        ("en", "That is not bad at all.", 1),
        ("en", "Where is the pool?", 0),
        ("en", "", 0),
        ("zh", "太差了！", -1),
        ("zh", "我不满意。", -1),
        ("zh", "非常感谢，很满意", 1),
        ("zh", "餐厅在哪里", 0),
        ("id", "Pelayanannya buruk sekali.", -1),
        ("id", "Saya tidak puas.", -1),
        ("id", "Bagus sekali, terima kasih!", 1),
        ("id", "Di mana kolam renang?", 0),
    ],
)
def test_words_weigh_and_negation_turns(language: Language, text: str, sign: int) -> None:
    told = score(text, language)
    assert (told > 0) - (told < 0) == sign
    assert -3 <= told <= 3


def test_an_angry_customer_is_offered_a_person() -> None:
    mood = Mood("en")
    mood.heard("You are really useless, this is terrible!")
    assert mood.reason == "angry"


def test_complaints_add_up_and_are_forgotten() -> None:
    mood = Mood("en")
    mood.heard("This is annoying.")
    assert mood.reason == ""
    mood.heard("I am disappointed.")
    assert mood.reason == "angry"
    mood.heard("Where is the bus?")
    assert mood.reason == ""


def test_who_repeats_himself_is_not_helped() -> None:
    mood = Mood("zh")
    for _ in range(2):
        mood.heard("餐厅在哪里？")
        assert mood.reason == ""
    mood.heard("餐厅在哪里")
    assert mood.reason == "repeats"


def test_three_answers_that_did_not_help_are_enough() -> None:
    mood = Mood("id")
    for helped in (False, False, True, False, False):
        mood.answered(helped=helped)
        assert mood.reason == ""
    mood.answered(helped=False)
    assert mood.reason == "not-helped"
