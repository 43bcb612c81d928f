"""Shows what becomes of commands and what robots say: a line that changes on a terminal, plain lines elsewhere, a table at the end."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from agent.cli.options import cell, grid, right

if TYPE_CHECKING:
    from agent.clock import Clock
    from agent.desk.news import News, Told
    from agent.desk.sending import Order, Sending

LINE_S = 2.0
"""Between two plain lines of progress."""

FAILURES_SHOWN = 3
"""The last ones, while it goes on."""

ROWS_MAX = 60
"""Of the table at the end; of a larger fleet only those that did not succeed are shown."""

TEXT_MAX = 200
"""Characters of a robot's words in a table."""


def progress_line(sending: "Sending") -> str:
    told = sending.progress()
    parts = [f"{told.answered} of {told.asked} answered", f"{told.succeeded} succeeded", f"{told.failed} failed"]
    parts += [f"{told.under_way} under way"] * bool(told.under_way) + [f"{told.offline} offline"] * bool(told.offline)
    return ", ".join(parts)


def failures(sending: "Sending") -> list[str]:
    """A line each, of those that finally did not succeed."""
    return [
        f"{order.device}: {(told := sending.outcome(order))['state']}  {_why(told)}"
        for order in sending.orders
        if order.final and not order.succeeded
    ]


@contextlib.contextmanager
def following(console: Console, sending: "Sending", clock: "Clock") -> Iterator[Callable[[], None]]:
    """Gives what is to be called now and then while the sending goes on."""
    if not console.is_terminal:
        yield _lines(console, sending, clock)
        return
    with Live(console=console, auto_refresh=False, transient=True) as picture:

        def show() -> None:
            last = [Text(line[:TEXT_MAX]) for line in failures(sending)[-FAILURES_SHOWN:]]
            picture.update(Group(Text(progress_line(sending)), *last), refresh=True)

        yield show


def _lines(console: Console, sending: "Sending", clock: "Clock") -> Callable[[], None]:
    """One when something has changed, not more often than people read."""
    told, at = "", clock.monotonic()

    def show() -> None:
        nonlocal told, at
        if clock.monotonic() - at < LINE_S:
            return
        line, at = progress_line(sending), clock.monotonic()
        if line != told:
            told = line
            console.print(line, soft_wrap=True)

    return show


def outcomes(console: Console, sending: "Sending") -> None:
    """What became of it."""
    shown: Sequence[Order] = sending.orders
    if len(shown) > ROWS_MAX:
        shown = [order for order in shown if not order.succeeded][:ROWS_MAX]
    table = grid("device", "state", "answer")
    for order in shown:
        told = sending.outcome(order)
        table.add_row(order.device, told["state"], _answer(told))
    if shown:
        console.print(table)
    console.print(progress_line(sending))


def _answer(told: dict[str, Any]) -> str:
    words = json.dumps(told["result"], ensure_ascii=False) if told["state"] == "succeeded" else _why(told)
    return words if len(words) <= TEXT_MAX else words[: TEXT_MAX - 1] + "…"


def _why(told: dict[str, Any]) -> str:
    return ": ".join(filter(None, (told["code"], told["message"])))


def robots(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """The table of `fleet list`."""
    table = grid("device", "", "up for", "software", "clock", "groups", "twin", "hears", right("waiting"), right("oldest"))
    for row in rows:
        measured = row.get("telemetry", {})
        up = _span(measured.get("uptime_s"))
        here = "present" if row["present"] else f"away ({row.get('why') or 'unknown'})"
        hears = {True: "yes", False: "no"}.get(measured.get("microphone", {}).get("hearing"), "")
        waiting = (cell(measured.get("waiting_records")), _span(measured.get("waiting_oldest_s")))
        about = (row.get("software", ""), row.get("clock", ""), ", ".join(row.get("groups", ())))
        table.add_row(row["device"], here, up, *about, _twin(row.get("twin")), hears, *waiting)
    console.print(table)
    console.print(f"{sum(row['present'] for row in rows)} of {len(rows)} present")


def _twin(told: dict[str, Any] | None) -> str:
    if not told:
        return ""
    return str(told["in_force"]) if told["state"] in ("applied", "none") else f"{told['in_force']} ({told['version']} {told['state']})"


def _span(seconds: int | None) -> str:
    if seconds is None:
        return ""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def news_line(news: "News") -> str | None:
    """What `fleet watch` says of it; None for what is not worth a line."""
    said = f"{news.what} was taken away" if news.told is None else _said(news.told)
    return said and f"{news.device}  {said}"


def _said(told: "Told") -> str | None:
    from agent.contract.fleet.alarm import Alarm
    from agent.contract.fleet.command import Result
    from agent.contract.fleet.presence import Birth, Presence
    from agent.contract.fleet.twin import Reported

    said = None
    match told:
        case Birth():
            said = f"here: {told.software}, clock {told.clock}, connection {told.conn_id.boot}.{told.conn_id.connect}"
        case Presence():
            said = None if told.online else f"gone: {told.why or 'it does not say why'}"
        case Alarm():
            said = f"alarm {told.name} {told.state}: {told.message}"
        case Result():
            said = f"{told.op} {told.cmd_id}  {told.state}  {_answer(told.model_dump())}"
        case Reported():
            said = f"twin {told.version} {told.state}{': ' * bool(told.why)}{told.why}"
        case _:
            pass
    return said


def news_json(news: "News") -> dict[str, Any]:
    told = news.told.model_dump(exclude_none=True) if news.told is not None and hasattr(news.told, "model_dump") else news.told
    return {"device": news.device, "what": news.what, "told": told}
