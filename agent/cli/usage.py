"""`voxmeter usage`: what is on the books of this robot."""

import sys
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from agent.cli.options import AsJson, ProfileName, StateDir, cell, fail, grid, out, right
from agent.errors import BadInput
from agent.metering import report
from agent.metering.report import export_csv
from agent.metering.when import When
from agent.store.reading import LedgerReader
from agent.store.state import state_folder
from agent.store.verify import verify_books

app = typer.Typer(help="The ledger: list, total, verify, explain, export.")


@app.command("list")
def list_(
    type_: Annotated[str | None, typer.Option("--type", help="Only records of this type, such as usage.")] = None,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """The records, oldest first. With --json: one array of bodies as stored."""
    del profile
    reader = LedgerReader(state_folder(state_dir))
    if as_json:
        _write_bodies(reader, type_)
    else:
        out(False, None, lambda console: _show_records(console, _of_type(reader.timed(), type_)))


@app.command()
def total(state_dir: StateDir = None, profile: ProfileName = "simulated", as_json: AsJson = False) -> None:
    """Sums by stage, model and placement, and the money they come to."""
    del profile
    summed = report.totals(LedgerReader(state_folder(state_dir)).records())
    out(as_json, summed, lambda console: show_total(console, summed))


@app.command()
def verify(state_dir: StateDir = None, profile: ProfileName = "simulated", as_json: AsJson = False) -> None:
    """Check every epoch from its beginning or its signed checkpoint. Exit 1 names the first bad record."""
    del profile
    verdict = verify_books(state_folder(state_dir))
    told = {"whole": verdict.whole, "records": verdict.records, "head": verdict.head, "epoch": verdict.epoch}
    told |= {"sequence": verdict.sequence, "problem": verdict.problem or None, "salvageable": verdict.salvageable}
    out(as_json, told, lambda console: console.print(f"{verdict.records} records good, head {verdict.head}"))
    if not verdict.whole:
        where = "" if verdict.sequence is None else f"sequence {verdict.sequence}: "
        todo = "keep a copy; the robot salvages what is good" if verdict.salvageable else "keep a copy and ask your supplier"
        fail(f"{where}{verdict.problem}; {todo}", 1)


@app.command()
def explain(
    what: Annotated[str, typer.Argument(help="A sequence number, or a turn_id.")],
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """How a record, or each record of a turn, came to its price."""
    del profile
    told = report.explain(LedgerReader(state_folder(state_dir)).records("usage"), what)
    out(as_json, told, lambda console: _show_explained(console, told))


@app.command()
def export(
    file: Annotated[Path | None, typer.Option("--out", help="A file; without it, standard output.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Usage records as CSV; without it, all records as JSON lines, as stored.")] = False,
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """The books for another program: JSON lines, or a table of the usage records."""
    del profile
    if as_csv and as_json:
        raise BadInput("--csv and --json exclude each other", "give one of them")
    reader = LedgerReader(state_folder(state_dir))
    try:
        with file.open("w", encoding="utf-8", newline="") if file else nullcontext(sys.stdout) as stream:
            if as_csv:
                export_csv(reader.timed(), stream)
            else:
                stream.writelines(body.decode("utf-8", "backslashreplace") + "\n" for body in reader.bodies())
    except BrokenPipeError:
        raise  # whoever reads our output has seen enough
    except OSError as error:
        raise BadInput(f"{file}: {error.strerror}", "name a file in a folder you can write to") from error


def _write_bodies(reader: LedgerReader, type_: str | None) -> None:
    """As stored: nothing is decoded and encoded again, and a million records do not stand in memory."""
    sys.stdout.write("[")
    for index, body in enumerate(reader.bodies(type_)):
        sys.stdout.write(("," if index else "") + "\n" + body.decode("utf-8", "backslashreplace"))
    sys.stdout.write("\n]\n")


def _show_records(console: Console, timed: Iterable[tuple[dict[str, Any], When]]) -> None:
    table = grid(right("sequence"), "type", "stage", "turn", "outcome", right("billed"), right("amount"), "when")
    for record, when in timed:
        given = record["data"]
        columns = (given.get(key) for key in ("stage", "turn_id", "outcome", "billed_tokens", "amount"))
        short = record["type"].split(".")[1]
        table.add_row(str(int(record["sequence"])), short, *(cell(column) for column in columns), _when(record, when))
    console.print(table)


def _of_type(timed: Iterable[tuple[dict[str, Any], When]], type_: str | None) -> Iterable[tuple[dict[str, Any], When]]:
    wanted = type_ if type_ is None or type_.startswith("voxmeter.") else f"voxmeter.{type_}.v1"
    return ((record, when) for record, when in timed if wanted in (None, record["type"]))


def _when(record: dict[str, Any], when: When) -> str:
    """The time it carries, else the bounds that anchors give, else what the boot clock said."""
    if "time" in record:
        return str(record["time"])
    if when.earliest or when.latest:
        return f"{report.spoken(when.earliest) or '?'} to {report.spoken(when.latest) or '?'}"
    return f"boot {record['bootid'][:8]} + {int(record['boottimems']) / 1000:.1f} s"


def show_total(console: Console, summed: dict[str, Any]) -> None:
    """Totals for a person."""
    figures = {
        "records": "records",
        "input_tokens": "in",
        "cached_tokens": "cached",
        "output_tokens": "out",
        "audio_in_ms": "heard ms",
        "audio_out_ms": "spoken ms",
        "characters": "characters",
        "billed_tokens": "billed",
    }
    table = grid("stage", "model", *(right(heading) for heading in figures.values()), right("amount"))
    for row in summed["stages"]:
        amount = f"{row['amount']} {row['currency']}"
        table.add_row(row["stage"], f"{row['model']} ({row['placement']})", *(cell(row[figure]) for figure in figures), amount)
    table.add_section()
    for amount in summed["total"]:
        table.add_row("total", *[""] * 8, amount["billed_tokens"], f"{amount['amount']} {amount['currency']}")
    console.print(table)
    if summed["unresolved"]:
        console.print(f"{summed['unresolved']} records have no amount: their figures or prices are unknown")


def _show_explained(console: Console, told: list[dict[str, Any]]) -> None:
    for record in told:
        console.print(f"sequence {record['sequence']}: {record['stage']} {record['outcome']}, {record['model']} on {record['placement']}")
        table = grid("class", right("quantity"), right("unit price"), right("coefficient"), right("amount"), caption=record["says"])
        for charge in record["charges"]:
            table.add_row(*(charge[key] for key in ("class", "quantity", "unit_price", "coefficient", "amount")))
        console.print(table)
