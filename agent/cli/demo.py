"""`voxmeter demo`: three hotel guests, end to end, without hardware."""

from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli import ask, usage
from agent.cli.options import AsJson, ProfileName, StateDir, fail, out, run, screen
from agent.metering import report
from agent.store.reading import LedgerReader
from agent.store.verify import verify_books


def demo(
    folder: Annotated[Path, typer.Option("--out", help="Where replies, ledger and picture go.")] = Path("demo"),
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Let three guests speak; show what was heard, answered and billed."""
    from agent.sim import hotel

    folder.mkdir(parents=True, exist_ok=True)
    state = state_dir or folder / "state"
    console = screen(to_stderr=as_json)
    turns: list[dict[str, Any]] = []

    def show(guest: str, told: dict[str, Any]) -> None:
        turns.append(told)
        console.rule(guest)
        ask.show(console, told)

    picture = run(hotel.run(folder, profile, state, show))
    summed, verdict = report.totals(LedgerReader(state).records()), verify_books(state)
    console.rule("the books, all runs of the demo together")
    usage.show_total(console, summed)
    console.print(f"ledger   {state / 'ledger.db'}: {verdict.records} records, chain {'whole' if verdict.whole else 'BROKEN'}")
    console.print(f"replies  {folder / 'reply-1.wav'}, -2, -3")
    console.print(f"picture  {picture}")
    if as_json:
        told = {"turns": turns, "usage": summed, "records": verdict.records, "whole": verdict.whole, "picture": str(picture)}
        out(True, told, lambda _: None)
    if problems := [problem for turn in turns for problem in turn["problems"]] + ([] if verdict.whole else [verdict.problem]):
        fail("; ".join(problems), 1)
