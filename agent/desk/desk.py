"""Connects an operator to the broker: hears what robots say, keeps the roster, publishes what a sending wants published.

    away --enter--> connected, roster complete --lost--> away --(Mqtt)--> connected again …

The first connection must come about, or whoever enters is told why not. Later ones come back by themselves, and what is unanswered
is published again. That the broker has told all it kept is known when it echoes a word of the desk's own, sent after subscribing.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Self

from agent.clock import Clock
from agent.contract import wire
from agent.desk import news as reading
from agent.desk.news import News
from agent.desk.roster import Roster
from agent.desk.sending import Parcel, Sending
from agent.desk.settings import OPERATOR, DeskSettings
from agent.errors import BadInput, NoLink
from agent.link.mqtt.message import FAILURE, LOST, Filter, Incoming, Verdict
from agent.link.mqtt.steady import Mqtt

SESSION_S = 300
"""How long the broker keeps answers for a desk whose connection broke; one that never comes back costs it no more."""

ECHO_S = 20.0
"""For the births of some thousand robots over a poor link."""

TICK_S = 0.25
"""Between two looks at the connection, and two lines of progress."""

INFLIGHT_MAX = wire.RECEIVE_MAX
"""Commands on their way to the broker at once; brokers take twenty without a word."""

SAID_MAX = 50
"""Unreadable messages that are told; a fleet of strangers must not fill the screen."""

OWN = "state"
"""Where the desk hears itself, below its own name: there every robot, and every operator, may write."""

ALWAYS = (wire.BIRTH, wire.PRESENCE, wire.SYNC, wire.RESULT + "/+")
"""What every desk hears."""


class Desk:
    """One operator's connection. An asynchronous context: inside it is connected, and the roster complete."""

    def __init__(self, settings: DeskSettings, clock: Clock, say: Callable[[str], None] = lambda _: None, also: Sequence[str] = ()) -> None:
        """`also`: what else to hear of robots, topics below theirs. `say` takes what goes wrong meanwhile, line by line."""
        self.roster = Roster()
        self._settings, self._clock, self._say = settings, clock, say
        own_id = f"{OPERATOR}-{clock.new_epoch()[:16]}"
        self._own = wire.topic(OPERATOR, settings.link.device, f"{OWN}/{own_id}")
        self._echoed = asyncio.Event()
        self._stirred = asyncio.Event()
        self._failed = asyncio.Event()
        self._entered = False
        self._listeners: list[Callable[[News], object]] = []
        self._unreadable = 0
        wanted = [*reading.filters(settings.tenant, *ALWAYS, *also), self._own]
        filters = [Filter(one, retained=True) for one in wanted]
        self._mqtt = Mqtt(
            settings.link, own_id, clock, filters, self._heard, expiry_s=SESSION_S, inflight_max=INFLIGHT_MAX, say=self._broken
        )

    @property
    def up(self) -> bool:
        return self._mqtt.up

    async def __aenter__(self) -> Self:
        """Raises NoLink if it can't connect, BadInput where the broker has no room for this operator."""
        try:
            await self._connected()
            await self._complete()
            self._entered = True
        except BaseException:
            await self._mqtt.aclose()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._mqtt.aclose()

    def listen(self, told: Callable[[News], object]) -> Callable[[], None]:
        """Calls `told` with all that is heard from now on, after the roster took it; returns what ends that."""
        self._listeners.append(told)
        return lambda: self._listeners.remove(told)

    async def until(self, true: Callable[[], bool], wait_s: float | None) -> bool:
        """Listens until that is so, at most so long; None: as long as it takes. Whether it is so."""
        ends = None if wait_s is None else self._clock.monotonic() + wait_s
        while not true() and (ends is None or self._clock.monotonic() < ends):
            await self._pause()
        return true()

    async def carry(self, sending: Sending, wait_s: float, told: Callable[[], None] = lambda: None) -> None:
        """Publishes and hears until all have answered, at most so long. `told` is called now and then while it goes on."""
        await self._carried(sending, wait_s, told, lambda _: sending.done)

    async def publish(self, sending: Sending, wait_s: float) -> None:
        """Only publishes, and does not wait for answers; at most so long."""
        await self._carried(sending, wait_s, lambda: None, lambda under_way: not under_way and sending.idle)

    async def _carried(
        self, sending: Sending, wait_s: float, told: Callable[[], None], over: Callable[[set[asyncio.Task[None]]], bool]
    ) -> None:
        under_way: set[asyncio.Task[None]] = set()
        ends = self._clock.monotonic() + wait_s
        connections, last = self._mqtt.connections, -TICK_S
        stop = self.listen(sending.heard)
        try:
            while not over(under_way) and self._clock.monotonic() < ends:
                if self._mqtt.connections != connections:
                    connections = self._mqtt.connections
                    sending.reconnected()
                self._publish_due(sending, under_way)
                await self._pause()
                if self._clock.monotonic() - last >= TICK_S:  # thousands answer within a second, and each would be counted anew
                    last = self._clock.monotonic()
                    told()
            told()
        finally:
            stop()
            await _ended(under_way)

    async def _pause(self) -> None:
        """Until something is heard, one tick at most."""
        self._stirred.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(TICK_S):
                await self._stirred.wait()

    def _publish_due(self, sending: Sending, under_way: set[asyncio.Task[None]]) -> None:
        """While the broker is away nothing is given to it: what is due stays due."""
        while self.up and len(under_way) < INFLIGHT_MAX and (parcel := sending.next(self._now_s())):
            task = asyncio.get_running_loop().create_task(self._published(sending, parcel))
            under_way.add(task)
            task.add_done_callback(under_way.discard)

    async def _published(self, sending: Sending, parcel: Parcel) -> None:
        verdict = await self._mqtt.publish(parcel.topic, parcel.content, response=parcel.response, valid_s=parcel.valid_s)
        sending.given(parcel.device, verdict)
        self._stir()

    def _now_s(self) -> int:
        return int(self._clock.utc().timestamp())

    async def _connected(self) -> None:
        """The first time, or the first reason why not."""
        ready = asyncio.ensure_future(self._mqtt.ready())
        failed = asyncio.ensure_future(self._failed.wait())
        try:
            await asyncio.wait({ready, failed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            failed.cancel()
            ready.cancel()
        if not self.up:
            raise NoLink(self._mqtt.problem, "check --broker, --ca and the operator's certificate")

    async def _complete(self) -> None:
        """The broker tells what it keeps before it echoes what was sent later."""
        verdict = await self._mqtt.publish(self._own, b"?")
        if not verdict.taken:
            raise _no_room(self._settings.name, verdict)
        try:
            async with asyncio.timeout(ECHO_S):
                await self._echoed.wait()
        except TimeoutError as error:
            raise NoLink(f"the broker has not told who is there within {ECHO_S:.0f} s", "try again where the network is better") from error

    def _heard(self, message: Incoming) -> None:
        message.confirm()
        if message.topic == self._own:
            self._echoed.set()
            return
        try:
            news = reading.read(message.topic, message.content, retained=message.retained)
        except BadInput as error:
            self._unread(error)
            return
        if not self.roster.take(news) or not self._echoed.is_set():
            news = replace(news, old=True)
        for told in list(self._listeners):
            told(news)
        self._stir()

    def _unread(self, error: BadInput) -> None:
        self._unreadable += 1
        if self._unreadable <= SAID_MAX:
            self._say(f"ignored: {error}")

    def _broken(self, why: str) -> None:
        self._failed.set()
        if self._entered:  # before, the error says it
            self._say(f"the broker is away: {why}")
        self._stir()

    def _stir(self) -> None:
        self._stirred.set()


def _no_room(name: str, verdict: Verdict) -> BadInput | NoLink:
    if verdict.code == LOST:
        return NoLink(f"the connection broke: {verdict.name}", "try again")
    todo = f"its access list must let {name} read what robots tell, write v1/+/+/{wire.REQUEST}/+, and read and write v1/{name}/{OWN}/#"
    return BadInput(f"the broker does not let {name} work: {verdict.name if verdict.code >= FAILURE else 'it may read nothing'}", todo)


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
