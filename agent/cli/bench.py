"""`voxmeter bench`: measures this build beside the reference, in one run."""

from pathlib import Path
from typing import Annotated

import typer

from agent.cli.options import AsJson, ProfileName, StateDir, out, run

app = typer.Typer(help="Measure: us and the reference in one run.")


@app.callback()
def group() -> None:
    """Measure: us and the reference in one run."""


@app.command()
def turn(
    corpus: Annotated[Path, typer.Option("--corpus", help="Speech with transcripts, and golden tokens.")] = Path("tests/golden"),
    rounds: Annotated[int, typer.Option("--rounds", min=3, help="Paired rounds of the latency measurement.")] = 15,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Word errors, token agreement, latency against bare engine calls, the books' share, memory."""
    from agent.bench import turn as measured

    told = run(measured.run(corpus, rounds, profile, state_dir))
    out(as_json, told, lambda console: console.print_json(data=told))
