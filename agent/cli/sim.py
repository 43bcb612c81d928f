"""`voxmeter sim`: the world outside the robot's skin, with its faults."""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.options import AsJson, fail, out

app = typer.Typer(help="The world outside the robot's skin, with its faults.")

Seed = Annotated[int | None, typer.Option("--seed", help="Repeats a run; by default a fresh one, which is printed.")]
Seconds = Annotated[float, typer.Option("--seconds", min=0, help="How long to go on.")]
Folder = Annotated[Path | None, typer.Option("--folder", help="Where to work; a RAM disk is fastest.")]


@app.callback()
def group() -> None:
    """The world outside the robot's skin, with its faults."""


@app.command()
def cuts(
    images: Annotated[int, typer.Option("--images", min=0, help="Crash images at least, at every write and sync of each life.")] = 0,
    seconds: Seconds = 0,
    seed: Seed = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Cut the power of robots on recorded disks, honest and lying; open what is left; look for all that was promised. Exit 1 if broken."""
    from agent.clock import SystemClock
    from agent.sim.power import campaign

    clock = SystemClock()
    told = campaign.cuts(_seed(seed, clock.seed()), images=images, seconds=seconds, clock=clock, folder=_folder(folder)).told()
    _show(as_json, told)


@app.command()
def kills(
    count: Annotated[int, typer.Option("--count", min=0, help="Kills at least.")] = 0,
    seconds: Seconds = 0,
    seed: Seed = None,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Kill robots in their turns, and at each step of start, migration, roll-up and rotation. Exit 1 if a promise is broken."""
    from agent.clock import SystemClock
    from agent.sim.power import kills as campaign

    clock = SystemClock()
    told = campaign.kill(_seed(seed, clock.seed()), count=count, seconds=seconds, clock=clock, folder=_folder(folder)).told()
    _show(as_json, told)


def _seed(given: int | None, fresh: int) -> int:
    """Printed before the run, so that one that hangs can be repeated."""
    seed = fresh if given is None else given
    typer.echo(f"seed {seed}", err=True)
    return seed


def _folder(given: Path | None) -> Path:
    memory = Path("/dev/shm")  # noqa: S108  a RAM disk: what is lost with it is a trial
    return given or (memory if memory.is_dir() else Path(tempfile.gettempdir()))


def _show(as_json: bool, told: dict[str, Any]) -> None:
    out(as_json, told, lambda console: console.print_json(data=told))
    if told["promises_broken"]:
        fail(f"{told['promises_broken']} promises broken; repeat with --seed {told['seed']}", 1)
