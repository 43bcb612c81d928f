"""Text is cut early for the voice, and none of it is lost."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dialog.wording.sentences import Sentences


def said(deltas: list[str]) -> list[str]:
    sentences = Sentences()
    return [one for delta in deltas for one in sentences.add(delta)] + sentences.finish()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Good morning, dear guest, welcome. How are you?", ["Good morning,", "dear guest, welcome.", "How are you?"]),
        ("Yes, of course it is. Enjoy!", ["Yes, of course it is.", "Enjoy!"]),
        ("Breakfast is from 6:30 to 10:00 and costs 1,000 yuan.", ["Breakfast is from 6:30 to 10:00 and costs 1,000 yuan."]),
        ("您好，早餐从早上六点半开始供应，欢迎光临。祝您愉快！", ["您好，早餐从早上六点半开始供应，", "欢迎光临。", "祝您愉快！"]),
        ("Selamat pagi, sarapan mulai pukul 7:30. Terima kasih.", ["Selamat pagi,", "sarapan mulai pukul 7:30.", "Terima kasih."]),
        ("", []),
        ("   ", []),
        ("no end", ["no end"]),
    ],
)
def test_first_clause_then_sentences(text: str, expected: list[str]) -> None:
    assert said(list(text)) == expected


@given(st.text(st.sampled_from("abcdeAB ,.!?;:1，。"), max_size=120), st.integers(1, 7))
def test_every_letter_is_said_once_in_order_however_it_arrives(text: str, size: int) -> None:
    deltas = [text[at : at + size] for at in range(0, len(text), size)]
    assert re.sub(r"\s", "", "".join(said(deltas))) == re.sub(r"\s", "", text)
