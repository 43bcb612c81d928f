"""What was set from afar is kept whole; from a damaged file no older twin gets in, and the robot starts with its profile."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import BadInput
from agent.ports.twin import Overlay, Standing, Trial
from agent.store.remote import FILE_BYTES_MAX, SEEN_FILE, TWIN_FILE, Remote

LOUD: dict[str, dict[str, Any]] = {"llm": {"max_tokens": 40, "options": {"a": [1, None]}}}
KEYS = {"ack_keys": [{"kty": "OKP", "x": "…"}]}
FULL = Standing(7, "trial", "why", Overlay(5, {"words": {"keep": True}}), Trial(Overlay(7, LOUD), "twin", True, KEYS, 1), KEYS)


def opened(folder: Path) -> tuple[Remote, list[str]]:
    lines: list[str] = []
    return Remote(folder, lines.append), lines


def test_what_was_put_is_there_after_a_start(tmp_path: Path) -> None:
    remote, lines = opened(tmp_path / "state")
    assert (remote.standing, dict(remote.local)) == (Standing(), {})
    remote.put(FULL)
    remote.put_local("mode", "offline")
    remote.put_local("budget", {"amount": "12.50", "period": "day"})
    again, said = opened(tmp_path / "state")
    assert again.standing == remote.standing == FULL
    assert again.local == {"mode": "offline", "budget": {"amount": "12.50", "period": "day"}}
    again.put_local("mode", None)
    again.put(Standing(8))
    last, _ = opened(tmp_path / "state")
    assert (last.standing, last.local) == (Standing(8), {"budget": {"amount": "12.50", "period": "day"}})
    assert lines == said == []
    assert (tmp_path / "state" / TWIN_FILE).stat().st_mode & 0o077 == 0


def test_a_cut_off_write_leaves_what_was_there(tmp_path: Path) -> None:
    remote, _ = opened(tmp_path)
    remote.put(FULL)
    (tmp_path / f"{TWIN_FILE}.part").write_bytes(b'{"version": 99')
    assert opened(tmp_path)[0].standing == FULL


DAMAGE: list[tuple[str, bytes, bytes, int]] = [
    ("cut short", b'"state"', b"", 6),
    ("wrong type", b'"state":"trial"', b'"state":"trail"', 6),
    ("no table", b'{"max_tokens":40,"options":{"a":[1,null]}}', b"[]", 6),
    ("no version", b'"version":7', b'"version":"x"', 6),
    ("cut number", b'7,"state"', b"", 6),
]
"""What is damaged and how, and the version that is left: one less, so that the twin that was in force is looked at again."""


@pytest.mark.parametrize(("kind", "old", "new", "version"), DAMAGE, ids=[kind for kind, *_ in DAMAGE])
def test_of_a_damaged_file_the_version_is_kept_and_one_line_is_said(
    tmp_path: Path, kind: str, old: bytes, new: bytes, version: int
) -> None:
    remote, _ = opened(tmp_path)
    remote.put(FULL)
    remote.put_local("mode", "offline")
    content = (tmp_path / TWIN_FILE).read_bytes()
    assert old in content
    damaged = content[: content.index(old)] if kind.startswith("cut") else content.replace(old, new)
    (tmp_path / TWIN_FILE).write_bytes(damaged)
    again, lines = opened(tmp_path)
    assert (again.standing.version, again.standing.state, again.standing.in_force) == (version, "failed", Overlay())
    assert (again.standing.trial, again.standing.owed) == (None, {})
    assert len(lines) == 1
    assert "\n" not in lines[0]
    assert dict(again.local) == ({} if kind.startswith("cut") else {"mode": "offline"})
    again.put(Standing(8))
    assert opened(tmp_path)[0].standing == Standing(8)


def test_a_file_that_is_lost_lets_no_older_twin_in(tmp_path: Path) -> None:
    opened(tmp_path)[0].put(FULL)
    (tmp_path / TWIN_FILE).unlink()
    for _ in range(2):
        again, lines = opened(tmp_path)
        assert (again.standing.version, again.standing.state, again.standing.in_force) == (6, "failed", Overlay())
        assert len(lines) == 1
        assert "it is gone" in lines[0]
    again.put(Standing(6, "failed"))  # as the next opening writes it down
    assert opened(tmp_path)[0].standing == Standing(6, "failed")
    (tmp_path / TWIN_FILE).unlink()
    assert opened(tmp_path)[0].standing.version == 6


def test_an_older_copy_of_the_file_lets_no_older_twin_in(tmp_path: Path) -> None:
    remote, _ = opened(tmp_path)
    remote.put(Standing(3, "applied", in_force=Overlay(3)))
    older = (tmp_path / TWIN_FILE).read_bytes()
    remote.put(FULL)
    (tmp_path / TWIN_FILE).write_bytes(older)
    again, lines = opened(tmp_path)
    assert again.standing == Standing(6, "applied", in_force=Overlay(3))
    assert len(lines) == 1


@pytest.mark.parametrize("content", [b"", b"99", b"99 " + b"0" * 64 + b"\n", b"\xff" * 500, None], ids=str)
def test_what_is_wrong_of_the_highest_version_is_put_right_by_the_file(tmp_path: Path, content: bytes | None) -> None:
    remote, _ = opened(tmp_path)
    remote.put(FULL)
    if content is None:  # cut off between the two
        (tmp_path / SEEN_FILE).unlink()
    else:
        (tmp_path / SEEN_FILE).write_bytes(content)
    assert opened(tmp_path)[0].standing == FULL
    (tmp_path / TWIN_FILE).unlink()
    assert opened(tmp_path)[0].standing.version == 6


@pytest.mark.parametrize(
    ("content", "version"),
    [
        (b'{"version":123', 0),
        (b'{"version":"x","in_force":{"version":5,"set', 4),
        (b'{"version":"x","in_force":{"version":5,"settings":{"llm":{"options":{"version":99}}}},"trial":{"overlay":{"version":7,"s', 6),
        (b'["version":99,', 0),
    ],
)
def test_where_nothing_else_tells_only_whole_numbers_that_are_versions_count(tmp_path: Path, content: bytes, version: int) -> None:
    (tmp_path / TWIN_FILE).write_bytes(content)
    assert opened(tmp_path)[0].standing.version == version


def test_a_version_that_can_not_be_kept_beside_it_is_kept_with_the_next(tmp_path: Path) -> None:
    remote, _ = opened(tmp_path)
    (tmp_path / f"{SEEN_FILE}.part").mkdir()
    remote.put(FULL)
    assert remote.standing == FULL
    (tmp_path / f"{SEEN_FILE}.part").rmdir()
    remote.put(FULL)
    (tmp_path / TWIN_FILE).unlink()
    assert opened(tmp_path)[0].standing.version == 6


@given(st.binary(max_size=200) | st.just(b'{"version":1e400}') | st.just(b"[" * 5000) | st.just(b"[]") | st.just(b"null"))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_content_lets_the_robot_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / TWIN_FILE).write_bytes(content)
    remote, lines = opened(tmp_path)
    assert remote.standing.in_force == Overlay()
    assert len(lines) <= 1


def test_too_much_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    remote, _ = opened(tmp_path)
    remote.put(FULL)
    with pytest.raises(BadInput, match="the most is"):
        remote.put(Standing(8, in_force=Overlay(8, {"dialog": {"system_prompt": "x" * FILE_BYTES_MAX}})))
    with pytest.raises(BadInput, match="what commands set is more than"):
        remote.put_local("budget", "x" * 20_000)
    assert remote.standing == opened(tmp_path)[0].standing == FULL
    assert dict(remote.local) == {}


def test_a_disk_that_refuses_is_one_line(tmp_path: Path) -> None:
    remote, _ = opened(tmp_path)
    (tmp_path / f"{TWIN_FILE}.part").mkdir()
    with pytest.raises(BadInput, match="check space and rights of the state folder"):
        remote.put(FULL)
    assert remote.standing == Standing()
    (tmp_path / TWIN_FILE).mkdir()
    with pytest.raises(BadInput, match=TWIN_FILE):
        opened(tmp_path)
