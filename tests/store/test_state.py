"""Whose a state folder is: one process's; and its lock leads nowhere else."""

from pathlib import Path

import pytest

from agent.errors import LedgerBusy
from agent.store.state import LOCK_FILE, Lock


def test_the_second_is_told_whose_the_folder_is(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    with pytest.raises(LedgerBusy, match=r"belongs to process \d+"):
        Lock(tmp_path)
    lock.release()
    Lock(tmp_path).release()


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"theirs")
    (tmp_path / LOCK_FILE).symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic links"):
        Lock(tmp_path)
    assert elsewhere.read_bytes() == b"theirs"
