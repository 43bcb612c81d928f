"""Decides what becomes of a command that was taken and not ended, because the robot was cut off: its end, or that it is run again."""

from contextlib import suppress

from agent.contract.fleet.command import Command, parsed
from agent.errors import BadInput
from agent.fleet.commands import spec
from agent.fleet.running import Outcome
from agent.fleet.running.results import told
from agent.ports import Known

STARTS_MAX = 3
"""A command that was begun so often and never ended takes the robot down with it: it is not begun again."""


def altered(known: Known, device: str) -> str:
    """Why it is not the command that was taken; empty where nothing speaks against it."""
    try:
        told(known, device, "unknown")
    except BadInput as error:
        return error.message
    with suppress(BadInput):  # of what can't be read any more at least the end is told
        command = parsed(known.request, Command, "the command")
        if (command.cmd_id, command.op, command.seq) != (known.cmd_id, known.op, known.seq):
            return f"it is not what key {known.key_id} signed"
    return "" if isinstance(known.starts, int) else "nobody knows how often it was begun"


def left(known: Known) -> tuple[Outcome | None, Command | None]:
    """What becomes of a command that was not ended: its end, or what is to be run again."""
    try:
        command = parsed(known.request, Command, "the command")
        again = spec(known.op).idempotent
    except (BadInput, KeyError):
        return Outcome("unknown", "cut-off", "the robot was cut off, and does not know this command any more"), None
    if not again:
        done = "before it began" if known.state == "accepted" else "while it ran: it may have been done"
        return Outcome("unknown", "cut-off", f"the robot was cut off {done}"), None
    if known.starts >= STARTS_MAX:
        return Outcome("unknown", "gave-up", f"the robot went down {known.starts} times while it ran"), None
    return None, command
