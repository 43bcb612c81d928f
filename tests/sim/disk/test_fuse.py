"""The recorded disk is a file system like any other, its trace is what was done, and it leaves nothing mounted."""

import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import BadInput, MissingPart
from agent.files import write_durably
from agent.sim.disk.fuse import DiskGone, RecordedDisk, recorded
from agent.sim.disk.trace import Create, MakeFolder, Mark, RemoveFolder, Rename, Sync, SyncFolder, Truncate, Unlink, Write


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[RecordedDisk]:
    (tmp_path / "disk").mkdir()
    with recorded(tmp_path / "disk") as mounted:
        yield mounted


def run(code: str, *words: str) -> str:
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True).stdout.strip()


def test_a_file_written_durably_leaves_exactly_its_steps(disk: RecordedDisk) -> None:
    write_durably(disk.mount_point / "mode", b"v1")
    disk.mark("written")
    assert disk.trace().ops == (
        Create("mode.part"),
        Write("mode.part", 0, b"v1"),
        Sync("mode.part"),
        Rename("mode.part", "mode"),
        SyncFolder(""),
        Mark("written"),
    )


def test_what_is_written_reads_back_and_is_on_the_trace(disk: RecordedDisk) -> None:
    root = disk.mount_point
    (root / "keys/words").mkdir(parents=True, mode=0o700)
    path = root / "keys/words/one"
    path.write_bytes(b"x" * 300_000)
    with path.open("r+b") as file:
        file.seek(299_999)
        file.write(b"yz")
    os.truncate(path, 300_002)
    assert path.read_bytes() == b"x" * 299_999 + b"yz\0"
    assert os.listdir(root / "keys/words") == ["one"]
    path.unlink()
    (root / "keys/words").rmdir()
    ops = disk.trace().ops
    assert [op for op in ops if not isinstance(op, Write)] == [
        MakeFolder("keys"),
        MakeFolder("keys/words"),
        Create("keys/words/one"),
        Truncate("keys/words/one", 300_002),
        Unlink("keys/words/one"),
        RemoveFolder("keys/words"),
    ]
    assert b"".join(op.content for op in ops if isinstance(op, Write)) == b"x" * 300_000 + b"yz"


def test_opening_for_writing_empties_what_was_there(disk: RecordedDisk) -> None:
    path = disk.mount_point / "a"
    path.write_bytes(b"long")
    path.write_bytes(b"s")
    assert path.read_bytes() == b"s"
    assert disk.trace().ops == (Create("a"), Write("a", 0, b"long"), Truncate("a", 0), Write("a", 0, b"s"))


def test_a_file_is_known_by_its_number_whatever_its_name(disk: RecordedDisk) -> None:
    numbers = []
    for name in ("a", "b", "c"):
        (disk.mount_point / name).touch()
        numbers.append((disk.mount_point / name).stat().st_ino)
    (disk.mount_point / "a").rename(disk.mount_point / "b")
    assert {entry.name: entry.inode() for entry in os.scandir(disk.mount_point)} == {"b": numbers[0], "c": numbers[2]}
    assert (disk.mount_point / "b").stat().st_ino == numbers[0]


def test_owner_rights_and_times_are_kept(disk: RecordedDisk) -> None:
    path = disk.mount_point / "a"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    (disk.mount_point / "f").mkdir(mode=0o700)
    assert (path.stat().st_mode, path.stat().st_uid) == (0o100600, os.getuid())
    assert (disk.mount_point / "f").stat().st_mode == 0o40700
    path.chmod(0o640)
    os.utime(path, ns=(10**18, 10**18 + 7))
    assert (path.stat().st_mode, path.stat().st_mtime_ns) == (0o100640, 10**18 + 7)


def test_a_mark_is_in_no_listing_and_every_line_is_one(disk: RecordedDisk) -> None:
    run("open(__import__('sys').argv[1] + '/.mark', 'a').write('from another\\nprocess\\n')", str(disk.mount_point))
    disk.mark("from this")
    assert os.listdir(disk.mount_point) == []
    assert disk.trace().ops == (Mark("from another"), Mark("process"), Mark("from this"))
    assert disk.count() == 3


def test_an_open_file_lives_on_without_its_name_and_off_the_trace(disk: RecordedDisk) -> None:
    path = disk.mount_point / "a"
    with path.open("w+b", buffering=0) as file:
        path.unlink()
        file.write(b"gone")
        os.fsync(file.fileno())
        file.seek(0)
        assert (file.read(), os.listdir(disk.mount_point)) == (b"gone", [])
    assert disk.trace().ops == (Create("a"), Unlink("a"))


