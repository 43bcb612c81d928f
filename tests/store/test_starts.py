"""The number of a start only grows, whatever happens to the file that keeps it."""

import datetime
from pathlib import Path

import pytest

from agent.clock import FLOOR
from agent.sim.clock import SimulatedClock
from agent.store.starts import STARTS_FILE, counted

SINCE_1970 = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def test_it_grows_by_one_within_a_second_and_with_the_clock_else(tmp_path: Path) -> None:
    clock = SimulatedClock()
    first = counted(tmp_path, clock)
    assert first == (304 * 24 * 3600)  # from January to the clock's November
    assert counted(tmp_path, clock) == first + 1
    clock.advance(3600)
    assert counted(tmp_path, clock) == first + 3600


def test_a_robot_without_a_clock_counts_on(tmp_path: Path) -> None:
    first = counted(tmp_path, SimulatedClock())
    asleep = SimulatedClock(start=SINCE_1970)
    assert [counted(tmp_path, asleep) for _ in range(3)] == [first + 1, first + 2, first + 3]


@pytest.mark.parametrize("left", [b"", b"-5", b"12x", b"\xff\xfe", b"9" * 16, b"1e9", b" 7", "٣".encode(), None])
def test_a_damaged_or_lost_file_does_not_take_it_back(tmp_path: Path, left: bytes | None) -> None:
    clock = SimulatedClock()
    before = max(counted(tmp_path, clock) for _ in range(5))
    path = tmp_path / STARTS_FILE
    path.unlink()
    if left is not None:
        path.write_bytes(left)
    clock.advance(60)
    assert counted(tmp_path, clock) > before
    assert counted(tmp_path, clock) > before + 1


def test_without_file_and_clock_it_still_starts(tmp_path: Path) -> None:
    asleep = SimulatedClock(start=SINCE_1970)
    assert [counted(tmp_path, asleep) for _ in range(2)] == [1, 2]


def test_a_disk_that_takes_nothing_does_not_stop_a_start(tmp_path: Path) -> None:
    clock = SimulatedClock(start=FLOOR + datetime.timedelta(days=1))
    gone = tmp_path / "nothing here"
    first = counted(gone, clock)
    clock.advance(2)
    assert counted(gone, clock) > first


def test_a_folder_in_its_place_is_as_good_as_nothing(tmp_path: Path) -> None:
    (tmp_path / STARTS_FILE).mkdir()
    assert counted(tmp_path, SimulatedClock()) > 0
