"""Installs, upgrades and uninstalls. Every step can be cut off by the power and done again: what is done is passed over.

    check all -> lay down beside -> [trial written] -> switch -> restart -> does it hold so far? -> on trial; `gate` ends it
                                                                         -> no: back, restart, exit 1

Nothing of what runs is touched before the trial is written; from then to its end `gate` goes back by itself, for the machine may be
unplugged, and a version may hang or turn out deaf only when the installer has ended. The version to go back to is one that has proven
itself: an upgrade over a trial keeps that of the trial. The units that lie in /etc are those of the current version: whoever comes first
after a power cut, the gate or the next command, sees to it.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.clock import Clock
from agent.errors import BadInput, VoxmeterError
from agent.files import rename_durably
from agent.installing import health, making, system
from agent.installing import manifest as manifests
from agent.installing.layout import EXAMPLE, UNIT, UNITS, Layout, Trial
from agent.installing.making import Say
from agent.installing.reading import Bundle
from agent.installing.system import Systemd

PROFILE_BYTES_MAX: Final = 1_000_000


class DoesNotHold(VoxmeterError):
    """A version was started and does not run as it should."""

    code = "does-not-hold"
    exit_status = 1


@dataclass(frozen=True, slots=True)
class Machine:
    """What is installed on."""

    layout: Layout
    systemd: Systemd
    clock: Clock
    say: Say
    name: str
    """Of its architecture, as the kernel says."""
    python: tuple[str, str]
    """(its system's interpreter, `3.11`)."""
    ask: Callable[[], dict[str, Any] | None]
    """What the running robot tells of itself."""


def here(layout: Layout, clock: Clock, say: Say) -> Machine:
    """This machine. Raises MissingPart where nothing can be installed."""
    systemd = system.of(layout)
    return Machine(layout, systemd, clock, say, system.machine(), system.python(), lambda: health.asked(layout))


async def install(machine: Machine, archive: Path, profile: Path | None, *, start: bool) -> dict[str, Any]:
    """The first version. Again with the same bundle it mends what is missing. Raises a VoxmeterError in one line."""
    layout = machine.layout
    bundle = _checked(machine, archive)
    if (current := layout.current()) not in ("", bundle.name):
        raise BadInput(f"version {current} is installed here", f"do: voxmeter upgrade --bundle {archive}")
    given = _profile(profile) if profile is not None else None
    with making.open_to_all():
        making.make(bundle, layout, machine.python[0], machine.say)
        _lay_profile(layout, bundle, given, machine.say)
        _lay_units(layout, layout.versions / bundle.name)
        layout.switch(bundle.name)
    machine.systemd.reload()
    machine.systemd.enable(UNIT)
    if start:
        await _start(machine, bundle.name)
    return {"version": bundle.name, "profile": str(layout.profile), "started": start}


async def upgrade(machine: Machine, archive: Path) -> dict[str, Any]:
    """Another version beside the one that runs, on trial, and back if it does not hold so far. Raises a VoxmeterError in one line."""
    layout, current = machine.layout, machine.layout.current()
    if not current:
        raise BadInput("nothing is installed here", f"do: voxmeter install --bundle {archive} --profile FILE")
    bundle = _checked(machine, archive)
    trial = _settled(machine)
    if current == bundle.name and (trial is None or (trial.starts and not await _ailing(machine))):
        return {"version": current, "previous": "", "upgraded": False, "on_trial": trial is not None}
    if trial is None:
        trial = Trial(bundle.name, current, health.hears(machine.ask()))
    with making.open_to_all():
        making.make(bundle, layout, machine.python[0], machine.say)
        if bundle.name == trial.old:
            _go_back(machine, trial.old)
        else:
            layout.begin_trial(Trial(bundle.name, trial.old, trial.heard))
            layout.switch(bundle.name)
            _lay_units(layout, layout.versions / bundle.name)
            machine.systemd.reload()
    if bundle.name == trial.old:
        await _start(machine, bundle.name)
    else:
        await _prove(machine, bundle.name, trial.old)
    previous = current if bundle.name == trial.old else trial.old
    layout.prune({bundle.name, previous})
    return {"version": bundle.name, "previous": previous, "upgraded": True, "on_trial": layout.on_trial() is not None}


async def _ailing(machine: Machine) -> str:
    return await health.holds(machine.systemd, machine.ask, machine.clock, 0)


def _settled(machine: Machine) -> Trial | None:
    """The trial of the current version, if it is on one; what a power cut has left of another is put right, as the gate would."""
    layout, trial, current = machine.layout, machine.layout.on_trial(), machine.layout.current()
    if trial is None:
        return None
    if current == trial.old or not layout.whole(trial.old):
        _lay_units(layout, layout.versions / current)
        layout.end_trial()
        machine.systemd.reload()
        return None
    return trial if current == trial.new else Trial(current, trial.old, trial.heard)


def _go_back(machine: Machine, old: str) -> None:
    """After a power cut in between the gate goes on with it, as long as the trial is not ended."""
    machine.layout.switch(old)
    _lay_units(machine.layout, machine.layout.versions / old)
    machine.layout.end_trial()
    machine.systemd.reload()


async def _prove(machine: Machine, new: str, old: str) -> None:
    """Starts the new one; back to the old one where it does not hold. Raises DoesNotHold."""
    try:
        await _start(machine, new)
    except DoesNotHold as error:
        machine.say(f"{new} does not hold; back to {old}")
        with making.open_to_all():
            _go_back(machine, old)
        again = machine.systemd.restart(UNIT)
        shutil.rmtree(machine.layout.versions / new, ignore_errors=True)
        told = f"{old} runs again" if not again else f"{old} does not start either: {again}"
        raise DoesNotHold(f"{error.message}; {told}", "see: journalctl -u voxmeter") from error


async def _start(machine: Machine, name: str) -> None:
    """Raises DoesNotHold."""
    machine.say(f"starting {name}")
    why = machine.systemd.restart(UNIT) or _given_up(machine.layout, name)
    if not why:
        machine.say(f"{name} is ready; it is watched for {health.HOLD_SECONDS:.0f} s")
        why = await health.holds(machine.systemd, machine.ask, machine.clock)
    if why := why or _given_up(machine.layout, name):
        raise DoesNotHold(f"{name} does not hold: {why.rstrip('.')}", "see: journalctl -u voxmeter")


def _given_up(layout: Layout, name: str) -> str:
    """Why the gate has gone back meanwhile; empty: it has not."""
    if layout.current() == name:
        return ""
    return layout.gave_up.read_text().strip() if layout.gave_up.exists() else "it was switched back"


def uninstall(machine: Machine, *, purge: bool) -> dict[str, Any]:
    """Removes what install laid down; the robot's state and settings only with `purge`."""
    layout = machine.layout
    machine.systemd.disable(UNIT)
    machine.systemd.disable(UNITS[1])
    for unit in UNITS:
        (layout.units / unit).unlink(missing_ok=True)
    (layout.units / EXAMPLE).unlink(missing_ok=True)
    machine.systemd.reload()
    layout.command.unlink(missing_ok=True)
    gone = [layout.home, *((layout.settings, layout.units / f"{UNIT}.d", *layout.states) if purge else ())]
    for path in gone:
        if path.is_symlink():
            path.unlink()
        shutil.rmtree(path, ignore_errors=True)
    kept = [str(path) for path in (layout.settings, *layout.states) if path.exists()]
    return {"removed": [str(path) for path in gone if not path.exists()], "kept": kept}


def _checked(machine: Machine, archive: Path) -> Bundle:
    """A bundle that is whole and for this machine; nothing has been changed."""
    machine.say(f"checking {archive}")
    bundle = Bundle(archive)
    manifests.check_machine(bundle.manifest, machine.name, machine.python[1])
    return bundle


def _profile(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}", "name a readable device profile") from error
    if len(content) > PROFILE_BYTES_MAX:
        raise BadInput(f"{path} is no device profile", "name a TOML")
    return content


def _lay_profile(layout: Layout, bundle: Bundle, given: bytes | None, say: Say) -> None:
    """The given one, else the bundle's own; a site's profile is never overwritten."""
    if layout.profile.exists():
        if given is not None and given != layout.profile.read_bytes():
            say(f"{layout.profile} stays as it is: it is the site's")
        return
    _put(layout.profile, bundle.content("profile.toml") if given is None else given)


def _lay_units(layout: Layout, version: Path) -> None:
    """The version's units, its gate, and the command; where they differ."""
    laid = version / "systemd"
    for name in (*UNITS, EXAMPLE):
        _put(layout.units / name, (laid / name).read_bytes())
    _put(layout.gate, (laid / "gate").read_bytes(), 0o755)
    _put(layout.command, (laid / "voxmeter").read_bytes(), 0o755)


def _put(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Whole or not at all; nothing where it is there already."""
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    rename_durably(part, path)
