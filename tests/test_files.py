"""A private file is read as far as asked, and only if nobody else can use it."""

import os
from pathlib import Path

import pytest

from agent.errors import BadInput
from agent.files import read_beginning, read_private, write_durably


def test_what_is_written_durably_is_private_and_replaced_whole(tmp_path: Path) -> None:
    for content in (b"a longer one", b"short"):
        write_durably(tmp_path / "key", content)
        assert read_beginning(tmp_path / "key", 100) == (content, 0o600)
        assert read_private(tmp_path / "key", 100) == content
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("there", ["link", "hard link", "file"])
def test_what_stands_in_the_place_of_the_part_is_never_written_to(there: str, tmp_path: Path) -> None:
    elsewhere, part = tmp_path / "elsewhere", tmp_path / "key.part"
    elsewhere.write_bytes(b"theirs")
    if there == "link":
        part.symlink_to(elsewhere)
    elif there == "hard link":
        part.hardlink_to(elsewhere)
    else:
        part.write_bytes(b"left by a power cut")
    write_durably(tmp_path / "key", b"ours")
    assert (elsewhere.read_bytes(), read_private(tmp_path / "key", 100)) == (b"theirs", b"ours")
    assert not (tmp_path / "key").is_symlink()


def test_no_more_is_read_than_asked_for(tmp_path: Path) -> None:
    write_durably(tmp_path / "key", b"12345")
    assert read_private(tmp_path / "key", 3) == b"123"


def test_where_there_is_no_file_there_is_nothing(tmp_path: Path) -> None:
    assert read_private(tmp_path / "key", 3) is None
    assert read_beginning(tmp_path / "key", 3) is None


@pytest.mark.parametrize("bit", [0o040, 0o020, 0o010, 0o004, 0o002, 0o001])
def test_a_file_that_others_can_use_is_refused(tmp_path: Path, bit: int) -> None:
    write_durably(tmp_path / "key", b"secret")
    (tmp_path / "key").chmod(0o600 | bit)
    with pytest.raises(BadInput, match=rf"key is open to others \(mode {0o600 | bit:04o}\); chmod 600 it, and replace"):
        read_private(tmp_path / "key", 100)
    with pytest.raises(BadInput, match=r"open to others .*; ask who it was"):
        read_private(tmp_path / "key", 100, "ask who it was")


def test_a_pipe_makes_nobody_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key", 0o600)
    assert read_private(tmp_path / "key", 100) == b""


def test_a_folder_is_told_as_the_system_tells_it(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        read_private(tmp_path, 100)
