"""Where the fleet's room meets the rest of the robot: the book of commands, and what a command may do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # as in `books`
    from agent.contract.fleet.command import State


@dataclass(frozen=True, slots=True)
class Known:
    """A command in the book."""

    cmd_id: str
    key_id: str
    """Of the key that signed it."""
    seq: int
    op: str
    state: "State"
    request: bytes
    """The payload that was signed, JSON."""
    result: bytes
    """JSON as it is published; empty while it is open."""
    starts: int = 0
    """How often it was begun: more than once after power cuts."""


class CommandBook(Protocol):
    """Durable memory of commands, in the ledger's file. All that changes is durable when the call returns."""

    async def find(self, cmd_id: str) -> Known | None: ...

    async def highest(self, key_id: str) -> int:
        """The highest seq ever taken of that key; 0 where there was none. Survives the forgetting of commands."""
        ...

    async def floor_s(self) -> float:
        """Seconds since 1970: what was issued before may have been taken by a book that is lost, and counts as taken.

        0: nothing does. inf: no clock can tell yet when this book began, so only a connection's nonce shows that a command is new.
        """
        ...

    def room(self) -> bool:
        """Whether there is room for more than what is owed; see the port Ledger. Without it nothing is written of what is not run."""
        ...

    async def spare(self) -> bool:
        """Where there is no room: whether one more command may be written down all the same, for few wait to be run
        or, as results, for the broker.

        What it takes of the file, older results give back.
        """
        ...

    async def count(self, known: Known) -> None:
        """Counts its seq and writes down nothing else of it: it is not run, now or ever. Takes no room."""
        ...

    async def accept(self, known: Known) -> None:
        """Writes a command down, before anything of it is done. In state `accepted`."""
        ...

    async def began(self, cmd_id: str) -> None:
        """`accepted` -> `running`."""
        ...

    async def settle(self, known: Known, topic: str) -> None:
        """Writes the final state and result down, and the result into the outbox at that topic, in one transaction.

        A command that was never accepted (`rejected`) is written down as well.
        """
        ...

    async def open(self) -> Sequence[Known]:
        """Accepted or running, oldest first: at a start, what a power cut left."""
        ...

    async def drop(self, cmd_id: str) -> None:
        """Lets go a row that is no command's any more; the seq of its key stays known."""
        ...

    async def forget(self, days: int) -> None:
        """Lets go final commands older than so many days of this robot's running time or trusted time; their seq stays known."""
        ...


class Steerable(Protocol):
    """What commands may do with a robot. Everything may raise a VoxmeterError, whose line goes into the result."""

    async def diagnostics(self) -> Mapping[str, Any]:
        """How the robot is: status, health, versions, the last lines of its log. No word of any conversation."""
        ...

    async def apply(self, settings: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """Runs with these settings beside its profile, all or none: `{in_force, state, why}`. Raises BadInput if they can't be taken."""
        ...

    async def restart(self) -> None:
        """Returns at once; the agent ends in good order when results are out, and its service starts it again."""
        ...

    async def flush(self) -> Mapping[str, Any]:
        """Sends all that waits: `{drained, problem, link, waiting}`."""
        ...

    async def audit(self) -> Mapping[str, Any]:
        """Verifies the books from the first record: `{whole, epoch, records, head, problem, …}`."""
        ...

    async def set_budget(self, amount: str, period: str) -> Mapping[str, Any]:
        """Raises an alarm at 80 % of `amount` (decimal, in the rate card's currency; empty: no budget) per `day` or `month`."""
        ...

    async def set_mode(self, mode: str) -> Mapping[str, Any]:
        """auto, online or offline: where engines may be."""
        ...

    async def speak(self, text: str) -> Mapping[str, Any]:
        """Says it in the hall when nobody has the floor, metered as any speech: `{said, characters, characters_heard, session_id}`, when it
        has sounded or somebody has stopped it."""
        ...

    async def set_log_level(self, level: str) -> Mapping[str, Any]:
        """debug, info, warning or error, until the next start."""
        ...

    async def forget(self, session_id: str) -> bool:
        """Destroys the key of a session's words; False where there were none."""
        ...
