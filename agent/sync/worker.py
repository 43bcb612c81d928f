"""Drives the uploader: brings batches from the backlog to the links and their answers back, for ever or until nothing is left.

    look at links and backlog -> uploader.next -> Send, Mark: a task of its own, its answer waits in line
                                                  Fetch: asks the backlog
                                                  Wait, Idle: sleeps until then, or until an answer, a record or a link wakes it

The loop alone changes the state; tasks only bring answers. What the ledger refuses is said and tried again.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent.clock import Clock, seeded
from agent.contract.batch import Batch
from agent.contract.wire import ACK_WAIT_MS
from agent.errors import VoxmeterError
from agent.ports import Acked, Answer, Backlog, Link, Retry
from agent.sync.answers import Answered
from agent.sync.route import FAILURES_MAX, SILENCE_MS_MAX
from agent.sync.steps import Fetch, Idle, Mark, Send, Wait
from agent.sync.taking import Taking
from agent.sync.uploader import Uploader

FIRST_WAIT_MS_MAX = 10_000
"""Before the first word after a start: a fleet that gets its power back at once must not call at once."""

LOOK_S = 30.0
"""A link that has connected anew while nobody sends is noticed within this."""

LIST_S = 10.0
"""Between two looks at which epochs there are; the present one is always known."""

LEDGER_WAIT_S = 5.0
"""After the ledger has refused something: a full or failing disk isn't better within milliseconds."""

ANSWER_S_MAX = ACK_WAIT_MS / 1000 + 15
"""A link that has not answered by then never will; its own wait ends earlier."""

DRAIN_PATIENCE_MS = 10_000
"""Without success while somebody waits, then the next link."""


@dataclass(frozen=True, slots=True)
class Drained:
    """How `drain` ended."""

    complete: bool
    """Nothing is unacknowledged."""
    why: str = ""
    """If not: why, in one line."""


