"""A broker in memory: QoS 1 both ways, persistent sessions, one queue that the backend's consumers share.

It behaves as mosquitto does when it matters: it keeps what it has on its disk at intervals, so a kill takes back the last moments;
two connections under one name do not live side by side; what nobody confirmed is delivered again.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from agent.sim.simulated.network import Broken, Line, Trace

AUTOSAVE_S = 1.0
"""What a kill may take back: PUBACKed messages and confirmations of so long."""

QUEUED_MAX = 1_000
"""Messages kept for a robot that is away; the oldest stay, as with mosquitto."""


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """What is published, with its properties."""

    what: str
    """`batch`, `mark`, `ack`; of anything else the topic below the device's own."""
    tenant: str
    device: str
    content: bytes = field(repr=False)
    marks: Mapping[str, str] = field(repr=False)
    correlation: bytes
    retained: bool = False


@dataclass(slots=True)
class Session:
    """What is kept for a robot, whether it is connected or not."""

    kept: list[Message] = field(default_factory=list)
    """For it, not confirmed by it, in order."""
    line: Line | None = None
    fresh: asyncio.Event = field(default_factory=asyncio.Event)
    """Something has been added."""


Deliver = Callable[[Message], "asyncio.Future[None] | None"]
"""Gives a robot a message; what it returns is done when the robot has confirmed it, None is at once."""

Tamper = Callable[[Message], Sequence[Message]]
"""What a broker in the wrong hands gives a robot in place of a message."""

SHARED = ("batch", "mark", "event", "state", "cmd", "twin")
"""How topics begin that the backend's consumers share."""


class Broker:
    """Up from the start."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self.up = True
        self._sessions: dict[str, Session] = {}
        self._shared: deque[Message] = deque()
        """For the consumers, taken by nobody."""
        self._taken: dict[Message, None] = {}
        """By a consumer, not confirmed."""
        self._wanted = asyncio.Event()
        self.listener: Callable[[Message], None] = lambda _: None
        """Whoever reads along: the operator's desk stands beside the broker."""
        self.tamper: Tamper | None = None
        self._disk: tuple[tuple[Message, ...], dict[str, tuple[Message, ...]]] = ((), {})
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._begin(self._saving())

    def connect(self, client: str, line: Line, deliver: Deliver, will: Message | None = None) -> None:
        """A robot is here, over this line; whoever had its name is put out. Raises Broken where there is no broker.

        `will` is published when the line is lost.
        """
        if not self.up:
            raise Broken("connection refused")
        session = self._sessions.setdefault(client, Session())
        if session.line is not None and session.line is not line:
            self._trace.note("taken over", client)
            session.line.cut()
        session.line = line
        self._begin(self._serve(session, line, deliver, will))

    def publish(self, message: Message) -> None:
        """Kept for the consumers, and given to the listener. Raises Broken where there is no broker."""
        if not self.up:
            raise Broken("connection refused")
        self.listener(message)
        if message.what.split("/")[0] not in SHARED:
            return
        self._shared.append(message)
        self._wanted.set()

    async def take(self) -> Message:
        """The next message for a consumer, its until confirmed or given back."""
        while not (self.up and self._shared):
            self._wanted.clear()
            await self._wanted.wait()
        message = self._shared.popleft()
        self._taken[message] = None
        return message

    def confirm(self, message: Message) -> None:
        """A consumer's PUBACK."""
        self._taken.pop(message, None)

    def give_back(self, message: Message) -> None:
        """Its consumer is gone: somebody else gets it, again."""
        if message in self._taken:
            del self._taken[message]
            self._shared.appendleft(message)
            self._wanted.set()

    def answer(self, message: Message) -> None:
        """Kept for a robot; lost where it never had a session, or where there is no broker."""
        session = self._sessions.get(message.device)
        if self.up and session is not None and len(session.kept) < QUEUED_MAX:
            session.kept.append(message)
            session.fresh.set()

    async def kill(self, down_s: float, *, forget: bool = False) -> None:
        """Gone with what is not on its disk, with its disk too if it is to forget; back after a while."""
        self._trace.note("broker killed", forget)
        self.up = False
        for session in self._sessions.values():
            if session.line is not None:
                session.line.cut()
        shared, sessions = ((), {}) if forget else self._disk
        self._shared, self._taken = deque(shared), {}
        self._sessions = {client: Session(list(kept)) for client, kept in sessions.items()}
        self._disk = (tuple(shared), {client: tuple(kept) for client, kept in sessions.items()})
        await asyncio.tasks.sleep(down_s)
        self.up = True
        self._wanted.set()

    async def aclose(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _saving(self) -> None:
        while True:
            await asyncio.tasks.sleep(AUTOSAVE_S)
            if self.up:
                held = (*self._taken, *self._shared)
                self._disk = (held, {client: tuple(session.kept) for client, session in self._sessions.items()})

    async def _serve(self, session: Session, line: Line, deliver: Deliver, will: Message | None) -> None:
        """Sends what is kept for a robot over this line, all of it anew, as long as the line holds."""
        sent: dict[Message, None] = {}
        while not line.broken.done():
            session.fresh.clear()
            for message in session.kept:
                if message not in sent:
                    sent[message] = None
                    self._begin(self._send(session, line, deliver, message))
            fresh = asyncio.ensure_future(session.fresh.wait())
            await asyncio.wait((fresh, line.broken), return_when=asyncio.FIRST_COMPLETED)
            fresh.cancel()
        if will is not None and self.up:
            self.listener(will)

    async def _send(self, session: Session, line: Line, deliver: Deliver, message: Message) -> None:
        with suppress(Broken):
            await line.carry("down")
            confirmed = [deliver(one) for one in (self.tamper(message) if self.tamper else [message])]
            for one in confirmed:
                if one is not None:
                    await asyncio.wait((one, line.broken), return_when=asyncio.FIRST_COMPLETED)
            await line.carry("up")
            if message in session.kept:
                session.kept.remove(message)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda ended: self._tasks.pop(ended, None))