def test_an_open_file_keeps_its_content_when_its_name_goes_to_another(disk: RecordedDisk) -> None:
    write_durably(disk.mount_point / "a", b"old")
    with (disk.mount_point / "a").open("rb") as file:
        write_durably(disk.mount_point / "a", b"new")
        assert (file.read(), (disk.mount_point / "a").read_bytes()) == (b"old", b"new")


def test_what_the_model_does_not_know_is_refused(disk: RecordedDisk) -> None:
    root = disk.mount_point
    (root / "f").mkdir()
    (root / "a").touch()
    with pytest.raises(OSError, match="cross-device"):
        (root / "a").rename(root / "f/a")
    with pytest.raises(OSError, match="not permitted"):
        (root / "f").rename(root / "g")
    (root / "f/b").touch()
    with pytest.raises(OSError, match="not empty"):
        (root / "f").rmdir()


@pytest.mark.parametrize("call", ["flock", "lockf"])
def test_two_processes_see_each_others_locks(disk: RecordedDisk, call: str) -> None:
    path = disk.mount_point / "lock"
    other = f"""
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.{call}(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        print("mine")
    except OSError:
        print("taken")
"""
    with path.open("w+b") as file:
        getattr(fcntl, call)(file, fcntl.LOCK_EX)
        assert run(other, str(path)) == "taken"
    assert run(other, str(path)) == "mine"


def test_a_reader_in_another_process_shares_the_index_of_the_wal(disk: RecordedDisk) -> None:
    path = disk.mount_point / "ledger.db"
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("CREATE TABLE t(a)")
    reading = """
import sqlite3, sys
reader = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
for line in sys.stdin:
    print(*reader.execute("SELECT count(*) FROM t").fetchone(), flush=True)
"""
    words = [sys.executable, "-c", reading, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        for count in range(20):
            reader.stdin.write("go\n")
            reader.stdin.flush()
            assert reader.stdout.readline() == f"{count}\n"
            writer.execute("INSERT INTO t VALUES (1)")
        reader.stdin.close()
    writer.close()
    assert not any("-shm" in repr(op) for op in disk.trace().ops)


def test_sqlite_syncs_the_folder_of_a_new_wal_before_its_first_commit_returns(disk: RecordedDisk) -> None:
    connection = sqlite3.connect(disk.mount_point / "ledger.db", isolation_level=None)
    for words in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL"):
        connection.execute(words)
    disk.mark("before")
    connection.execute("CREATE TABLE t(a)")
    disk.mark("after")
    connection.close()
    trace = disk.trace()
    marks, ops = trace.marks(), list(trace.ops)
    assert ops.index(Create("ledger.db-wal")) < ops.index(SyncFolder(""), ops.index(Create("ledger.db-wal"))) < marks["after"]
    assert Sync("ledger.db-wal") in ops[marks["before"] : marks["after"]]


def test_nothing_stays_mounted_after_a_failure_with_files_open(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()

    def fail() -> None:
        with recorded(root):
            opened.append(os.open(root / "a", os.O_WRONLY | os.O_CREAT))
            raise ZeroDivisionError

    opened: list[int] = []
    with pytest.raises(ZeroDivisionError):
        fail()
    assert (os.path.ismount(root), os.listdir(root)) == (False, [])
    for call in (lambda: os.write(opened[0], b"x"), lambda: os.close(opened[0])):
        with pytest.raises(OSError, match=r"abort|not connected"):
            call()


def test_a_disk_whose_process_died_says_so_and_is_unmounted(tmp_path: Path) -> None:
    root = tmp_path / "disk"
    root.mkdir()

    def lose() -> None:
        with recorded(root) as disk:
            (root / "a").touch()
            os.kill(process_of(root), signal.SIGKILL)
            disk.trace()

    with pytest.raises(DiskGone, match="mount a new one"):
        lose()
    assert (os.path.ismount(root), os.listdir(root)) == (False, [])


def process_of(root: Path) -> int:
    """The child of this process that serves the mount."""
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        if str(root).encode() in status.read_bytes().split(b"\0"):
            return int(status.parent.name)
    raise AssertionError(root)


def test_the_trace_can_be_read_after_the_end(tmp_path: Path) -> None:
    with recorded(tmp_path) as disk:
        (tmp_path / "a").touch()
    assert disk.trace().ops == (Create("a"),)


def test_a_machine_without_fuse_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingPart, match="apt-get install fuse3"), recorded(tmp_path):
        pass


def test_a_mount_point_that_is_no_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(BadInput, match="empty folder"), recorded(place):
            pass
