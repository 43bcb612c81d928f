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
from agent.installing.layout import UNIT, Layout, Trial
from tests.installing.made import archive, booted, install, laid, machine, runs

Usage = namedtuple("Usage", "total used free")


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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions without their packages: for tests in which nothing need run."""
    monkeypatch.setattr(making, "_run", lambda *_: None)


def upgraded(root: Path, version: str) -> dict[str, Any]:
    return asyncio.run(steps.upgrade(machine(root)[0], archive(root / f"{version}.tar", version)))


def test_an_upgrade_that_holds_is_on_trial_and_keeps_only_the_version_before(tmp_path: Path) -> None:
    installed, layout = [], Layout(tmp_path)
    install(tmp_path, archive(tmp_path / "1.tar"))
    for version in ("2.0", "3.0"):
        installed.append(layout.current())
        told = upgraded(tmp_path, version)
        assert (told["upgraded"], told["previous"], runs(tmp_path)) == (True, installed[-1], version)
        assert told["on_trial"] is True
        assert layout.on_trial() == Trial(layout.current(), installed[-1], heard=True)
        booted(layout)
        again = upgraded(tmp_path, version)
        assert (again["upgraded"], again["on_trial"]) == (False, True)
        layout.end_trial()  # the gate's
    assert sorted(path.name for path in layout.versions.iterdir()) == sorted([layout.current(), installed[-1]])
    again = upgraded(tmp_path, "3.0")
    assert (again["upgraded"], again["on_trial"]) == (False, False)


@pytest.mark.usefixtures("quick")
def test_one_that_started_and_ails_is_tried_again(tmp_path: Path) -> None:
    install(tmp_path, archive(tmp_path / "1.tar"))
    old = Layout(tmp_path).current()
    upgraded(tmp_path, "2.0")
    booted(Layout(tmp_path))
    robot, scripted = machine(tmp_path)
    scripted.told = {"running": True, "stuck": ["ledger has stood still for 61 s (allowed: 60 s)"]}
    with pytest.raises(steps.DoesNotHold, match=r"ledger has stood still .* runs again"):
        asyncio.run(steps.upgrade(robot, tmp_path / "2.0.tar"))
    assert Layout(tmp_path).current() == old


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.usefixtures("quick")
def test_a_robot_that_did_not_hear_before_need_not_hear(heard: bool, tmp_path: Path) -> None:
    install(tmp_path, archive(tmp_path / "1.tar"))
    robot, scripted = machine(tmp_path)
    scripted.told["hearing"] = {"hearing": heard, "why": ""} if heard else None
    asyncio.run(steps.upgrade(robot, archive(tmp_path / "2.tar", "2.0")))
    trial = Layout(tmp_path).on_trial()
    assert trial is not None
    assert trial.heard is heard


@pytest.mark.usefixtures("quick")
def test_an_upgrade_over_a_trial_falls_back_to_what_has_proven_itself(tmp_path: Path) -> None:
    install(tmp_path, archive(tmp_path / "1.tar"))
    layout = Layout(tmp_path)
    proven = layout.current()
    upgraded(tmp_path, "2.0")
    told = upgraded(tmp_path, "3.0")
    assert (told["previous"], layout.on_trial()) == (proven, Trial(layout.current(), proven, heard=True))
    robot, scripted = machine(tmp_path)
    scripted.fails["4.0"] = "no microphone library"
    with pytest.raises(steps.DoesNotHold, match=f"{proven} runs again"):
        asyncio.run(steps.upgrade(robot, archive(tmp_path / "4.tar", "4.0")))
    assert (layout.current(), layout.on_trial(), laid(layout)) == (proven, None, {"1.0"})


@pytest.mark.usefixtures("quick")
def test_an_upgrade_to_what_a_trial_would_fall_back_to_ends_the_trial(tmp_path: Path) -> None:
    install(tmp_path, archive(tmp_path / "1.0.tar"))
    layout = Layout(tmp_path)
    proven = layout.current()
    tried = upgraded(tmp_path, "2.0")["version"]
    told = upgraded(tmp_path, "1.0")
    assert (told["version"], told["previous"], told["on_trial"]) == (proven, tried, False)
    assert (layout.on_trial(), laid(layout)) == (None, {"1.0"})


@pytest.mark.usefixtures("quick")
def test_units_of_a_version_that_was_never_switched_to_give_way_to_those_of_the_one_that_runs(tmp_path: Path) -> None:
    install(tmp_path, archive(tmp_path / "1.0.tar"))
    layout = Layout(tmp_path)
    old = layout.current()
    upgraded(tmp_path, "2.0")
    layout.switch(old)  # as a power cut may leave it
    assert laid(layout) == {"2.0"}
    assert upgraded(tmp_path, "1.0") == {"version": old, "previous": "", "upgraded": False, "on_trial": False}
    assert (laid(layout), layout.on_trial()) == ({"1.0"}, None)


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
    assert (layout.current(), runs(tmp_path), layout.on_trial(), laid(layout)) == (old, "1.0", None, {"1.0"})
    assert scripted.done[-1] == "restart 1.0"
    assert [path.name for path in layout.versions.iterdir()] == [old]


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


def test_a_restart_that_fails_without_a_word_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, 4, "", ""))
    assert system.Systemctl().restart(UNIT) == "systemctl restart ended with 4"
