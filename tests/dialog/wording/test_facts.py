"""Small talk passes; whatever states something about a site does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dialog.wording.facts import FactGuard, invented
from agent.dialog.wording.lists import LANGUAGES, Language
from agent.dialog.wording.phrases import opening

PASS: list[tuple[Language, str]] = [
    ("en", "I'm so glad you're here! I hope you have a wonderful day."),
    ("en", "Thank you, you’re very kind!"),
    ("en", "I am sorry, I do not know that. I can ask a colleague."),
    ("en", "I am a little robot, and I love to talk with people!"),
    ("en", "How are you today?"),
    ("en", "I am a little robot!"),
    ("en", "I am a robot."),
    ("en", "I am a friendly robot."),
    ("en", "I am so happy to meet a person like you!"),
    ("en", "I like to play music for you."),
    ("en", "I know a joke! I love people. I want to hear about your friends."),
    ("zh", "谢谢你，我很开心！"),
    ("zh", "我是一个小机器人，很高兴认识你！"),
    ("zh", "对不起，我不知道。我可以帮您问同事。"),
    ("id", "Saya senang bertemu dengan Anda!"),
    ("id", "Maaf, saya tidak tahu itu. Semoga lekas sembuh!"),
]

REFUSED: list[tuple[Language, str]] = [
    ("en", "The pool is heated."),
    ("en", "Yes, we have that."),
    ("en", "Yes, it is."),
    ("en", "No, you can't."),
    ("en", "Of course!"),
    ("en", "I do."),
    ("en", "I do, and I love it!"),
    ("en", "Always!"),
    ("en", "I hope you enjoy the sauna!"),
    ("en", "The bus is not."),
    ("en", "It is very good."),
    ("en", "I think so."),
    ("en", "I can help you with that."),
    ("en", "You're welcome to smoke."),
    ("en", "It is ten."),
    ("en", "At 7."),
    ("en", "Upstairs."),
    ("en", "I'm sorry, I am not a robot."),
    ("en", "I am a person."),
    ("en", "I'm just a kind person, like you."),
    ("en", "I, too, am a person."),
    ("en", "I think I am a friendly little person."),
    ("en", "I was a robot and a person."),
    ("en", "I love to be a person."),
    ("en", "I feel like a person."),
    ("en", "A person, like you!"),
    ("en", "I am your colleague."),
    ("en", "I know the person you want to meet."),
    ("en", "I know your friend."),
    ("en", "I know a nice person."),
    ("en", "I know who you want to meet."),
    ("zh", "我认识你的朋友。"),
    ("zh", "我是人。"),
    ("id", "Saya adalah seorang orang."),
    ("id", "Saya tahu orang yang Anda mau bertemu."),
    ("zh", "游泳池在五楼。"),
    ("zh", "是的，有。"),
    ("zh", "可以！"),
    ("zh", "很好。"),
    ("zh", "早餐很棒。"),
    ("id", "Kolam renang ada di lantai lima."),
    ("id", "Ya, ada."),
    ("id", "Boleh."),
    ("id", "Tidak."),
]


@pytest.mark.parametrize(("language", "text"), PASS)
def test_small_talk_passes(language: Language, text: str) -> None:
    assert invented(text, (), language) == ()
    assert FactGuard(language).passing(text) == text


@pytest.mark.parametrize(("language", "text"), REFUSED)
def test_claims_do_not_pass_not_even_without_a_word_of_their_own(language: Language, text: str) -> None:
    assert invented(text, (), language) != ()
    assert FactGuard(language).passing(text) == ""


ENTRY = "The women's room is beside the men's room. A woman, a man, a girl, a boy or any human may ask a guard."


@pytest.mark.parametrize("text", ["I am a woman.", "I'm a human.", "I am a boy, a girl.", "I know the man."])
def test_no_entry_makes_a_person_of_the_robot(text: str) -> None:
    assert invented(text, (ENTRY,), "en") != ()


def test_what_is_invented_is_named() -> None:
    assert invented("I love you, and the spa closes at 9.", (), "en") == ("spa", "closes", "at", "9")
    assert invented("我很高兴，桑拿在五楼。", (), "zh") == ("桑拿在五楼",)


def test_what_the_entry_says_may_be_said_and_nothing_beside_it() -> None:
    entry = "The swimming pool is on the fifth floor and is open from 7 am to 9 pm."
    assert invented("The pool is on the fifth floor, from 7 am to 9 pm.", (entry,), "en") == ()
    assert invented("The pool is on the sixth floor, from 7 am to 10 pm.", (entry,), "en") == ("sixth", "10")
    assert invented("游泳池在五楼。", ("游泳池在五楼，早上七点开放。",), "zh") == ()
    assert invented("游泳池在六楼。", ("游泳池在五楼，早上七点开放。",), "zh") == ("六楼",)
    assert invented("Kolam renang ada di lantai enam.", ("Kolam renang ada di lantai lima.",), "id") == ("enam",)


def test_what_is_spoken_ends_before_the_first_sentence_that_states_something() -> None:
    guard = FactGuard("en")
    assert guard.passing("I am so happy! I hope you are well. The bar closes at ten. I love you!") == "I am so happy! I hope you are well."
    assert guard.passing("I am so happy! I hope you enjoy") == "I am so happy!"
    assert guard.clause("I am so happy,")
    assert not guard.clause("and the bar is open")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_examples_shown_to_the_model_pass(language: Language) -> None:
    guard = FactGuard(language)
    assert [text for text in (one.text for one in opening(language) if one.role == "assistant") if not guard.clause(text)] == []


@given(st.text(max_size=60), st.sampled_from(LANGUAGES))
def test_no_text_breaks_it_and_no_number_passes(text: str, language: Language) -> None:
    guard = FactGuard(language)
    guard.passing(text)
    assert not guard.clause(text + " 7 ")
