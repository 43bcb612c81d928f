"""Install, upgrade, back, uninstall: below another root, with real environments and a systemd that follows a script."""

import asyncio
import os
import subprocess
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from agent.errors import BadInput, MissingPart, VoxmeterError
from agent.installing import making, steps, system
from agent.installing.layout import UNIT, Layout
from tests.installing.made import archive, machine

Usage = namedtuple("Usage", "total used free")


def install(root: Path, path: Path, profile: Path | None = None, *, start: bool = True) -> dict[str, Any]:
    return asyncio.run(steps.install(machine(root)[0], path, profile, start=start))


def runs(root: Path) -> str:
    """What the current version's command prints."""
    done = subprocess.run([str(root / "opt/voxmeter/current/bin/voxmeter")], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_version_is_installed_and_runs(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        told = install(tmp_path, archive(tmp_path / "b.tar"))
    finally:
        os.umask(before)
    layout = Layout(tmp_path)
    assert told["version"] == layout.current()
    assert runs(tmp_path) == "1.0"
    assert layout.profile.read_bytes() == b"# the bundle's\n"
    assert layout.profile.stat().st_mode & 0o444 == 0o444  # also where root's umask would hide it
    assert (layout.models / "ears/one.bin").read_bytes() == b"weights" * 99
    assert os.access(layout.gate, os.X_OK)
    assert os.access(layout.command, os.X_OK)
    assert (layout.units / UNIT).exists()
    assert not (layout.versions / told["version"] / "wheels").exists()


def test_again_changes_nothing_and_a_sites_profile_stays(tmp_path: Path) -> None:
    path = archive(tmp_path / "b.tar")
    given = tmp_path / "site.toml"
    given.write_text("# the site's\n")
    install(tmp_path, path, given)
    layout = Layout(tmp_path)
    stood = (layout.versions / layout.current()).stat().st_mtime_ns
    given.write_text("# another\n")
    install(tmp_path, path, given)
    assert layout.profile.read_text() == "# the site's\n"
    assert (layout.versions / layout.current()).stat().st_mtime_ns == stood


def test_another_version_is_an_upgrade(tmp_path: Path) -> None:
    install(tmp_path, archive(tmp_path / "b.tar"))
    with pytest.raises(BadInput, match=r"is installed here; do: voxmeter upgrade"):
        install(tmp_path, archive(tmp_path / "c.tar", "2.0"))
    with pytest.raises(BadInput, match="nothing is installed here"):
        asyncio.run(steps.upgrade(machine(tmp_path / "empty")[0], tmp_path / "b.tar"))


def test_an_upgrade_that_holds_keeps_only_the_version_before(tmp_path: Path) -> None:
    installed, layout = [], Layout(tmp_path)
    install(tmp_path, archive(tmp_path / "1.tar"))
    for version in ("2.0", "3.0"):
        installed.append(layout.current())
        told = asyncio.run(steps.upgrade(machine(tmp_path)[0], archive(tmp_path / "n.tar", version)))
        assert (told["upgraded"], told["previous"], runs(tmp_path)) == (True, installed[-1], version)
        assert layout.on_trial() == ("", "")
    assert sorted(path.name for path in layout.versions.iterdir()) == sorted([layout.current(), installed[-1]])
    again = asyncio.run(steps.upgrade(machine(tmp_path)[0], tmp_path / "n.tar"))
    assert again["upgraded"] is False


@pytest.mark.parametrize(("how", "says"), [("fails", "no microphone library"), ("dies", "it has ended: it burns")])
def test_one_that_does_not_hold_gives_way(how: str, says: str, tmp_path: Path) -> None:
    install(tmp_path, archive(tmp_path / "1.tar"))
    layout = Layout(tmp_path)
    old = layout.current()
    robot, scripted = machine(tmp_path)
    if how == "fails":
        scripted.fails["2.0"] = "no microphone library"
    else:
        scripted.dies.add("2.0")
    with pytest.raises(steps.DoesNotHold, match=says) as raised:
        asyncio.run(steps.upgrade(robot, archive(tmp_path / "2.tar", "2.0")))
    assert raised.value.exit_status == 1
    assert f"{old} runs again" in str(raised.value)
    assert (layout.current(), runs(tmp_path), layout.on_trial()) == (old, "1.0", ("", ""))
    assert scripted.done[-1] == "restart 1.0"
    assert [path.name for path in layout.versions.iterdir()] == [old]


STEPS = ("_lay_model", "_make_version", "begin_trial", "_lay_units", "switch", "reload", "restart", "end_trial", "prune")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_upgrade_cut_off_anywhere_is_completed_by_doing_it_again(
    step: str, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in between always has a current version that is whole, and from the switch on a trial."""
    install(tmp_path, archive(tmp_path / "1.tar"))
    layout, path = Layout(tmp_path), archive(tmp_path / "2.tar", "2.0")
    robot, scripted = machine(tmp_path)
    place: Any = next(one for one in (making, steps, Layout, scripted) if hasattr(one, step))
    real = getattr(place, step)

    class Cut(BaseException): ...

    def cut(*words: Any, **more: Any) -> Any:
        if after:
            real(*words, **more)
        raise Cut

    with monkeypatch.context() as context:
        context.setattr(place, step, cut)
        if step == "_lay_model":
            (layout.models / "ears/one.bin").unlink()
        with pytest.raises(Cut):
            asyncio.run(steps.upgrade(robot, path))
    assert layout.whole(layout.current())
    assert runs(tmp_path) in ("1.0", "2.0")
    if runs(tmp_path) == "2.0" and step not in ("end_trial", "prune"):
        assert layout.on_trial()[0] == layout.current()
    asyncio.run(steps.upgrade(robot, path))
    assert (runs(tmp_path), layout.on_trial()) == ("2.0", ("", ""))
    assert (layout.models / "ears/one.bin").exists()


def test_a_wheel_with_the_wrong_hash_changes_nothing(tmp_path: Path) -> None:
    install(tmp_path, archive(tmp_path / "1.tar"))
    layout = Layout(tmp_path)
    path = tmp_path / "2.tar"
    bad = "voxmeter==2.0 --hash=sha256:" + "0" * 64
    from tests.installing import made

    inside = made.contents("2.0")
    inside["requirements.txt"] = bad.encode()
    with pytest.MonkeyPatch.context() as context:
        context.setattr(made, "contents", lambda version: inside)
        archive(path, "2.0")
    with pytest.raises(BadInput, match="a wheel has not the hash it should have"):
        asyncio.run(steps.upgrade(machine(tmp_path)[0], path))
    assert runs(tmp_path) == "1.0"
    assert [one.name for one in layout.versions.iterdir()] == [layout.current()]


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(1, 1, 1 << 20))
    with pytest.raises(BadInput, match=r"has 1 MB free, b\.tar takes \d+ MB; make room; nothing has been changed"):
        install(tmp_path, archive(tmp_path / "b.tar"))
    assert list((tmp_path / "opt/voxmeter").iterdir()) == []


def test_a_profile_that_can_not_be_read_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="name a readable device profile"):
        install(tmp_path, archive(tmp_path / "b.tar"), tmp_path / "none.toml")
    assert not (tmp_path / "opt").exists()


@pytest.mark.parametrize("purge", [False, True])
def test_uninstalled_keeps_state_and_profile_unless_purged(purge: bool, tmp_path: Path) -> None:
    install(tmp_path, archive(tmp_path / "b.tar"))
    layout = Layout(tmp_path)
    books = tmp_path / "var/lib/private/voxmeter/ledger.db"
    books.parent.mkdir(parents=True)
    books.touch()
    (tmp_path / "var/lib/voxmeter").symlink_to("private/voxmeter")
    for _ in range(2):  # again does no harm
        steps.uninstall(machine(tmp_path)[0], purge=purge)
        assert not layout.home.exists()
        assert not layout.command.exists()
        assert not (layout.units / UNIT).exists()
        assert (books.exists(), layout.profile.exists()) == (not purge, not purge)
        assert (tmp_path / "var/lib/voxmeter").is_symlink() == (not purge)


def test_only_root_of_a_systemd_machine_installs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(MissingPart, match="only root installs voxmeter"):
        system.of(Layout())
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(system, "RUNS", Path("nowhere/at/all"))
    with pytest.raises(VoxmeterError, match="not started by systemd"):
        system.of(Layout())
