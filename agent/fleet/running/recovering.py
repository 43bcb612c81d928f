"""Takes up what a power cut left of the commands: what is to be run again is returned, all else is ended or let go, durably."""

from agent.contract.fleet.command import Command
from agent.fleet.running import Runner, Say
from agent.fleet.running.left import altered, left
from agent.ports import CommandBook, Known


async def recovered(book: CommandBook, runner: Runner, device: str, say: Say) -> list[tuple[Known, Command]]:
    """What is to be run again; what is not has ended, durably. A row that is no command's any more is dropped: nobody can be told of it."""
    again: list[tuple[Known, Command]] = []
    for known in await runner.patiently(book.open):
        if why := altered(known, device):
            say(f"a command that was cut off is dropped, what stands of it was altered: {why}")
            await runner.patiently(lambda known=known: book.drop(known.cmd_id))  # type: ignore[misc]  # of this round
            continue
        outcome, command = left(known)
        if outcome is None and command is not None:
            again.append((known, command))
        elif outcome is not None:
            await runner.settle(known, outcome)
    return again
