"""`voxmeter sync`: the way of the records to the billing backend."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from agent.cli.options import AsJson, ProfileName, StateDir, cell, fail, grid, out, right, run

app = typer.Typer(help="The way of the records to the billing backend.")


@app.callback()
def group() -> None:
    """The way of the records to the billing backend."""


@app.command()
def register(
    token: Annotated[str, typer.Argument(help="The one-time token that `voxmeter billing token` printed for this robot.")],
    authority: Annotated[Path | None, typer.Option("--ca", help="PEM of the authority behind the backend's certificate.")] = None,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Make this robot known to the backend, and keep the keys its acks are signed with."""
    from agent import service

    told = run(service.register(profile, state_dir, token, authority))
    out(as_json, told, lambda console: console.print(f"{told['tenant']}/{told['device']} is registered; account {told['account']} pays"))


@app.command()
def now(state_dir: StateDir = None, profile: ProfileName = "simulated", as_json: AsJson = False) -> None:
    """Send all that waits, by the service if one runs. Exit 1 if something still waits."""
    from agent import service

    said: list[str] = []
    told = run(service.sync_now(profile, state_dir, said.append))
    out(as_json, told, lambda console: _show(console, told["waiting"]))
    if not told["drained"]:
        fail(f"{told['waiting']['records']} records wait: {told['problem']}; check the network, then: voxmeter status", 1)


@app.command()
def status(state_dir: StateDir = None, profile: ProfileName = "simulated", as_json: AsJson = False) -> None:
    """What waits, and when the backend last answered."""
    from agent import service

    del profile
    told = service.waiting_in(state_dir)
    out(as_json, told, lambda console: _show(console, told))


def _show(console: Console, told: dict[str, Any]) -> None:
    if told["records"]:
        table = grid("epoch", right("acked"), right("last"), right("wait"))
        for one in told["epochs"]:
            table.add_row(one["epoch"], *(cell(one[name]) for name in ("acked", "last", "records")))
        console.print(table)
    since = f", the oldest since {told['oldest']}" if told["oldest"] else ""
    console.print(f"waiting   {told['records']} records{since}")
    console.print(f"last ack  {told['last_ack'] or 'none yet'}")
    if told["dead_letters"]:
        console.print(f"refused   {told['dead_letters']} records, for good; see the backend's list of unresolved usage")
