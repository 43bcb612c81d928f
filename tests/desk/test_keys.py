"""The operator's key and its numbers: made once, never shared, never used twice."""

import datetime
import subprocess
import sys
from pathlib import Path

import pytest

from agent.contract.canonical import INTEGER_MAX
from agent.desk import keys
from agent.errors import BadInput
from agent.sim.clock import SimulatedClock


@pytest.fixture
def path(tmp_path: Path, clock: SimulatedClock) -> Path:
    path = tmp_path / "config/voxmeter/operator.key"
    keys.make(path, clock)
    return path


def test_it_is_made_once_for_its_owner_alone(path: Path, clock: SimulatedClock) -> None:
    held = keys.load(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    with pytest.raises(BadInput, match="there already"):
        keys.make(path, clock)
    assert keys.load(path) == held


def test_where_there_is_none_it_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="voxmeter fleet key"):
        keys.load(tmp_path / "operator.key")


def test_one_that_others_can_read_is_refused(path: Path) -> None:
    path.chmod(0o644)
    with pytest.raises(BadInput, match="open to others"):
        keys.load(path)


@pytest.mark.parametrize("content", [b"", b"x", b"\xff\xfe", b"AAAA id\n", b"A" * 43 + b" " + b"0" * 32 + b"\n"])
def test_a_damaged_one_is_refused(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(BadInput, match="no operator's key"):
        keys.load(path)


def test_numbers_begin_at_the_present_time_and_only_grow(path: Path, clock: SimulatedClock) -> None:
    first = keys.take_numbers(path, 3, clock)
    assert first[0] > clock.utc().timestamp() * 1000  # in milliseconds it would be enough
    assert list(first) == [first[0], first[0] + 1, first[0] + 2]
    clock.step_wall(-datetime.timedelta(days=1))
    assert keys.take_numbers(path, 1, clock)[0] == first[-1] + 1
    clock.step_wall(datetime.timedelta(days=2))
    assert keys.take_numbers(path, 1, clock)[0] > first[-1] + 1000


def test_numbers_are_taken_before_they_are_used(path: Path, clock: SimulatedClock) -> None:
    """A desk that dies with numbers in its hand has used them up."""
    script = "import sys, os; from pathlib import Path; from agent.desk import keys; from agent.clock import SystemClock\n"
    script += "print(keys.take_numbers(Path(sys.argv[1]), 10, SystemClock())[-1], flush=True); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, check=False)
    clock.believed = "none"
    assert keys.take_numbers(path, 1, clock)[0] == int(done.stdout) + 1


def test_a_clock_that_cannot_be_trusted_counts_on_from_the_last(path: Path, clock: SimulatedClock) -> None:
    clock.believed = "floor"
    assert keys.take_numbers(path, 2, clock) == range(1, 3)
    assert keys.take_numbers(path, 1, clock) == range(3, 4)


def test_a_key_that_was_copied_without_its_numbers_needs_a_clock(path: Path, clock: SimulatedClock) -> None:
    path.with_name("operator.key.seq").unlink()
    clock.believed = "floor"
    with pytest.raises(BadInput, match="synchronise the clock"):
        keys.take_numbers(path, 1, clock)
    clock.believed = "ntp"
    assert keys.take_numbers(path, 1, clock)


@pytest.mark.parametrize("content", ["", "x", "-1", "1.5", str(INTEGER_MAX + 1)])
def test_a_damaged_counter_is_told(content: str, path: Path, clock: SimulatedClock) -> None:
    path.with_name("operator.key.seq").write_text(content)
    with pytest.raises(BadInput, match="holds no number"):
        keys.take_numbers(path, 1, clock)


def test_no_number_beyond_what_json_holds(path: Path, clock: SimulatedClock) -> None:
    path.with_name("operator.key.seq").write_text(str(INTEGER_MAX - 1))
    with pytest.raises(BadInput, match="no number is left"):
        keys.take_numbers(path, 2, clock)


def test_desks_of_one_machine_take_turns(path: Path) -> None:
    script = "import sys; from pathlib import Path; from agent.desk import keys; from agent.clock import SystemClock\n"
    script += "for _ in range(20): print(*keys.take_numbers(Path(sys.argv[1]), 7, SystemClock()))"
    desks = [subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE) for _ in range(3)]
    numbers = [number for desk in desks for number in desk.communicate()[0].split()]
    assert len(numbers) == len(set(numbers)) == 3 * 20 * 7
