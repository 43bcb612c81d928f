"""`voxmeter models`: the catalogue of weights, fetching and checking them."""

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from agent.cli.options import AsJson, ProfileName, StateDir, fail, grid, out, right
from agent.weights import catalog, fetch, verify

app = typer.Typer(help="Weights: list, fetch, check.")

Names = Annotated[list[str] | None, typer.Argument(help="Models; without names, all that the profile and `tokens` need.")]

Also = Annotated[list[str] | None, typer.Option("--also", help="A model to fetch besides.")]


@app.command("list")
def list_(state_dir: StateDir = None, profile: ProfileName = "simulated", as_json: AsJson = False) -> None:
    """What can be fetched: role, size, licence, and whether it is here."""
    del state_dir, profile
    root = catalog.models_folder()
    rows = [_row(model, verify.problems(model, root, thorough=False)) for model in catalog.read().model]
    out(as_json, {"folder": str(root), "models": rows}, lambda console: _show(console, rows, str(root)))


@app.command()
def pull(
    names: Names = None, also: Also = None, state_dir: StateDir = None, profile: ProfileName = "simulated", as_json: AsJson = False
) -> None:
    """Fetch what is not here yet, check it, convert it."""
    del state_dir
    root = catalog.models_folder()
    wanted = _wanted(names, profile) + [catalog.read().find(name) for name in also or []]
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    for model in wanted:
        if verify.problems(model, root, thorough=False):
            Console(stderr=True).print(f"fetching {model.name}: {model.size / 1e6:.1f} MB, {model.licence}", highlight=False)
    with Progress(*columns, console=Console(stderr=True)) as bars:
        fetched = fetch.pull(wanted, root, _shown(bars))
    for model in wanted:
        verify.paths(model, root)
    told = {"folder": str(root), "fetched": fetched, "ready": [model.name for model in wanted]}
    out(as_json, told, lambda console: console.print(f"ready in {root}: {', '.join(told['ready'])} ({len(fetched)} fetched now)"))


@app.command("verify")
def verify_(names: Names = None, state_dir: StateDir = None, profile: ProfileName = "simulated", as_json: AsJson = False) -> None:
    """Hash every file again. Exit 1 names what is missing, cut short or altered."""
    del state_dir
    root = catalog.models_folder()
    rows = [_row(model, verify.problems(model, root, thorough=True)) for model in _wanted(names, profile)]
    bad = [f"{row['name']}: {problem}" for row in rows for problem in row["problems"]]
    out(as_json, {"folder": str(root), "models": rows}, lambda console: _show(console, rows, str(root)))
    if bad:
        fail(f"{'; '.join(bad)}; run: voxmeter models pull", 1)


def _wanted(names: list[str] | None, profile: str) -> list[catalog.Model]:
    known = catalog.read()
    if names:
        return [known.find(name) for name in names]
    from agent.fitting import models_of

    return models_of(profile, known)


def _row(model: catalog.Model, problems: list[str]) -> dict[str, Any]:
    files = [{"name": file.name, "sha256": file.sha256, "size": file.size, "source": file.source} for file in model.file]
    about = {"name": model.name, "role": model.role, "engine": model.engine, "licence": model.licence, "about": model.about}
    return about | {"size": model.size, "files": files, "ready": not problems, "problems": problems}


def _show(console: Console, rows: list[dict[str, Any]], folder: str) -> None:
    table = grid("model", "role", right("MB"), "licence", "here", "sha256", caption=folder)
    for row in rows:
        state = "yes" if row["ready"] else "; ".join(row["problems"])
        table.add_row(row["name"], row["role"], f"{row['size'] / 1e6:.1f}", row["licence"], state, row["files"][0]["sha256"][:12])
    console.print(table)
    for row in rows:
        console.print(f"{row['name']}: {row['about']}")


def _shown(bars: Progress) -> fetch.Progress:
    """A bar per step; on a pipe, a line per step."""
    tasks: dict[str, Any] = {}

    def progress(what: str, done: int, of: int) -> None:
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=None)
            if not bars.console.is_terminal:
                bars.console.print(what)
        bars.update(tasks[what], completed=done, total=of or None)

    return progress
