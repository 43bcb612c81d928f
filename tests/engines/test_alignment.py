"""Which phonemes say which word: from real phonemes of espeak, written down here."""

import pytest

from agent.engines.alignment import Timed, align, timed, told

CASES = {
    "each word its group": ("Good morning, sir.", "ɡˈʊd mˈɔːɹnɪŋ, sˌɜː.", ["Good |ɡˈʊd", "morning, |mˈɔːɹnɪŋ,", "sir.|sˌɜː."]),
    "words joined": ("ten in the hotel", "tˈɛn ɪnðə hoʊtˈɛl", ["ten |tˈɛn", "in |ɪnðə", "the |ɪnðə", "hotel|hoʊtˈɛl"]),
    "a number spread": (
        "It costs $20, sir.",
        "ɪt kˈɔsts dˈɑːlɚ twˈɛnti, sˌɜː.",
        ["It |ɪt", "costs |kˈɔsts", "$20, |dˈɑːlɚ twˈɛnti,", "sir.|sˌɜː."],
    ),
    "both": (
        "room 1204, one of the best.",
        "ɹˈuːm wˈʌn θˈaʊzənd tˈuːhˈʌndɹɪd fˈɔːɹ, wˈʌn ʌvðə bˈɛst.",
        ["room |ɹˈuːm", "1204, |wˈʌn θˈaʊzənd tˈuːhˈʌndɹɪd fˈɔːɹ,", "one |wˈʌn", "of |ʌvðə", "the |ʌvðə", "best.|bˈɛst."],
    ),
    "what has no letters goes with the word before": ("– yes – no", "jˈɛs; nˈoʊ", ["– yes – |jˈɛs;", "no|nˈoʊ"]),
    "space around": ("  Good  morning ", "ɡˈʊd  mˈɔːɹnɪŋ  ", ["  Good  |ɡˈʊd", "morning |mˈɔːɹnɪŋ"]),
    "no pairing possible": ("你好你好", "abcdefgh", ["你|ab", "好|cd", "你|ef", "好|gh"]),
}


@pytest.mark.parametrize(("text", "phonemes", "pairs"), CASES.values(), ids=CASES)
def test_words_find_their_phonemes(text: str, phonemes: str, pairs: list[str]) -> None:
    words = align(text, list(phonemes))
    starts = [0, *(word.until for word in words)]
    found = [f"{text[since : word.until]}|{phonemes[word.first : word.last]}" for since, word in zip(starts, words, strict=False)]
    assert found == pairs


@pytest.mark.parametrize(("text", "phonemes"), [("", "a"), ("…!", "a"), ("word", "")])
def test_nothing_to_pair(text: str, phonemes: str) -> None:
    assert align(text, list(phonemes)) == []


def test_240_characters_of_single_letters_are_paired_at_once() -> None:
    assert len(align("a " * 120, list("eɪ " * 120))) == 120


def test_the_words_of_the_second_sentence_are_timed_by_its_own_phonemes() -> None:
    words = align("Hi. Go on.", list("haɪ. ɡoʊ ɑn. "))
    assert timed(words, 0, [0, 2, 4, 6, 8]) == [Timed(4, 0, 8)]
    assert timed(words, 5, [0, 1, 2, 3, 4, 5, 6, 9]) == [Timed(7, 0, 3), Timed(10, 4, 9)]


def test_a_piece_has_the_words_that_begin_in_it_and_marks_where_each_has_been_said() -> None:
    words = [Timed(5, 0, 18), Timed(10, 20, 55), Timed(14, 60, 90)]
    assert told(words, 0, 25, 0, hop=10) == (10, ((180, 5), (250, 10)))  # the second goes on in the next piece
    assert told(words, 25, 58, 10, hop=10) == (10, ())
    assert told(words, 58, 90, 10, hop=10) == (14, ((320, 4),))
