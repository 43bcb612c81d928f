"""A trace on a file is the trace, and any other file is refused in one line."""

import pickle
from pathlib import Path

import pytest

from agent.errors import BadInput
from agent.sim.disk.trace import Create, Mark, Sync, Trace, Write


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    trace = Trace((Create("a"), Write("a", 5, b"x\0y"), Sync("a"), Mark("one"), Mark("two"), Mark("one")))
    trace.save(tmp_path / "t")
    assert Trace.load(tmp_path / "t") == trace
    assert trace.marks() == {"one": 3, "two": 4}


@pytest.mark.parametrize("content", [b"", b"nonsense", pickle.dumps([Mark("in a list")]), pickle.dumps((1, 2))])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(BadInput, match="not a trace; name a file"):
        Trace.load(tmp_path / "t")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        Trace.load(tmp_path / "t")
