"""`voxmeter ask`: one metered turn out of a WAV file."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.cli.options import AsJson, ProfileName, StateDir, cell, fail, grid, out, right, run

FIGURES = ("input_tokens", "cached_tokens", "output_tokens", "billed_tokens", "amount", "started_ms", "first_output_ms", "duration_ms")
HEADINGS = ("in", "cached", "out", "billed", "amount", "began ms", "first ms", "took ms")


def ask(
    file: Annotated[Path, typer.Argument(help="What the customer says: a WAV of any rate, width and channel count.")],
    out_file: Annotated[Path | None, typer.Option("--out", help="Where to write the spoken reply.")] = None,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Hear a question, answer it aloud, and put what it used on the books."""
    from agent import service

    told = run(service.ask_once(file, out_file, profile, state_dir))
    out(as_json, told, lambda console: show(console, told))
    if told["problems"]:
        fail("; ".join(told["problems"]), 1)
    if not told["transcript"]:
        fail(f"{file}: no speech heard; only the listening is on the books", 1)


def show(console: Console, told: dict[str, Any]) -> None:
    """A turn for a person."""
    console.print(Text.assemble(("heard     ", "bold"), told["transcript"] or "(no speech)"))
    console.print(Text.assemble(("answered  ", "bold"), told["reply"].strip() or "(nothing)"))
    console.print(stage_table(told))
    for note in told["notes"]:
        console.print(f"note: {note}")
    if told["reply_audio"]:
        console.print(f"reply in {told['reply_audio']}")


def stage_table(told: dict[str, Any]) -> Table:
    """Tokens, money and milliseconds per stage."""
    table = grid("stage", "outcome", *(right(heading) for heading in HEADINGS))
    for stage in told["stages"]:
        table.add_row(stage["stage"], stage["outcome"], *(cell(stage[figure]) for figure in FIGURES))
    table.add_section()
    total = told["total"]
    table.add_row("total", "", "", "", "", total["billed_tokens"], f"{total['amount']} {total['currency']}")
    latency = told["latency"]["speech_end_to_first_audio_ms"]
    table.caption = None if latency is None else f"last sample to first sound: {latency} ms"
    return table
