"""`voxmeter faq`: checks the FAQ of a site."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from agent.cli.options import AsJson, ProfileName, StateDir, grid, out, run, screen

app = typer.Typer(help="The site's FAQ.")

WRONG_SHOWN_MAX = 50
"""Rows a person reads; JSON has all."""


@app.callback()
def group() -> None:
    """The site's FAQ."""


@app.command()
def check(  # noqa: PLR0917  the command line library calls it by name
    faq: Annotated[Path, typer.Argument(help="The FAQ, TOML.", show_default=False)],
    questions: Annotated[Path | None, typer.Option("--questions", help="JSON: questions asked, with their entries, and strangers.")] = None,
    lang: Annotated[str | None, typer.Option("--lang", help="en, zh or id; otherwise what the FAQ is written in.")] = None,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Read an FAQ, and count how many questions it answers rightly. Without --questions, its own and their aliases."""
    del state_dir, profile
    from agent import faq as checking
    from agent.clock import SystemClock
    from agent.weights.catalog import models_folder

    told = run(checking.check(faq, questions, lang, models_folder(), SystemClock()))
    for notice in told["notices"]:
        screen(to_stderr=True).print(f"voxmeter: {notice}", soft_wrap=True)
    out(as_json, told, lambda console: _show(console, told))


def _show(console: Console, told: dict[str, Any]) -> None:
    console.print(
        f"{told['right']} of {told['asked']} right, {told['false']} of {told['strangers']} strangers answered "
        f"({told['language']}, by {told['by']})"
    )
    if told["wrong"]:
        table = grid("question", "expected", "answered", "nearest")
        for row in told["wrong"][:WRONG_SHOWN_MAX]:
            nearest = row["nearest"]
            near = "" if nearest is None else f"{nearest['id']} {nearest['score']:.3f}, ahead by {nearest['margin']:.3f}"
            table.add_row(row["text"], row["expected"] or "nobody", row["answered"] or "no answer", near)
        console.print(table)
    if len(told["wrong"]) > WRONG_SHOWN_MAX:
        console.print(f"… and {len(told['wrong']) - WRONG_SHOWN_MAX} more: --json has all")
