"""The options every command takes, and how every command ends: JSON alone on stdout, or one plain line on stderr."""

import asyncio
import io
import json
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich import box
from rich.console import Console
from rich.table import Column, Table

T = TypeVar("T")

StateDir = Annotated[Path | None, typer.Option("--state-dir", help="The device's state folder.", show_default=False)]
ProfileName = Annotated[str, typer.Option("--profile", help="A device profile: its name or its path.")]
WIDTH = 140
"""Columns when the output is a file or a pipe."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON alone.")]


def out(as_json: bool, value: Any, show: Callable[[Console], None]) -> None:
    """Prints the value as JSON, or shows it to a person."""
    if as_json:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # JSON is UTF-8, whatever the terminal speaks
        sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=1) + "\n")
    else:
        show(screen())


def run(work: Coroutine[Any, Any, T], told: Callable[[], None] = lambda: None) -> T:
    """Runs a command's work; Ctrl-C and SIGTERM, however often, let it settle what it began and then end it.

    asyncio's own handling gives up at the second Ctrl-C, and the record of the turn with it. `told` is called in the signal's handler.
    """

    under_way: list[asyncio.Task[Any]] = []
    signals: list[int] = []

    def stop(number: int, _frame: object) -> None:
        told()
        signals.append(number)
        while under_way:  # once: a second signal must not hurry the settling, whose waits have limits of their own
            task = under_way.pop()
            task.get_loop().call_soon_threadsafe(task.cancel)

    async def stoppable() -> T:
        under_way.extend(filter(None, [asyncio.current_task()]))
        if signals:  # it came before there was anything to cancel
            work.close()
            raise asyncio.CancelledError
        return await work

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        return asyncio.run(stoppable())
    except asyncio.CancelledError as error:
        raise KeyboardInterrupt from error
    finally:
        under_way.clear()


def fail(line: str, status: int) -> NoReturn:
    """One line on stderr and the exit status of the contract: 1 a finding, 2 wrong usage or unreadable input."""
    sys.stdout.flush()
    sys.stderr.write(f"voxmeter: {' '.join(line.split())}\n")
    raise SystemExit(status)


def screen(*, to_stderr: bool = False) -> Console:
    """A console that takes text as it is, and is wide enough for our tables where nobody says how wide it is."""
    console = Console(highlight=False, markup=False, emoji=False, stderr=to_stderr)
    return console if console.is_terminal else Console(highlight=False, markup=False, emoji=False, stderr=to_stderr, width=WIDTH)


def grid(*columns: Column | str, caption: str | None = None) -> Table:
    """A table that stays readable when pasted."""
    return Table(*columns, caption=caption, box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")


def right(name: str) -> Column:
    """A column of figures."""
    return Column(name, justify="right", no_wrap=True)


def cell(figure: object) -> str:
    return "" if figure is None else str(figure)
