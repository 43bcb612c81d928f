"""`voxmeter sim`: the world outside the robot's skin, with its faults."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from agent.cli.options import AsJson, ProfileName, StateDir, fail, grid, out, run, screen

if TYPE_CHECKING:
    from agent.sim.world.checks import Report

app = typer.Typer(help="The world outside the robot's skin, with its faults.")

Seed = Annotated[int | None, typer.Option("--seed", help="Repeats a run; by default a fresh one, which is printed.")]
Seconds = Annotated[float, typer.Option("--seconds", min=0, help="How long to go on.")]
Folder = Annotated[Path | None, typer.Option("--folder", help="Where to work; a RAM disk is fastest.")]

TOLD_EVERY = 50
"""Conversations between two lines about how far it is."""


@app.callback()
def group() -> None:
    """The world outside the robot's skin, with its faults."""


@app.command()
def cuts(
    *,
    images: Annotated[int, typer.Option("--images", min=0, help="Crash images at least, at every write and sync of each life.")] = 0,
    seconds: Seconds = 0,
    seed: Seed = None,
    folder: Folder = None,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Cut the power of robots on recorded disks, honest and lying; open what is left; look for all that was promised. Exit 1 if broken."""
    del profile
    from agent.clock import SystemClock
    from agent.sim.power import campaign

    clock = SystemClock()
    told = campaign.cuts(_seed(seed, clock.seed()), images=images, seconds=seconds, clock=clock, folder=_folder(folder or state_dir)).told()
    _show(as_json, told)


@app.command()
def kills(
    *,
    count: Annotated[int, typer.Option("--count", min=0, help="Kills at least.")] = 0,
    seconds: Seconds = 0,
    seed: Seed = None,
    folder: Folder = None,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Kill robots in their turns, and at each step of start, migration, roll-up and rotation. Exit 1 if a promise is broken."""
    del profile
    from agent.clock import SystemClock
    from agent.sim.power import kills as campaign

    clock = SystemClock()
    told = campaign.kill(_seed(seed, clock.seed()), count=count, seconds=seconds, clock=clock, folder=_folder(folder or state_dir)).told()
    _show(as_json, told)


@app.command()
def scenarios(
    *,
    seeds: Annotated[int, typer.Option("--seeds", min=0, help="Seeds at least, of every scenario.")] = 0,
    seconds: Seconds = 0,
    devices: Annotated[int, typer.Option("--devices", min=1, help="Robots in each.")] = 8,
    only: Annotated[list[str] | None, typer.Option("--only", help="This scenario; may be repeated.", show_default=False)] = None,
    seed: Seed = None,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Play all scenarios on simulated time, seed after seed, and check both sides' books. Exit 1 if a record is lost or billed twice."""
    del state_dir, profile
    from agent.clock import SystemClock
    from agent.sim.simulated import campaign

    clock = SystemClock()
    first = _seed(seed, clock.seed())
    told = campaign.run_campaign(seeds, seconds, clock, names=only or (), first_seed=first, devices=devices)
    out(as_json, told, lambda console: console.print_json(data=told))
    if failed := told["failed"]:
        one = failed[0]
        again = f"voxmeter sim run {one['scenario']} --simulated --devices {devices} --seed {one['seed']}"
        fail(f"{len(failed)} of {told['runs']} runs are not as they must be; repeat the first with: {again}", 1)


@app.command()
def interrupts(
    *,
    count: Annotated[int, typer.Option("--count", min=0, help="Conversations at least.")] = 0,
    seconds: Seconds = 0,
    seed: Seed = None,
    state_dir: StateDir = None,
    profile: ProfileName = "scripted",
    as_json: AsJson = False,
) -> None:
    """Interrupt and stop conversations at random moments, in virtual time, and add up their books. Exit 1 if one does not."""
    del state_dir
    from agent import profile as profiles
    from agent.clock import SystemClock
    from agent.fitting import read_cards
    from agent.sim.talk.campaign import campaign

    clock, began = SystemClock(), SystemClock().monotonic()

    def more(so_far: int) -> bool:
        if so_far % TOLD_EVERY == 0 and so_far:
            typer.echo(f"{so_far} conversations", err=True)
        return so_far < count or clock.monotonic() - began < seconds

    told = campaign(_seed(seed, clock.seed()), read_cards(profiles.load(profile)), more)
    out(as_json, told, lambda console: console.print_json(data=told))
    if broken := told["broken"]:
        fail(f"{len(broken)} of {told['runs']} do not add up; repeat the first with: --seed {broken[0]['seed']} --count 1", 1)


@app.command()
def soak(
    *,
    minutes: Annotated[float, typer.Option("--minutes", min=4, help="How long to go on.")] = 5,
    hours: Annotated[float | None, typer.Option("--hours", min=0.1, help="The same in hours.", show_default=False)] = None,
    seed: Seed = None,
    folder: Folder = None,
    state_dir: StateDir = None,
    profile: ProfileName = "hotel",
    as_json: AsJson = False,
) -> None:
    """Let guests talk to a robot with real models for hours, and see that it does not grow. Exit 1 if it does, or the books are broken."""
    from agent.clock import SystemClock
    from agent.sim.soak import watch

    clock = SystemClock()
    number = _seed(seed, clock.seed())
    with tempfile.TemporaryDirectory(dir=_folder(folder or state_dir)) as scratch:
        minutes = minutes if hours is None else hours * 60
        told = run(watch.soak(profile, number, minutes, Path(scratch), clock=clock, told=lambda line: typer.echo(line, err=True)))
    out(as_json, told, lambda console: console.print_json(data=told))
    if broken := told["broken"]:
        fail(f"{'; '.join(broken)}; repeat with --minutes {told['minutes']:g} --seed {number}", 1)


@app.command()
def fuzz(
    *,
    count: Annotated[int, typer.Option("--count", min=0, help="Messages at least, signatures taken for granted.")] = 0,
    signed: Annotated[int, typer.Option("--signed", min=0, help="Messages at least with signatures that are checked.")] = 0,
    seconds: Seconds = 0,
    seed: Seed = None,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Feed mutated commands, twins, batches and acks to their readers. Exit 1 if one breaks, or takes what is none."""
    del state_dir, profile
    from agent.clock import SystemClock
    from agent.sim.fuzz import campaign

    clock = SystemClock()
    told = campaign.fuzz(_seed(seed, clock.seed()), count=count, signed=signed, seconds=seconds, clock=clock).told()
    out(as_json, told, lambda console: console.print_json(data=told))
    if told["broken"]:
        fail(f"{len(told['broken'])} messages broke a reader or were taken wrongly; repeat with --seed {told['seed']}", 1)


@app.command("run")
def run_scenario(
    scenario: Annotated[str, typer.Argument(help="Its name, or the path of its TOML file.")],
    *,
    devices: Annotated[int, typer.Option("--devices", min=1, help="Robots.")] = 20,
    seed: Seed = None,
    simulated: Annotated[bool, typer.Option("--simulated", help="In one process and virtual time instead of real ones.")] = False,
    real: Annotated[int, typer.Option("--real", min=0, help="Of the robots, how many have real engines and are asked by guests.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folder with all books and logs.")] = False,
    folder: Folder = None,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Play a scenario with robots, broker and backend, break what it says, and check both sides' books. Exit 1 if a check fails."""
    del profile
    from agent.clock import SystemClock
    from agent.sim.world import scenario as scenarios

    clock, story = SystemClock(), scenarios.load(scenario)
    number = _seed(seed, clock.seed())
    if simulated:
        from agent.sim.simulated.campaign import run_simulated

        report = run_simulated(story, devices, number, folder=folder or state_dir)
    else:
        from agent.sim.real.view import run_real

        console = screen(to_stderr=True)
        report = run(
            run_real(story, devices, number, console=console, clock=clock, folder=_folder(folder or state_dir), real=real, keep=keep)
        )
    out(as_json, report.told(), lambda console: _show_report(console, report))
    if not report.ok:
        failed = ", ".join(check.name for check in report.checks if not check.ok)
        fail(f"{scenario}: not as it must be: {failed}; repeat with --devices {devices} --seed {number}", 1)


def _seed(given: int | None, fresh: int) -> int:
    """Printed before the run, so that one that hangs can be repeated."""
    seed = fresh if given is None else given
    typer.echo(f"seed {seed}", err=True)
    return seed


def _folder(given: Path | None) -> Path:
    memory = Path("/dev/shm")  # noqa: S108  a RAM disk: what is lost with it is a trial
    return given or (memory if memory.is_dir() else Path(tempfile.gettempdir()))


def _show_report(console: Console, report: "Report") -> None:
    table = grid("check", "", "says")
    for check in report.checks:
        table.add_row(check.name, "ok" if check.ok else "FAILED", check.says)
    console.print(table)
    console.print(", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in report.figures.items()))


def _show(as_json: bool, told: dict[str, Any]) -> None:
    out(as_json, told, lambda console: console.print_json(data=told))
    if told["promises_broken"]:
        fail(f"{told['promises_broken']} promises broken; repeat with --seed {told['seed']}", 1)
