"""`voxmeter install`, `upgrade`, `uninstall`, `bundle`: onto a robot and off it, out of one file and without a network."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from agent.cli.options import AsJson, ProfileName, StateDir, out, run, screen

if TYPE_CHECKING:
    from agent.installing.steps import Machine

BundleFile = Annotated[Path, typer.Option("--bundle", help="The file that voxmeter bundle made.")]
Root = Annotated[Path, typer.Option("--root", help="Below another root than /; nothing is started there.")]


def install(
    archive: BundleFile,
    profile: Annotated[Path | None, typer.Option("--profile", help="The robot's profile; without it the bundle's own.")] = None,
    root: Root = Path("/"),
    *,
    start: Annotated[bool, typer.Option("--start", help="Start the robot, and see that it holds.")] = False,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Put voxmeter on this machine, as root. Again with the same bundle it mends what is missing."""
    from agent.installing import steps

    del state_dir
    told = run(steps.install(_machine(root, as_json=as_json), archive, profile, start=start))
    after = "it runs" if told["started"] else f"look at {told['profile']}, then: systemctl start voxmeter"
    out(as_json, told, lambda console: console.print(f"installed {told['version']}; {after}"))


def upgrade(archive: BundleFile, state_dir: StateDir = None, profile: ProfileName = "", as_json: AsJson = False) -> None:
    """Put another version beside the one that runs, and change over; back, with exit 1, if it does not hold.

    Exit 0 says that it runs. It stays on trial until it has held for some minutes: where it fails by then, the robot goes back by itself.
    """
    from agent.installing import health, steps

    del state_dir, profile
    told = run(steps.upgrade(_machine(Path("/"), as_json=as_json), archive))
    line = f"{told['version']} runs, {told['previous']} is kept" if told["upgraded"] else f"{told['version']} is installed already"
    line += f"; on trial until it has held for {health.TRIAL_SECONDS} s" if told["on_trial"] else ""
    out(as_json, told, lambda console: console.print(line))


def uninstall(
    root: Root = Path("/"),
    *,
    purge: Annotated[bool, typer.Option("--purge", help="Its state too: books, keys, words. What was not sent is lost.")] = False,
    state_dir: StateDir = None,
    profile: ProfileName = "",
    as_json: AsJson = False,
) -> None:
    """Take voxmeter off this machine. Its state and its profile stay, unless --purge."""
    from agent.installing import steps

    del state_dir, profile
    told = steps.uninstall(_machine(root, as_json=as_json), purge=purge)
    kept = f"kept: {', '.join(told['kept'])}" if told["kept"] else "nothing is left"
    out(as_json, told, lambda console: console.print(f"uninstalled; {kept}"))


def bundle(
    file: Annotated[Path, typer.Argument(help="Where to write it.", metavar="OUT.tar")],
    platform: Annotated[str, typer.Option("--platform", help="Of the robot: x86_64 or aarch64.")],
    python: Annotated[str, typer.Option("--python", help="Of the robot's system.")] = "3.11",
    state_dir: StateDir = None,
    *,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Pack all that a robot of a profile needs into one file: packages, models, units. Needs a checkout and a network."""
    from agent.installing import packing
    from agent.weights.catalog import models_folder

    del state_dir
    held = packing.bundle(file, profile, models_folder(), _say(as_json=as_json), platform=platform, python=python)
    told: dict[str, Any] = {"file": str(file), "bytes": file.stat().st_size, "version": held.version, "platform": held.platform}
    told |= {"python": held.python, "models": list(held.models), "wheels": len(held.below("wheels"))}

    def show(console: Console) -> None:
        size = f"{told['bytes'] / 1e6:.0f} MB"
        console.print(f"{file}: voxmeter {held.version} for {platform}, {told['wheels']} wheels, {len(held.models)} models, {size}")

    out(as_json, told, show)


def _machine(root: Path, *, as_json: bool) -> "Machine":
    from agent.clock import SystemClock
    from agent.installing import steps
    from agent.installing.layout import Layout

    sys.dont_write_bytecode = True  # in folders that may be removed meanwhile
    return steps.here(Layout(root), SystemClock(), _say(as_json=as_json))


def _say(*, as_json: bool) -> Callable[[str], None]:
    return screen(to_stderr=as_json).print
