"""Whether words so far can be all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dialog.wording.unfinished import unfinished

OPEN = {
    "en": [
        "The",
        "What time does",
        "What time does.",
        "Excuse me, what time is",
        "Where can I",
        "Where can I find",
        "How do I get to the",
        "How far is it to the",
        "I would like to",
        "I’d like",
        "I have a reservation for",
        "Is there",
        "Can you tell me",
        "Could you",
        "Do you have a",
        "Which floor is",
        "What is the",
        "Well, if",
        "Breakfast and",
        "Hello,",
        "I was wondering…",
        "When will the",
        "Um",
        "Do you",
        "May I",
        "How much does",
        "Is breakfast.",
        "Is the pool?",
        "Can somebody?",
        "Do you have?",
        "Does the room have,",
        "When do I have to?",
        "Are there any?",
        "How do I get?",
        "So what's",
    ],
    "zh": ["请问", "我想", "早餐和", "请问，", "你能不能", "我想去健身房和", "如果", "健身房在", "请帮我"],
    "id": ["Apakah", "Saya ingin", "Di mana saya", "Jam berapa saya", "Sarapan dan", "Saya mau ke", "Bisakah saya", "Halo,", "kamar untuk"],
}

WHOLE = {
    "en": [
        "",
        "What time does breakfast start?",
        "Where are you from?",
        "Which room do I have to go to?",
        "Can I check in?",
        "What floor is the pool on?",
        "Can you tell me where the restroom is?",
        "Do you know what time it is?",
        "Yes, I do.",
        "What can you do?",
        "I don't know what to do.",
        "Is that it?",
        "How many rooms are there?",
        "Is it open?",
        "Is that right?",
        "What do you have?",
        "What can I take?",
        "Can you help me?",
        "Are pets allowed?",
        "How much is it?",
        "How are you?",
        "Who am I?",
        "Where are we?",
        "Yes, you may.",
        "What is it for?",
        "How much?",
        "What time?",
        "Thank you",
        "Is there a gym?",
        "Me too.",
        "What is this?",
        "How far is that?",
        "Where can I park?",
        "Is breakfast included?",
        "Who do I talk to?",
        "As soon as you can.",
        "No",
    ],
    "zh": [
        "早餐几点开始？",
        "是免费的",
        "好的",
        "他现在在不在",
        "对",
        "你们现在",
        "这里有没有健身房？",
        "健身房在哪里",
        "谢谢",
        "我要这个",
        "这样可以吗",
    ],
    "id": [
        "Jam berapa sarapan dimulai?",
        "Anda dari mana?",
        "Di mana kolam renang?",
        "Berapa harganya?",
        "Terima kasih",
        "Apakah ada kolam renang?",
        "Saya mau ke sana",
    ],
}


@pytest.mark.parametrize(("language", "text"), [(language, text) for language, texts in OPEN.items() for text in texts])
def test_more_must_come(language: str, text: str) -> None:
    assert unfinished(text, language)


@pytest.mark.parametrize(("language", "text"), [(language, text) for language, texts in WHOLE.items() for text in texts])
def test_it_may_be_all(language: str, text: str) -> None:
    assert not unfinished(text, language)


def test_of_an_unknown_language_only_marks_tell() -> None:
    assert not unfinished("the", "ko")
    assert unfinished("안녕하세요,", "ko")


@given(st.text(max_size=200), st.sampled_from(["en", "zh", "id", "xx"]))
def test_any_text_has_an_answer(text: str, language: str) -> None:
    assert unfinished(text, language) in (True, False)
    assert not unfinished(text + " breakfast included", "en")
