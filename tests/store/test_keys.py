"""Keys: made once, on the disk before they sign, rotated on purpose, never replaced by accident."""

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent.contract.signing import SigningKey, encode
from agent.errors import BadInput
from agent.sim.clock import SimulatedClock
from agent.store.keys import NOT_SHOWN, Keys, publics


@pytest.fixture(autouse=True)
def no_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


class Cut(BaseException):
    """The process is killed."""


def cut_before(patch: pytest.MonkeyPatch, call: int, *steps: tuple[Any, str]) -> None:
    """Kills at the n-th of these calls, counted from 0, in place of it."""
    left = iter(range(call))

    def cutting(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*words: Any) -> Any:
            if next(left, None) is None:
                raise Cut
            return real(*words)

        return step

    for owner, name in steps:
        patch.setattr(owner, name, cutting(getattr(owner, name)))


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is synced and renamed, in order, by the names it has then."""
    told: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        told.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    def renamed(old: Path, new: Path) -> Path:
        told.append(f"{old.name} -> {new.name}")
        return rename(old, new)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Path, "rename", renamed)
    return told


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_key_is_made_once_and_for_its_owner_alone(state: Path, clock: SimulatedClock) -> None:
    key = Keys(state, clock).current
    assert Keys(state, clock).current == key == Keys(state, SimulatedClock(seed=9)).current
    assert key.key_id != Keys(state.parent / "other", clock).current.key_id
    assert [mode(state), mode(state / "keys"), mode(state / "keys/usage")] == [0o700, 0o700, 0o600]
    assert (state / "keys/usage").read_text() == f"{encode(key.seed)} {key.key_id}\n"


def test_key_and_folder_are_on_the_disk_before_anybody_learns_the_key(state: Path, clock: SimulatedClock, synced: list[str]) -> None:
    Keys(state, clock).current  # noqa: B018  reading it makes it
    assert synced == ["state", "usage.part", "usage.part -> usage", "keys"]


def test_a_key_found_after_a_kill_is_settled_before_it_signs(state: Path, clock: SimulatedClock, synced: list[str]) -> None:
    key = Keys(state, clock).current
    synced.clear()
    keys = Keys(state, clock)
    assert [keys.current, keys.current] == [key, key]
    assert synced == ["keys", "state"]


def test_a_rotation_is_begun_once_and_promoted_once(state: Path, clock: SimulatedClock) -> None:
    keys = Keys(state, clock)
    old = keys.current
    assert keys.pending is None
    new = keys.begin_rotation()
    assert new != old
    again = Keys(state, clock)
    assert (again.current, again.pending, again.begin_rotation()) == (old, new, new)
    assert mode(state / "keys/usage.new") == 0o600
    assert keys.promote() == new
    assert (keys.current, keys.pending, keys.promote()) == (new, None, new)
    assert sorted(path.name for path in (state / "keys").iterdir()) == ["usage"]


def test_a_promotion_is_on_the_disk_when_it_returns(state: Path, clock: SimulatedClock, synced: list[str]) -> None:
    keys = Keys(state, clock)
    keys.begin_rotation()
    synced.clear()
    keys.promote()
    assert synced == ["keys", "state", "usage.new -> usage", "keys"]


@pytest.mark.parametrize("cut_at", range(9))
def test_a_kill_anywhere_in_a_rotation_loses_no_key(
    state: Path, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch, cut_at: int
) -> None:
    old = Keys(state, clock).current
    keys = Keys(state, clock)
    with monkeypatch.context() as patch, suppress(Cut):
        cut_before(patch, cut_at, (os, "fsync"), (Path, "rename"))
        keys.begin_rotation()
        keys.promote()
    keys = Keys(state, clock)
    new = keys.begin_rotation() if keys.current == old else keys.current
    assert keys.promote() == keys.promote() == Keys(state, clock).current == new != old


DAMAGE = {
    "empty": b"",
    "cut short": b"AAAA",
    "zeros": bytes(77),
    "not text": b"\xff" * 77,
    "no id": b"A" * 43,
    "too much": b"A" * 43 + b" x y",
    "far too long": b"A" * 5000,
}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_key_is_told_and_left_alone(state: Path, clock: SimulatedClock, content: bytes) -> None:
    keys = Keys(state, clock)
    keys.begin_rotation()
    (state / "keys/usage").write_bytes(content)
    for _ in range(2):
        with pytest.raises(BadInput, match="keys/usage is damaged: it does not hold a key; put back a copy") as told:
            keys.current  # noqa: B018  reading it is what fails
        assert "\n" not in str(told.value)
    assert (state / "keys/usage").read_bytes() == content


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_key_that_was_to_follow_is_as_good_as_none(state: Path, clock: SimulatedClock, content: bytes) -> None:
    keys = Keys(state, clock)
    lost = keys.begin_rotation()
    (state / "keys/usage.new").write_bytes(content)
    assert publics(state) == {keys.current.public}
    assert (keys.pending, keys.promote()) == (None, keys.current)
    other = keys.begin_rotation()
    assert other != lost
    assert keys.promote() == other


def test_one_wrong_bit_shows(state: Path, clock: SimulatedClock) -> None:
    key = Keys(state, clock).current
    other = SigningKey.from_seed(bytes([key.seed[0] ^ 1]) + key.seed[1:])
    (state / "keys/usage").write_text(f"{encode(other.seed)} {key.key_id}\n")
    with pytest.raises(BadInput, match=f"keys/usage is damaged: its key is not '{key.key_id}'"):
        Keys(state, clock).current  # noqa: B018  reading it is what fails


@pytest.mark.parametrize("open_to", [0o644, 0o640, 0o602])
def test_a_key_others_can_read_is_refused(state: Path, clock: SimulatedClock, open_to: int) -> None:
    keys = Keys(state, clock)
    key = keys.current
    (state / "keys/usage").chmod(open_to)
    with pytest.raises(BadInput, match=rf"usage is open to others \(mode 0{open_to:o}\); chmod 600 it"):
        keys.current  # noqa: B018  reading it is what fails
    (state / "keys/usage").chmod(0o600)
    assert keys.current == key


def test_a_key_that_can_not_be_read_is_told(state: Path, clock: SimulatedClock) -> None:
    keys = Keys(state, clock)
    (state / "keys/usage").mkdir(parents=True, mode=0o700)
    with pytest.raises(BadInput, match="keys/usage: Is a directory; check space and rights of the state folder"):
        keys.current  # noqa: B018  reading it is what fails


def test_a_state_folder_that_takes_no_key_is_told(state: Path, clock: SimulatedClock) -> None:
    state.mkdir()
    (state / "keys").write_text("in the way")
    with pytest.raises(BadInput, match=r"keys.*: Not a directory"):
        Keys(state, clock).current  # noqa: B018  reading it is what fails


def test_a_lost_key_is_not_replaced_while_its_successor_waits(state: Path, clock: SimulatedClock) -> None:
    keys = Keys(state, clock)
    keys.begin_rotation()
    (state / "keys/usage").unlink()
    with pytest.raises(BadInput, match=r"usage is gone, .*usage.new is there; put the old key back"):
        keys.current  # noqa: B018  reading it is what fails


@pytest.mark.parametrize("form", [bytes, lambda seed: encode(seed).encode(), lambda seed: encode(seed).encode() + b"\n"])
def test_a_credential_wins_and_is_never_written(
    state: Path, clock: SimulatedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: type[bytes]
) -> None:
    own, waiting = Keys(state, clock).current, Keys(state, clock).begin_rotation()
    seed = bytes(range(32))
    (tmp_path / "usage-key").write_bytes(form(seed))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    keys = Keys(state, clock)
    assert (keys.current, keys.pending) == (SigningKey.from_seed(seed), None)
    for turn in (keys.begin_rotation, keys.promote):
        with pytest.raises(BadInput, match="the usage key is a systemd credential and can't be rotated here; give the unit another"):
            turn()
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert (keys.current, keys.pending) == (own, waiting)


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"A" * 42 + b"B", b"\xff" * 43])
def test_a_wrong_credential_is_told_and_nothing_takes_its_place(
    state: Path, clock: SimulatedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    (tmp_path / "usage-key").write_bytes(content)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(BadInput, match="usage-key is not a usage key; give the unit 32 bytes, raw or in base64url"):
        Keys(state, clock).current  # noqa: B018  reading it is what fails
    assert not state.exists()


def test_where_the_units_key_is_not_shown_none_is_made(
    state: Path, clock: SimulatedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "usage-key").write_bytes(NOT_SHOWN)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(BadInput, match="is a credential of the unit, and this command is not shown it; put it into /etc/credstore"):
        Keys(state, clock).current  # noqa: B018  reading it is what fails
    assert not state.exists()


def test_other_credentials_are_not_ours(state: Path, clock: SimulatedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert Keys(state, clock).current == Keys(state, clock).current
    assert (state / "keys/usage").exists()
