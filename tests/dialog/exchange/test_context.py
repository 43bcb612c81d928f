"""What of a conversation the model is shown."""

from hypothesis import given
from hypothesis import strategies as st

from agent.dialog.exchange.context import MESSAGE_TOKENS, fit
from agent.engines.scripted import words
from agent.values import Message

KIND = (Message("system", "be kind"),)

WORDS = st.lists(st.sampled_from(["where", "is", "the", "pool"]), max_size=60).map(" ".join)


def test_everything_that_fits_is_shown() -> None:
    history = (Message("user", "hello"), Message("assistant", "good day"))
    messages, note = fit(KIND, history, "where is the pool", 200, words)
    assert [message.text for message in messages] == ["be kind", "hello", "good day", "where is the pool"]
    assert note == ""


def test_words_too_long_keep_their_end_and_say_so() -> None:
    messages, note = fit(KIND, (), " ".join(str(number) for number in range(100)), 2 + 2 * MESSAGE_TOKENS + 10, words)
    assert messages[-1].text == "90 91 92 93 94 95 96 97 98 99"
    assert note == "the question is too long for the model: its first 90 of 100 words were left out"


def test_old_exchanges_go_first_and_no_answer_stays_without_its_question() -> None:
    history = tuple(Message("user" if index % 2 == 0 else "assistant", f"message {index}") for index in range(10))
    messages, _ = fit(KIND, history, "and now", 4 + 2 * MESSAGE_TOKENS + 3 * (2 + MESSAGE_TOKENS), words)
    assert [message.text for message in messages[1:]] == ["message 8", "message 9", "and now"]


@given(st.lists(WORDS, max_size=8), WORDS, st.integers(40, 200))
def test_it_always_fits(texts: list[str], asked: str, room: int) -> None:
    history = tuple(Message("user" if index % 2 == 0 else "assistant", text) for index, text in enumerate(texts))
    messages, _ = fit(KIND, history, asked, room, words)
    assert sum(words(message.text) + MESSAGE_TOKENS for message in messages) <= room
    assert (messages[0].role, messages[-1].role) == ("system", "user")
