"""`voxmeter bench`: measures this build beside the reference, in one run."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from agent.cli.options import AsJson, ProfileName, StateDir, cell, grid, out, right, run

app = typer.Typer(help="Measure: us and the reference in one run.")


@app.callback()
def group() -> None:
    """Measure: us and the reference in one run."""


@app.command()
def ledger(
    *,
    records: Annotated[int, typer.Option("--records", min=1000, help="In the ledger that is opened after a kill.")] = 1_000_000,
    rounds: Annotated[int, typer.Option("--rounds", min=3, help="Paired rounds of appending.")] = 15,
    folder: Annotated[Path, typer.Option("--folder", help="On the disk that is measured.")] = Path(),
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Appends against bare SQLite, verification, start after a kill, wear of the disk."""
    del state_dir, profile
    from agent.bench import ledger as measured

    told = run(measured.run(records, rounds, folder))
    out(as_json, told, lambda console: console.print_json(data=told))


@app.command()
def sync(
    *,
    records: Annotated[int, typer.Option("--records", min=1000, help="In the backlog.")] = 200_000,
    robots: Annotated[
        int, typer.Option("--robots", min=0, help="In the fleet that comes back at once, on simulated time; 0: none.")
    ] = 2_000,
    folder: Annotated[Path, typer.Option("--folder", help="On the disk that is measured.")] = Path(),
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """A backlog to a real backend over MQTT and HTTPS against bare inserts; one record on an idle robot; a whole fleet at once."""
    del state_dir, profile
    from agent.bench import sync as measured
    from agent.clock import SystemClock

    told = run(measured.run(records, folder))
    if robots:
        told["stampede"] = measured.fleet(robots, SystemClock().seed())
    out(as_json, told, lambda console: console.print_json(data=told))


@app.command()
def fleet(
    *,
    pings: Annotated[int, typer.Option("--pings", min=100, help="One after the other, and as many bare round trips.")] = 1_000,
    commands: Annotated[int, typer.Option("--commands", min=100, help="Given to one robot as fast as it takes them.")] = 2_000,
    folder: Annotated[Path, typer.Option("--folder", help="On the disk that is measured.")] = Path(),
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Command to result on an idle robot, against a bare round trip through the same broker; commands a second into the book."""
    del state_dir, profile
    from agent.bench import fleet as measured

    told = run(measured.run(pings, commands, folder))
    out(as_json, told, lambda console: _show_fleet(console, told))


def _show_fleet(console: Console, told: dict[str, Any]) -> None:
    table = grid("", right("p50 ms"), right("p99 ms"), right("most ms"))
    rows = {"command to result": "command", "bare round trip": "bare", "a number taken": "numbering", "to reach": "reach"}
    for name, key in rows.items():
        table.add_row(name, *(cell(told[key].get(column)) for column in ("p50_ms", "p99_ms", "max_ms")))
    console.print(table)
    console.print(f"{told['ratio_p50']} times the bare round trip; {told['commands']['per_s']} commands/s verified, run and written down")


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


@app.command()
def engines(
    *,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Paired rounds of each measurement.")] = 8,
    genai: Annotated[
        Path | None, typer.Option("--genai", help="A model built for onnxruntime-genai, see docs/genai-reference.md.", file_okay=False)
    ] = None,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Recogniser, language model and voice, each against the plain way of running the same weights on the same threads."""
    del state_dir, profile
    from agent.bench.engines import asr, llm, tts
    from agent.weights import catalog

    models = catalog.models_folder()
    told = {"asr": asr.measure(models, rounds), "llm": llm.measure(models, rounds, genai), "tts": tts.measure(models, rounds)}
    out(as_json, told, lambda console: console.print_json(data=told))


@app.command()
def idle(
    *,
    seconds: Annotated[float, typer.Option("--seconds", min=10, help="Over which it is measured.")] = 60,
    state_dir: StateDir = None,
    profile: ProfileName = "hotel",
    as_json: AsJson = False,
) -> None:
    """What a robot that listens takes of a core while nobody speaks, through virtual sound devices."""
    del state_dir
    from agent.bench import idle as measured

    told = run(measured.run(profile, seconds))
    out(as_json, told, lambda console: console.print_json(data=told))


@app.command()
def talk(
    *,
    corpus: Annotated[Path, typer.Option("--corpus", help="Questions, small talk, speech with transcripts.")] = Path("tests/golden"),
    questions: Annotated[int, typer.Option("--questions", min=1, help="Asked aloud, in real time.")] = 110,
    interruptions: Annotated[int, typer.Option("--interruptions", min=0, help="Of stories the robot tells.")] = 40,
    echo_minutes: Annotated[float, typer.Option("--echo-minutes", min=0, help="Of the robot's own speech, heard by itself.")] = 10,
    voices: Annotated[int, typer.Option("--voices", min=1, max=4, help="66 questions each, in the study of who is cut off.")] = 4,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of all that is chosen.")] = 1,
    picture: Annotated[Path | None, typer.Option("--picture", help="A PNG of first sounds and interruptions.", dir_okay=False)] = None,
    state_dir: StateDir = None,
    profile: ProfileName = "hotel",
    as_json: AsJson = False,
) -> None:
    """A live robot in a hall of virtual sound devices: first sounds, interruptions, its own echo, who is cut off, what is misheard."""
    del state_dir
    from agent.bench import talk as measured

    measuring = measured.run(
        profile,
        corpus,
        questions=questions,
        interruptions=interruptions,
        echo_minutes=echo_minutes,
        voices=voices,
        seed=seed,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
        picture=picture,
    )
    told = run(measuring)
    out(as_json, told, lambda console: console.print_json(data=told))
