"""How word errors are counted."""

import pytest

from agent.bench.speech import errors
from agent.processes import own, pss_mb


@pytest.mark.parametrize(
    ("said", "heard", "rate"),
    [
        ("and mister john dashwood", "And Mr. John Dashwood.", 0),
        ("rather cold hearted", "rather cold-hearted,", 0),
        ("a noise maker came", "A noisemaker came", 0),
        ("the best of times", "the worst of times", 0.25),
        ("one two three four", "one two three", 0.25),
    ],
)
def test_marks_compounds_and_titles_are_no_errors(said: str, heard: str, rate: float) -> None:
    assert errors([said], [heard]) == rate


def test_memory_is_measured() -> None:
    assert pss_mb([own()]) > 10
