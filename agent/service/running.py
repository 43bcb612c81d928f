"""A running robot as those see it who steer it from afar, and what they may ask of its service: to open it anew, to restart."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from agent.app import App
from agent.clock import Clock
from agent.ports import Steering
from agent.sync.worker import Worker
from agent.talking.attending import Attending

Say = Callable[[str], None]
"""Takes one line for whoever watches the service."""

Settings = Mapping[str, Mapping[str, Any]]
"""Table -> key -> value, laid over the profile."""


Kind = Literal["reopen", "restart"]


@dataclass(frozen=True, slots=True)
class Request:
    """What is to become of the robot."""

    kind: Kind
    """`reopen`: closed when nobody has the floor, and opened in this process, as with other settings; `restart`: the process ends at once
    and its service starts another."""
    reason: str


class Asking:
    """Takes requests; the gravest that came is what is done."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._request: Request | None = None

    def ask(self, request: Request) -> None:
        if self._request is None or (self._request.kind, request.kind) == ("reopen", "restart"):
            self._request = request
        self._asked.set()

    @property
    def asked(self) -> Request | None:
        """What was asked so far."""
        return self._request

    async def wait(self) -> Request:
        """Returns when something was asked."""
        await self._asked.wait()
        assert self._request is not None
        return self._request


@dataclass(frozen=True, slots=True)
class Running:
    """A robot that is open and serves."""

    app: App
    carrying: Worker | None
    """What carries its books, over `carrying.links`; None for a robot without a backend, or not registered yet."""
    attending: Attending | None
    """Its conversation; None without a `[sound]` table."""
    folder: Path
    """Its state."""
    say: Say
    stuck: Callable[[], list[str]] = list
    """Parts that stand still, a line each."""
    asking: Asking = field(default_factory=Asking)

    def request_restart(self, reason: str) -> None:
        """Returns at once; what is under way settles, and the process is started again."""
        self.asking.ask(Request("restart", reason))

    def request_reopen(self, reason: str) -> None:
        """Likewise, when nobody has the floor and in this process: `Steers.beside` is asked again for the settings."""
        self.asking.ask(Request("reopen", reason))


class Steers(Protocol):
    """Who steers a robot from afar. One for the whole life of a process, through all openings."""

    async def beside(self) -> Settings:
        """What is laid over the profile at the opening that follows."""
        ...

    async def failed(self, why: str) -> bool:
        """The robot could not be opened with that. True: `beside` has something else now; False: it ends with the error."""
        ...

    def steering(self, app: App) -> Steering | None:
        """What its links carry besides the books; asked after the opening, before there are links."""
        ...

    def steered(self, running: Running) -> AbstractAsyncContextManager[object]:
        """Open as long as the robot is; closed before it, while its links still carry."""
        ...


class Unsteered:
    """Implements Steers: nobody does."""

    async def beside(self) -> Settings:
        return {}

    async def failed(self, why: str) -> bool:  # noqa: ARG002  the port's word
        return False

    def steering(self, app: App) -> Steering | None:  # noqa: ARG002
        return None

    def steered(self, running: Running) -> AbstractAsyncContextManager[object]:  # noqa: ARG002
        return nullcontext()


MakeSteers = Callable[[Path, Clock, Say], Steers]
"""(state folder, clock, say) -> who steers."""
