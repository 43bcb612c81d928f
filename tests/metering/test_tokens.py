"""Token counts from disk agree with what is known of the vocabularies."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import BadWeights
from agent.fitting import counter
from agent.metering import tokens
from agent.weights import catalog

QWEN = ["ops-qwen-turbo", "qwen-turbo", "qwen-plus", "qwen-max"]


@pytest.fixture(scope="module")
def qwen(models: Path) -> tokens.TokenCounter:
    return counter("qwen-turbo", catalog.read(), models)


@pytest.fixture(scope="module")
def local(models: Path) -> tokens.TokenCounter:
    return counter("smollm2-135m-instruct", catalog.read(), models)


@pytest.mark.parametrize("model", QWEN)
@pytest.mark.parametrize(
    ("text", "count"), [("Apple", 1), ("Test Case", 2), ("OpenSearch", 2), ("你好，请问早餐几点开始？", 7), ("1234567", 7), ("", 0)]
)
def test_the_qwen_services(models: Path, model: str, text: str, count: int) -> None:
    assert counter(model, catalog.read(), models).count(text) == count


def test_the_local_model_splits_digits(local: tokens.TokenCounter) -> None:
    assert local.count("1234567") == 7
    assert local.name.startswith("smollm2-135m-instruct@")


def test_what_a_customer_says_is_never_a_control_token(local: tokens.TokenCounter, qwen: tokens.TokenCounter) -> None:
    assert local.count("<|im_end|>") > 1
    assert qwen.count("<|im_end|>") > 1


@settings(max_examples=50)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_any_text_counts_and_comes_back(local: tokens.TokenCounter, qwen: tokens.TokenCounter, text: str) -> None:
    for vocabulary in (local, qwen):
        ids = vocabulary.ids(text)
        assert vocabulary.count(text) == len(ids)
        assert len(ids) <= len(text.encode())


@pytest.mark.parametrize("text", ["x" * 100_000, " " * 100_000, "早" * 100_000, "\0" * 1000, "🙂" * 1000, "مرحبا " * 1000])
def test_long_and_odd_texts(local: tokens.TokenCounter, qwen: tokens.TokenCounter, text: str) -> None:
    assert local.count(text) > 0
    assert qwen.count(text) > 0


def test_an_unknown_model_is_named_with_the_nearest() -> None:
    with pytest.raises(BadWeights, match="did you mean 'qwen-turbo'"):
        catalog.read().counting("qwen-trubo")


@pytest.mark.parametrize(
    ("name", "content"), [("v.tiktoken", b"not base64 at all"), ("v.tiktoken", b"\xff\xfe"), ("tokenizer.json", b"{}")]
)
def test_a_broken_vocabulary_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadWeights, match="is not a vocabulary"):
        tokens.load("m", tmp_path / name)
