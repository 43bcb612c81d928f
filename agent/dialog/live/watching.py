"""Who is told what happens in a conversation, and what the robot says in it that answers nobody."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from agent.dialog.exchange import Why
from agent.dialog.exchange.plan import Plan
from agent.dialog.turn import Floor
from agent.values import Speech, Turn

Announce = Callable[[Sequence[Speech]], Coroutine[Any, Any, int]]
"""Says it, see `Conversation.announce`."""


@dataclass(frozen=True, slots=True)
class Watching:
    """Who is told what happens."""

    apologise: Callable[[Why, Announce], Coroutine[Any, Any, None]]
    """A turn came to nothing: there is no room for its records, or that stage failed and nothing was heard."""
    turn: Callable[[Turn, Plan | None], None] = lambda _turn, _plan: None
    """A turn has ended; how it was answered, if it was."""
    floor: Callable[[Floor], None] = lambda _: None
    """Who has the floor has changed."""
    say: Callable[[str], None] = lambda _: None
    """Takes one line for whoever watches."""
