"""Takes commands from the link, has them judged, written down, run one at a time, and their results put where they wait for the broker."""

from collections.abc import Awaitable, Callable, Collection, Mapping

from agent.clock import Clock
from agent.fleet.commands import COMMANDS
from agent.fleet.order import Addressee
from agent.fleet.refusals import Refusal
from agent.ports import CommandBook, Delivered, Steerable

Say = Callable[[str], None]

RATE_PER_S, BURST = 20.0, 100
"""Commands of one key: a person, or a program that steers a fleet, sends a robot a few a day."""


async def _nowhere(_topic: str, _body: bytes) -> str:
    return ""


class Executor:
    """One robot's commands. `take` them, and let `run` run."""

    def __init__(
        self,
        book: CommandBook,
        robot: Steerable,
        addressee: Callable[[], Addressee],
        trusted: Callable[[], Mapping[str, bytes]],
        clock: Clock,
        *,
        nonce: Callable[[], str],
        say: Say = lambda _: None,
        allowed: Collection[str] = tuple(COMMANDS),
        post: Callable[[str, bytes], Awaitable[object]] = _nowhere,
        refused: Callable[[Refusal], None] = lambda _: None,
        rate_per_s: float = RATE_PER_S,
        burst: int = BURST,
    ) -> None:
        """`addressee`: who this robot is now, asked for each command, for its groups may change.

        `trusted`: operators' keys, key id -> raw public key. `nonce`: of the present connection, as told in the birth; empty: none.
        `post(topic, body)`: carries `accepted` and `running` straight to the link, at best effort (`Poster.post` does); final states
        go through the book's outbox. `refused`: told of commands that were not run, for the audit log; already thinned out.
        """

    def take(self, message: Delivered) -> None:
        """From the link, in the event loop: queues what came on `cmd/req/{id}`. Returns at once, raises nothing.

        The message is confirmed when `accepted`, or its refusal or cached result, is durable; what is dropped, at once.
        """

    async def run(self) -> None:
        """Until cancelled. Begins with what the last run left (`recover`)."""

    async def recover(self) -> None:
        """What a power cut left: idempotent commands are run again, others end `unknown`. `run` calls it."""
