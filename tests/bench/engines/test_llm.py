"""What the comparison of language models reports, and refuses; the speeds themselves are the bench's to measure."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.bench.engines import llm, thinking
from agent.errors import BadInput


def test_a_folder_without_a_model_of_the_reference_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"holds no genai_config\.json; name a folder that"):
        llm.measure(tmp_path, 1, tmp_path)


def test_a_process_that_ends_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInput, match=r"the process that runs ours ended .exit 1."):
        llm.measure(tmp_path, 1)
    assert "FileNotFoundError" in capfd.readouterr().err


def test_the_ratio_is_the_median_of_pairs() -> None:
    by = {"ours": [10.0, 30.0, 10.0], "genai": [10.0, 10.0, 20.0]}
    assert llm._told(by) == {"ours_tokens_per_s": 10.0, "genai_tokens_per_s": 10.0, "ratio": 1.0}
    assert llm._told({"ours": [2.0]}) == {"ours_tokens_per_s": 2.0}


def test_the_first_token_is_timed_apart_from_the_others() -> None:
    def ask(text: str, tokens: int) -> Iterator[int]:
        yield len(text.split())
        yield from range(tokens)

    given, first, rest, others = thinking.timed(ask, "go on with it", 5)
    assert (given, others) == (4, 4)
    assert first >= 0 <= rest


def test_our_engine_is_asked_afresh_each_time(models: Path) -> None:
    ask = thinking.ours(models / "smollm2-135m-instruct", 1)
    for _ in range(2):
        given, *made = ask("Tell me a story about the sea.", 6)
        assert given > 10
        assert made == [1, 2, 3, 4, 5, 6]
