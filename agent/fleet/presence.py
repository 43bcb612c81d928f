"""Tells who watches the fleet that this robot is there: a birth after each connect, a goodbye before it leaves, a will for all else.

    connect n: will (online false, n) -> welcomed: birth n, presence online n, cmd/sync, twin/reported -> goodbye n | lost: the will n

`state/birth` and `state/presence` are kept by the broker and come through any queue in any order. Each carries its connection's
number, which only grows, also over starts; so an older will says nothing against a newer birth (`contract.fleet.presence.present`).
`online` true after a birth is for those who read `state/presence` alone. A try to connect takes a number of its own: the broker may
have heard it, will included, although we never heard the broker.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, NamedTuple

from agent.clock import Clock
from agent.contract import wire
from agent.contract.fleet import presence as told
from agent.contract.fleet.presence import Birth, ConnId
from agent.errors import VoxmeterError
from agent.ports import CommandBook, Poster, Refused, Retry

NONCE_BYTES = 16
"""Nobody guesses it, and nobody finds two alike."""

AGAIN_SECONDS = 5.0
"""Before what the broker did not take is told again."""

GOODBYE_SECONDS = 2.0
"""A robot is stopped within 5 s; if nobody hears the goodbye, the will is as true."""

Why = Literal["stopped", "restarting", "reopening", "decommissioned"]

Say = Callable[[str], None]


class Taken(NamedTuple):
    """What a robot has taken of its commands, for `cmd/sync`."""

    last: Mapping[str, int]
    """Operator key -> the highest `seq`."""
    open: Sequence[str]
    """Ids of commands under way."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a robot tells of itself; what is a function is asked anew each time."""

    device: str
    """`{tenant}/{device}`."""
    software: str
    profile: str
    ops: Sequence[str]
    groups: Callable[[], Sequence[str]]
    reported: Callable[[], bytes]
    """The twin as it is reported now; empty: nothing yet."""
    taken: Callable[[], Awaitable[Taken]]


class Presence:
    """One robot's, on one link. `will` and `connected` go into the link's Steering; `run` and `goodbye` take the link."""

    def __init__(self, facts: Facts, clock: Clock, *, boot: int, say: Say = lambda _: None) -> None:
        """`boot` is the number of this start (`store.starts`)."""
        self._facts, self._clock, self._say = facts, clock, say
        self.conn_id = ConnId(boot=boot, connect=0)
        """Of the present connection, or of the try for the next one."""
        self.nonce = ""
        """Of the same; empty before the first."""
        self.since: float | None = None
        """When it was welcomed, on the monotonic clock; None while there is no connection."""
        self._news = asyncio.Event()
        self._leaving = False
        self._telling: asyncio.Task[None] | None = None

    def will(self) -> tuple[str, bytes]:
        """Begins another connection and gives what the broker is to publish if that is lost."""
        self.conn_id = ConnId(boot=self.conn_id.boot, connect=self.conn_id.connect + 1)
        self.nonce, self.since = self._clock.secret(NONCE_BYTES).hex(), None
        return wire.PRESENCE, self._presence(online=False, why="lost")

    def connected(self) -> None:
        self.since = self._clock.monotonic()
        self._news.set()

    def changed(self) -> None:
        """Groups or the twin are others now: all is told again, if there is a connection."""
        if self.since is not None:
            self._news.set()

    async def run(self, link: Poster) -> None:
        """Until cancelled. Only one link at a time may be run, the one whose Steering has this will."""
        self._leaving = False
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                await self._quiet()
                self._telling = asyncio.create_task(self._tell(link, self.conn_id))
        finally:
            await self._quiet()

    async def goodbye(self, link: Poster, why: Why) -> None:
        """Before the link is closed; nothing else is told after it, until `run` begins anew. Gives up soon, raises nothing."""
        self._leaving = True
        await self._quiet()
        if self.since is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await link.post(wire.PRESENCE, self._presence(online=False, why=why), retained=True)
        self.since = None

    async def _tell(self, link: Poster, now: ConnId) -> None:
        try:
            await self._tell_all(link, now)
        except Exception as error:  # noqa: BLE001  the next connection tries again; a robot does not end because nobody hears of it
            self._say(f"the fleet is not told that this robot is here: {type(error).__name__}: {error}")

    async def _tell_all(self, link: Poster, now: ConnId) -> None:
        birth = told.written(self._birth())
        await self._told(link, now, wire.BIRTH, birth, retained=True)
        await self._told(link, now, wire.PRESENCE, self._presence(online=True), retained=True)
        if sync := await self._sync():
            await self._told(link, now, wire.SYNC, sync, retained=False)
        if reported := self._facts.reported():
            await self._told(link, now, wire.REPORTED, reported, retained=True)

    async def _told(self, link: Poster, now: ConnId, topic: str, body: bytes, *, retained: bool) -> None:
        """Again and again while this is the connection; what the broker never takes is said once."""
        while now == self.conn_id and not self._leaving:
            answer = await link.post(topic, body, retained=retained)
            if isinstance(answer, Refused):
                self._say(f"the fleet is not told {topic}: {answer.why}")
            if not isinstance(answer, Retry):
                return
            await self._clock.sleep(AGAIN_SECONDS)

    async def _quiet(self) -> None:
        """Tells nothing more, until there is news."""
        if self._telling:
            self._telling.cancel()
            await asyncio.wait({self._telling})

    def _birth(self) -> Birth:
        facts = self._facts
        return Birth(
            device=facts.device,
            conn_id=self.conn_id,
            nonce=self.nonce,
            software=facts.software,
            profile=facts.profile,
            groups=list(facts.groups()),
            ops=list(facts.ops),
            clock=self._clock.quality(),
        )

    def _presence(self, *, online: bool, why: str = "") -> bytes:
        return told.written(told.Presence(device=self._facts.device, conn_id=self.conn_id, online=online, why=why))

    async def _sync(self) -> bytes:
        """Empty where the book can't be read now; the rest is told all the same."""
        try:
            last, under_way = await self._facts.taken()
        except VoxmeterError as error:
            self._say(f"the fleet is not told which commands were taken: {error}")
            return b""
        sync = told.Sync(device=self._facts.device, conn_id=self.conn_id, nonce=self.nonce, last=dict(last), open=list(under_way))
        return told.written(sync)


async def taken(book: CommandBook, key_ids: Iterable[str]) -> Taken:
    """Out of the book, for these operators' keys; a key whose commands were never taken is left out."""
    last = {key_id: await book.highest(key_id) for key_id in key_ids}
    return Taken({key_id: seq for key_id, seq in last.items() if seq}, [known.cmd_id for known in await book.open()])
