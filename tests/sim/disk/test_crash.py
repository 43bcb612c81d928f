"""What a power cut leaves: all that was synced, any part of the rest, and nothing that was never written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import seeded
from agent.sim.disk.crash import MODES, SECTOR_BYTES, Image, Mode, image, images, images_at, write
from agent.sim.disk.replay import Replay
from agent.sim.disk.trace import (
    Create,
    MakeFolder,
    Mark,
    Op,
    RemoveFolder,
    Rename,
    Sync,
    SyncFolder,
    Trace,
    Truncate,
    Unlink,
    Write,
    folder_of,
)

NAMES = ["a", "a.part", "b-wal", "f/a", "f/b", "f/g/a"]
FOLDERS = ["", "f", "f/g"]
OLD, NEW = b"o" * 2000, b"n" * 3000


def naive(ops: list[Op]) -> Image:
    """The files after all ops, in the plainest way."""
    files: Image = {}
    for op in ops:
        match op:
            case Create(path):
                files[path] = b""
            case Write(path, offset, content):
                held = files[path].ljust(offset, b"\0")
                files[path] = held[:offset] + content + held[offset + len(content) :]
            case Truncate(path, size):
                files[path] = files[path][:size].ljust(size, b"\0")
            case Rename(old, new):
                files[new] = files.pop(old)
            case Unlink(path):
                del files[path]
    return files


@st.composite
def traces(draw: st.DrawFn) -> list[Op]:
    """What a process could have done: every op fits what is there."""
    ops: list[Op] = []
    folders = {""}
    draws: dict[str, Callable[[str], Op]] = {
        "write": lambda path: Write(path, draw(st.integers(0, 1500)), bytes([draw(st.integers(1, 255))]) * draw(st.integers(1, 1500))),
        "truncate": lambda path: Truncate(path, draw(st.integers(0, 2500))),
        "sync": Sync,
        "unlink": Unlink,
        "rename": lambda path: Rename(path, draw(st.sampled_from([name for name in NAMES if folder_of(name) == folder_of(path)]))),
    }
    for _ in range(draw(st.integers(0, 40))):
        files, path, folder = naive(ops), draw(st.sampled_from(NAMES)), draw(st.sampled_from(FOLDERS))
        kind = draw(st.sampled_from(["write", "write", "write", "truncate", "sync", "unlink", "rename", "folder", "sync folder"]))
        if kind == "sync folder" and folder in folders:
            ops.append(SyncFolder(folder))
        elif kind == "folder" and folder not in folders and folder_of(folder) in folders:
            ops.append(MakeFolder(folder))
            folders.add(folder)
        elif kind == "folder" and folder in folders and not any(name.startswith(f"{folder}/") for name in {*files, *folders}) and folder:
            ops.append(RemoveFolder(folder))
            folders.remove(folder)
        elif kind in draws and path in files:
            op = draws[kind](path)
            ops += [] if isinstance(op, Rename) and op.old == op.new else [op]
        elif kind in draws and folder_of(path) in folders:
            ops.append(Create(path))
    return ops


def syncs_of_all(ops: list[Op]) -> list[Op]:
    made = {op.folder for op in ops if isinstance(op, MakeFolder)}
    gone: set[str] = set()
    for op in ops:
        if isinstance(op, MakeFolder | RemoveFolder):
            (gone.discard if isinstance(op, MakeFolder) else gone.add)(op.folder)
    return [*map(Sync, naive(ops)), *map(SyncFolder, sorted(made - gone)), SyncFolder("")]


@given(traces(), st.integers(0))
def test_everything_is_the_replay_of_all_ops_at_every_cut(ops: list[Op], seed: int) -> None:
    replay = Replay(Trace(tuple(ops)))
    for k in range(len(ops)):
        replay.advance(k)
        assert image(replay, "everything", seeded(seed)) == naive(ops[: k + 1])


@given(traces(), st.integers(0))
def test_what_was_synced_with_its_names_is_in_every_honest_image(ops: list[Op], seed: int) -> None:
    ops = ops + syncs_of_all(ops)
    for left in images(Trace(tuple(ops)), len(ops) - 1, seeded(seed), 10):
        assert left == naive(ops)


@given(traces(), st.integers(0), st.booleans())
def test_images_hold_only_bytes_that_were_written_in_files_that_were_named(ops: list[Op], seed: int, lying: bool) -> None:
    written = {byte for op in ops if isinstance(op, Write) for byte in op.content} | {0}
    named = {op.path for op in ops if isinstance(op, Create)} | {op.new for op in ops if isinstance(op, Rename)}
    for left in images(Trace(tuple(ops)), len(ops) - 1, seeded(seed), 10, lying):
        assert set(left) <= named
        assert all(set(content) <= written for content in left.values())


@given(traces(), st.integers(0))
def test_what_was_synced_stays_whatever_happens_to_other_files(ops: list[Op], seed: int) -> None:
    kept: list[Op] = [Create("kept"), Write("kept", 0, OLD), Sync("kept"), SyncFolder("")]
    for left in images(Trace((*kept, *ops)), len(kept) + len(ops) - 1, seeded(seed), 10):
        assert left["kept"] == OLD


@given(traces(), st.integers(0))
def test_a_disk_that_lies_may_go_back_to_earlier_syncs_and_nothing_else(ops: list[Op], seed: int) -> None:
    start: list[Op] = [Create("kept"), SyncFolder("")]
    versions = [b""]
    for place in range(5):
        start += [Write("kept", 0, bytes([place + 1]) * (700 + place)), Sync("kept")]
        versions.append(naive(start)["kept"])
    trace = Trace((*start, *ops))
    replay, chance = Replay(trace), seeded(seed)
    replay.advance(len(trace) - 1)
    for _ in range(10):
        assert image(replay, "synced", chance, lying=True).get("kept", b"") in versions


def test_the_synced_image_has_nothing_that_was_not_synced() -> None:
    replay = Replay(Trace((Create("a"), Write("a", 0, OLD), Sync("a"), SyncFolder(""), Write("a", 0, NEW), Create("b"), Sync("b"))))
    replay.advance(6)
    assert image(replay, "synced", seeded(1)) == {"a": OLD}


def test_a_lying_disk_rolls_files_back_to_different_moments() -> None:
    ops: list[Op] = [Create("a"), Create("b"), SyncFolder("")]
    for place in range(20):
        ops += [Write(name, place, b"x") for name in "ab"] + [Sync("a"), Sync("b")]
    left = list(images(Trace(tuple(ops)), len(ops) - 1, seeded(1), 200, lying=True))
    assert any(len(one.get("a", b"")) < 20 for one in left)
    assert any({"a", "b"} <= set(one) and abs(len(one["a"]) - len(one["b"])) > 2 for one in left)
    assert any("a" not in one for one in left)


@given(st.integers(0), st.sampled_from(["synced", "prefix", "random", "torn"]))
def test_every_sector_of_an_unsynced_write_is_old_or_new_and_at_most_one_is_torn(seed: int, mode: Mode) -> None:
    ops = (Create("a"), Write("a", 0, OLD), Sync("a"), SyncFolder(""), Write("a", 100, NEW))
    replay = Replay(Trace(ops))
    replay.advance(4)
    content = image(replay, mode, seeded(seed))["a"]
    old, new = OLD.ljust(3100, b"\0"), naive(list(ops))["a"]
    pieces = [slice(start, start + SECTOR_BYTES) for start in range(0, len(content), SECTOR_BYTES)]
    torn = [at for at in pieces if content[at] not in (old[at][: len(content[at])], new[at][: len(content[at])])]
    assert len(torn) <= 1
    assert len(OLD) <= len(content) <= len(new)


def seen(*ops: Op, count: int = 300) -> list[Image]:
    return list(images(Trace(ops), len(ops) - 1, seeded(7), count))


def test_an_unsynced_write_may_be_lost_kept_torn_and_out_of_order() -> None:
    made = (Create("a"), Write("a", 0, OLD), Sync("a"), SyncFolder(""))
    contents = {left["a"] for left in seen(*made, Write("a", 0, NEW))}
    assert {OLD, NEW} < contents
    assert any(content[:SECTOR_BYTES] == OLD[:SECTOR_BYTES] and content[512:1024] == NEW[:SECTOR_BYTES] for content in contents)
    beginnings = [content.index(b"o") for content in contents if content.startswith(b"n") and b"o" in content]
    assert any(length % SECTOR_BYTES for length in beginnings)


def test_a_name_is_lost_until_its_folder_was_synced_and_a_sync_of_the_file_is_not_enough() -> None:
    made = (Create("a"), Write("a", 0, OLD), Sync("a"))
    assert {left.get("a") for left in seen(*made)} == {None, OLD}
    assert {left.get("a") for left in seen(*made, SyncFolder(""))} == {OLD}
    deep = (MakeFolder("f"), Create("f/a"), Sync("f/a"), SyncFolder("f"))
    assert {left.get("f/a") for left in seen(*deep)} == {None, b""}
    assert {left.get("f/a") for left in seen(*deep, SyncFolder(""))} == {b""}


def test_a_rename_before_the_sync_of_the_content_may_leave_an_empty_file() -> None:
    old = (Create("a"), Write("a", 0, OLD), Sync("a"), SyncFolder(""))
    hasty = (Create("a.part"), Write("a.part", 0, NEW), Rename("a.part", "a"), SyncFolder(""))
    assert b"" in {left["a"] for left in seen(*old, *hasty)}


@pytest.mark.parametrize("k", range(3, 9))
def test_a_file_replaced_in_the_right_order_is_old_or_new_at_every_cut(k: int) -> None:
    old = (Create("a"), Write("a", 0, OLD), Sync("a"), SyncFolder(""))
    replacing = (Create("a.part"), Write("a.part", 0, NEW), Sync("a.part"), Rename("a.part", "a"), SyncFolder(""))
    contents = {left["a"] for left in images(Trace(old + replacing), k, seeded(3), 100)}
    assert contents == {{3: OLD, 8: NEW}.get(k, OLD)} | ({NEW} if k == 7 else set())


def test_names_changed_without_a_sync_are_kept_in_any_part_that_makes_sense() -> None:
    ops = (Create("a"), Create("b"), SyncFolder(""), Rename("a", "c"), Unlink("b"), Create("d"), Rename("d", "e"))
    names = {"".join(sorted(left)) for left in seen(*ops, count=3000)}
    assert names == {x + y for x in ("ab", "a", "bc", "c") for y in ("", "d", "e")}


def test_a_file_has_one_name_whichever_renames_were_kept() -> None:
    ops = (Create("a"), SyncFolder(""), Rename("a", "b"), Rename("b", "c"))
    assert {"".join(sorted(left)) for left in seen(*ops)} == {"a", "b", "c"}


def test_what_was_synced_is_there_though_older_writes_to_another_file_are_lost() -> None:
    made = (Create("a"), Create("b"), SyncFolder(""), Write("b", 0, NEW), Write("a", 0, OLD), Sync("a"), Write("a", 3000, NEW))
    left = seen(*made)
    assert all(one["a"].startswith(OLD) for one in left)
    assert any(one["b"] == b"" for one in left)


def test_names_that_were_synced_are_there_though_older_writes_are_lost() -> None:
    made = (Create("b"), SyncFolder(""), Write("b", 0, NEW), Create("a"), SyncFolder(""), Create("c"))
    assert all("a" in one for one in seen(*made))


def test_a_file_whose_unlink_is_lost_is_there_again() -> None:
    ops = (Create("a"), Write("a", 0, OLD), Sync("a"), SyncFolder(""), Unlink("a"), Create("a"))
    assert {left.get("a") for left in seen(*ops)} == {OLD, b"", None}


def test_the_index_of_the_wal_is_in_no_image_and_a_part_file_is() -> None:
    assert set(seen(Create("a-shm"), Create("a.part"), SyncFolder(""))[0]) == {"a.part"}


@given(traces(), st.integers(0), st.booleans())
def test_the_same_seed_makes_the_same_images(ops: list[Op], seed: int, lying: bool) -> None:
    def made() -> Any:
        return list(images(Trace(tuple(ops)), len(ops) - 1, seeded(seed), 12, lying))

    assert made() == made()


def test_a_cursor_makes_what_a_fresh_start_makes_and_cannot_go_back() -> None:
    ops = (Create("a"), Mark("m"), Write("a", 0, OLD), Sync("a"), SyncFolder(""), Write("a", 0, NEW))
    replay = Replay(Trace(ops))
    for k in range(-1, len(ops)):
        replay.advance(k)
        assert list(images_at(replay, seeded(k), len(MODES))) == list(images(Trace(ops), k, seeded(k), len(MODES)))
    for k in (2, len(ops)):
        with pytest.raises(IndexError, match="is not between 5 and 5"):
            replay.advance(k)


def test_an_image_on_a_folder_replaces_what_was_there(tmp_path: Path) -> None:
    write({"old": b"1", "f/old": b"2"}, tmp_path / "state")
    write({"new": b"3", "f/g/new": b"4"}, tmp_path / "state")
    found = {str(path.relative_to(tmp_path / "state")): path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()}
    assert found == {"new": b"3", "f/g/new": b"4"}
    assert (tmp_path / "state/new").stat().st_mode & 0o777 == 0o600
