"""A link that keeps what is posted and answers as it is told."""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from agent.ports import Refused, Retry


class Sent(NamedTuple):
    """What the broker has taken."""

    topic: str
    body: bytes
    retained: bool


class ScriptedLink:
    """Implements the port Poster. Answers are used up, then it takes everything."""

    def __init__(self, answers: Iterable[Retry | Refused] = ()) -> None:
        self.sent: list[Sent] = []
        self.tries: list[str] = []
        self.answers = list(answers)
        self.here = asyncio.Event()
        self.here.set()
        self.gate = asyncio.Event()
        """While it is not set a post takes for ever."""
        self.gate.set()

    async def ready(self) -> None:
        await self.here.wait()

    async def post(self, topic: str, body: bytes, *, retained: bool = False) -> Retry | Refused | None:
        self.tries.append(topic)
        await self.gate.wait()
        if self.answers:
            return self.answers.pop(0)
        self.sent.append(Sent(topic, body, retained))
        return None
