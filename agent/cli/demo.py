"""`voxmeter demo`: three hotel guests, end to end, without hardware."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from agent.cli import ask, usage
from agent.cli.options import AsJson, ProfileName, StateDir, fail, grid, out, right, run, screen
from agent.metering import report
from agent.store.reading import LedgerReader
from agent.store.verify import verify_books


def demo(
    folder: Annotated[Path, typer.Option("--out", help="Where replies, ledger and picture go.")] = Path("demo"),
    state_dir: StateDir = None,
    profile: ProfileName = "simulated",
    as_json: AsJson = False,
) -> None:
    """Let three guests speak; show what was heard, answered and billed, here and at a backend on this machine."""
    from agent import profile as profiles
    from agent.sim import hotel
    from agent.sim.real import office

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
    console.rule("the same at a billing backend on this machine")
    sent = run(office.shown(profiles.load(profile), state, folder / "backend", console.print))
    for one in sent:
        _show_sent(console, one, summed)
    if as_json:
        told = {"turns": turns, "sent": sent, "usage": summed, "records": verdict.records, "whole": verdict.whole, "picture": str(picture)}
        out(True, told, lambda _: None)
    problems = [problem for turn in turns for problem in turn["problems"]] + ([] if verdict.whole else [verdict.problem])
    problems += [f"{one['transport']}: {one['problem'] or 'the totals differ'}" for one in sent if not _agrees(one, summed)]
    if problems:
        fail("; ".join(problems), 1)


def _agrees(sent: dict[str, Any], summed: dict[str, Any]) -> bool:
    """Whether the backend's figures are the robot's, to the last digit."""
    return bool(sent["drained"]) and _by_stage(sent["totals"]) == _by_stage(summed["stages"])


def _by_stage(rows: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    return {row["stage"]: (row["billed_tokens"], row["amount"]) for row in rows}


def _show_sent(console: Console, sent: dict[str, Any], summed: dict[str, Any]) -> None:
    there = _by_stage(sent["totals"])
    table = grid("over " + sent["transport"], right("robot"), right("backend"), right("robot"), right("backend"))
    for stage, (tokens, amount) in _by_stage(summed["stages"]).items():
        held = there.get(stage, ("", ""))
        table.add_row(stage, f"{tokens} tokens", f"{held[0]} tokens", amount, held[1])
    console.print(table)
