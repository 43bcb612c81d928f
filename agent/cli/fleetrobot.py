"""`voxmeter fleet enroll / decommission`: on the robot itself, its beginning and its end."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from agent.cli.options import AsJson, ProfileName, StateDir, out, run, screen


def enroll(
    token: Annotated[str, typer.Argument(help="The one-time token that `voxmeter billing token` printed for this robot.")],
    authority: Annotated[Path | None, typer.Option("--ca", help="PEM of who vouches for backend and broker.", show_default=False)] = None,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Make this robot known to its backend, with a certificate for a key that never leaves it. Again with the same token: goes on."""
    from agent import enrolment
    from agent import profile as profiles
    from agent.clock import SystemClock
    from agent.store.state import state_folder

    folder = state_folder(state_dir)
    told = run(enrolment.enroll(profiles.load(profile), folder, token, authority, SystemClock(), lambda line: _say(line, as_json)))
    out(as_json, told, lambda console: _enrolled(console, told))


def decommission(
    *,
    force: Annotated[bool, typer.Option("--force", help="Also where records can't be sent, or the backend doesn't answer.")] = False,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Send the last records, have the backend strike this robot off, and wipe its state. Refused while the service runs."""
    from agent import enrolment
    from agent import profile as profiles
    from agent.clock import SystemClock
    from agent.store.state import state_folder

    folder = state_folder(state_dir)
    told = run(enrolment.decommission(profiles.load(profile), folder, SystemClock(), lambda line: _say(line, as_json), force=force))
    out(as_json, told, lambda console: _gone(console, told, folder))


def _enrolled(console: Console, told: dict[str, Any]) -> None:
    certified = f"certificate until {told['certificate']}" if told["certificate"] else "no certificate"
    line = f"{told['tenant']}/{told['device']} is enrolled; account {told['account']} pays; {certified}; {len(told['operators'])} operators"
    console.print(line, soft_wrap=True)


def _gone(console: Console, told: dict[str, Any], folder: Path) -> None:
    lost = f"; {told['lost']} records were lost" if told["lost"] else ""
    lost += f"; {told['unsent']} events and results were lost" if told["unsent"] else ""
    known = "" if told["struck_off"] else "; the backend was not told"
    console.print(f"{told['device']} is out of service: {folder} is empty{lost}{known}", soft_wrap=True)


def _say(line: str, as_json: bool) -> None:
    screen(to_stderr=as_json).print(line, soft_wrap=True)