class Worker:
    """One robot's way to the backend."""

    def __init__(
        self,
        backlog: Backlog,
        links: Sequence[Link],
        trusted: Callable[[], Mapping[str, bytes]],
        clock: Clock,
        say: Callable[[str], None],
        *,
        device: str = "",
        first_wait_ms_max: int = FIRST_WAIT_MS_MAX,
    ) -> None:
        """`links` in the order of preference, at least one; `trusted`: key id -> public key of whose acks are believed.

        `device`: acks of others are dropped; where it is empty the epoch alone tells whose they are.
        """
        self._backlog, self.links, self._clock, self._say = backlog, list(links), clock, say
        self._trusted, self._device, self._first_wait_ms_max = trusted, device, first_wait_ms_max
        self._chance = seeded(clock.seed())
        self._working = asyncio.Lock()
        self._wake, self._paused = asyncio.Event(), asyncio.Event()
        self._answers: list[Answered] = []
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._watched: dict[int, asyncio.Task[None]] = {}
        self._drains = 0
        self.steps = 0  # rounds of its loop so far; one takes LOOK_S and a look at the ledger at the most
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Nothing is under way, and nothing known of what the backend holds."""
        self._uploader = Uploader([link.name for link in self.links], self._patience_ms)
        self._taking = Taking(
            self._backlog, self._uploader, self._trusted, clock=self._clock, chance=self._chance, say=self._say, device=self._device
        )
        self._answers = [answered for answered in self._answers if answered.step is None]
        self._present, self._list_at = "", -math.inf
        self._grew = self._list_due = self._idle = False
        self._told = (self.links[0].name, False)

    async def run(self) -> None:
        """Sends for ever. Ends only when cancelled."""
        await self._clock.sleep(self._chance.random() * self._first_wait_ms_max / 1000)
        await self._work()

    async def drain(self, seconds_max: float) -> Drained:
        """Sends until nothing is unacknowledged, at most so long; beside `run` or without it."""
        self._list_due = True
        self._hurry(1)
        ending = asyncio.ensure_future(self._drained())
        tasks = [ending, asyncio.ensure_future(self._clock.sleep(seconds_max)), asyncio.ensure_future(self._work())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            return ending.result() if ending in done else Drained(False, self._taking.problem or f"not done within {seconds_max:g} s")
        finally:
            self._hurry(-1)
            await _end(tasks)

    def heard(self, answer: Acked) -> None:
        """Takes an ack nobody waits for any more."""
        self._bring(Answered(None, answer))

    def status(self) -> dict[str, Any]:
        """What `voxmeter sync status` shows; plain values."""
        way = self._uploader.route.way
        return {
            "link": way.name,
            "up": way.up,
            "server_time": self._uploader.server_time,
            "backend_id": self._uploader.backend_id,
            "window_batches": self._uploader.window,
            "in_flight": self._uploader.in_flight,
            "failures": way.failures,
            "problem": self._taking.problem,
        }

    async def _work(self) -> None:
        """One at a time: whoever comes second takes over when the first has ended."""
        async with self._working:
            self._begin_anew()
            growing = asyncio.ensure_future(self._watch_growth())
            try:
                while True:
                    await self._step_or_say()
            finally:
                await _end([growing, *self._tasks, *self._watched.values()])
                self._watched.clear()

    async def _step_or_say(self) -> None:
        self._wake.clear()
        self.steps += 1
        try:
            await self._step()
        except Exception as error:  # noqa: BLE001  whatever it is, a robot that can't send must go on talking
            self._list_due = True
            unknown = VoxmeterError(f"{type(error).__name__}: {error}", "report this")
            self._taking.trouble(error if isinstance(error, VoxmeterError) else unknown)
            await self._clock.sleep(LEDGER_WAIT_S)

    async def _step(self) -> None:
        answers, self._answers = self._answers, []
        await self._taking.take(answers)
        await self._look()
        step = self._uploader.next(self._now(), self._chance.random())
        self._say_way()
        if isinstance(step, Fetch):
            await self._fetch(step)
        elif isinstance(step, Send):
            marks = await self._backlog.signed(step.parcel.batch)
            self._begin(step, self._link(step).send(step.parcel.batch.content, marks))
        elif isinstance(step, Mark):
            nonce = self._clock.secret(16).hex()
            self._begin(step, self._link(step).mark(step.epoch, nonce), nonce)
        else:
            await self._pause(step)

    async def _look(self) -> None:
        """At the links; where something has been appended, at the epochs as well."""
        for number, link in enumerate(self.links):
            self._uploader.looked(number, up=link.up, connections=link.connections)
            if not link.up and number not in self._watched:
                self._watched[number] = asyncio.ensure_future(self._watch(number))
        if self._grew:
            self._uploader.grew()
            self._grew, self._list_due = False, True
        due = self._list_due and (self._drains > 0 or self._now() >= self._list_at)
        if due or self._present != self._backlog.epoch:
            await self._list()

    async def _list(self) -> None:
        self._list_due = False
        epochs = await self._backlog.epochs()
        self._present, self._list_at = epochs[-1], self._now() + LIST_S
        self._uploader.listed(epochs)

    async def _fetch(self, step: Fetch) -> None:
        """What was brought is kept also where something else could not be: it is noted as left."""
        if step.again:
            self._uploader.brought(step, await self._backlog.unacked(step.epoch, step.after), self._now())
            return
        asked = [self._backlog.next_batch(step.epoch) for _ in range(step.count)]
        brought = await asyncio.gather(*asked, return_exceptions=True)
        failures = [failure for failure in brought if isinstance(failure, BaseException)]
        batches = [batch for batch in brought if isinstance(batch, Batch)]
        self._uploader.brought(replace(step, count=step.count - len(failures)), batches, self._now())
        if failures:
            raise failures[0]

    async def _pause(self, step: Wait | Idle) -> None:
        until = self._now() + LOOK_S
        if isinstance(step, Wait):
            until = min(until, step.until)
        if self._list_due:
            until = min(until, self._list_at)
        self._idle = isinstance(step, Idle) and not (self._grew or self._list_due)
        self._paused.set()
        tasks = [asyncio.ensure_future(self._wake.wait()), asyncio.ensure_future(self._clock.sleep(max(until - self._now(), 0)))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(tasks)

    async def _drained(self) -> Drained:
        """Looks each time when the loop pauses."""
        while True:
            self._paused.clear()
            await self._paused.wait()
            if self._idle:
                return Drained(True)
            if self._uploader.route.hopeless:
                return Drained(False, self._taking.problem or "no link to the backend is up")

    @property
    def _patience_ms(self) -> int:
        return DRAIN_PATIENCE_MS if self._drains else SILENCE_MS_MAX

    def _hurry(self, drains: int) -> None:
        """More, or fewer, wait for the end."""
        self._drains += drains
        self._uploader.hurry(self._patience_ms)
        self._wake.set()

    def _begin(self, step: Send | Mark, asking: Coroutine[Any, Any, Answer], nonce: str = "") -> None:
        self._uploader.begun(step)
        task = asyncio.ensure_future(self._answered(step, asking, nonce))
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _answered(self, step: Send | Mark, asking: Coroutine[Any, Any, Answer], nonce: str) -> None:
        answer: Answer
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                answer = await asking
        except TimeoutError:
            answer = Retry("no answer, not even from the link")
        except Exception as error:  # noqa: BLE001  a link must not raise; one that does has failed, and the rest goes on
            answer = Retry(f"{type(error).__name__}: {error}")
        self._bring(Answered(step, answer, nonce))

    def _bring(self, answered: Answered) -> None:
        self._answers.append(answered)
        self._wake.set()

    async def _watch_growth(self) -> None:
        while True:
            await self._backlog.grown()
            self._grew = True
            self._wake.set()

    async def _watch(self, number: int) -> None:
        """Wakes the loop when a link is up."""
        await self.links[number].ready()
        self._watched.pop(number, None)
        self._wake.set()

    def _link(self, step: Send | Mark) -> Link:
        return next(link for link in self.links if link.name == step.link)

    def _say_way(self) -> None:
        """Which link is in use, and whether it serves, where that has changed."""
        way = self._uploader.route.way
        told, self._told = self._told, (way.name, way.failures >= FAILURES_MAX)
        if self._told == told:
            return
        why = self._taking.problem or f"{told[0]} is down"
        if way.name != told[0]:
            self._say(f"sync goes on over {way.name}" + (f": {why}" if way.name != self.links[0].name else ""))
        elif way.failures:
            self._say(f"the backend can't be reached: {why}; it is tried again and again")
        else:
            self._say(f"the backend is reached again over {way.name}")

    def _now(self) -> float:
        return self._clock.monotonic()


async def _end(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Cancels and waits, so that nothing is left behind."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
