"""A robot without ears and voice: the real books, ledger and sync; only its turns are played, from a seed.

dark -> start: ledger opened, open calls settled, links made, worker running -> stop (in good order) | cut_power (as it is) -> dark
"""

import asyncio
import functools
import shutil
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random  # noqa: TID251  the type alone; chance is handed in
from typing import TYPE_CHECKING, Any

from agent.clock import Clock, seeded
from agent.contract.ack import Ack, Standing
from agent.dialog.books import Books
from agent.errors import VoxmeterError
from agent.metering import cards
from agent.metering.cards import Cards
from agent.ports import Acked, Link, OpenCall, Poster
from agent.shipped import shipped
from agent.sim.world.counted import counted
from agent.sim.world.evidence import Heard
from agent.sim.world.witnessed import Witnessed, copied
from agent.store.ledger.chain import Identity
from agent.store.ledger.space import Limits
from agent.store.ledger.writer import Writer
from agent.sync.worker import Worker
from agent.values import STAGES, Outcome, Stage, StageResult, StageTimes, StageUsage

if TYPE_CHECKING:
    from agent.sim.world.fleet.certified import Certified
    from agent.sim.world.fleet.steered import Steered

ROOMY = Limits(free_bytes_min=0)
"""The disk of the machine that simulates is not the robot's."""

STEP_S_MAX = 0.4
"""Of a turn has three to seven steps; so a power cut finds many robots in the middle of one."""

OUTCOMES: tuple[Outcome, ...] = ("completed", "completed", "completed", "interrupted", "failed")

UNKNOWN_SHARE = 0.05
"""Of calls end without anybody knowing what they used."""

BROKEN_OFF_SHARE = 0.2
"""Of turns end before the robot has spoken."""

Say = Callable[[str], None]

Trusted = Callable[[], Mapping[str, bytes]]
"""Whose acks it believes: key id -> raw public key."""

MakeLinks = Callable[[Callable[[Acked], None]], Sequence[Link]]
"""Makes the links, in the order they are tried; given who takes acks that nobody waits for."""


@functools.cache
def shipped_cards() -> Cards:
    return cards.read(shipped("device_profiles") / "rate_cards" / "standard-cny.toml")


class Robot:
    """One body of a robot: a folder and whatever runs on it."""

    def __init__(
        self,
        name: str,
        state: Path,
        identity: Identity,
        clock: Clock,
        *,
        seed: int,
        links: MakeLinks,
        trusted: Trusted,
        say: Say = lambda _: None,
        writer: type[Writer] = Writer,
        steered: "Steered | None" = None,
        certified: "Certified | None" = None,
    ) -> None:
        """`writer`: what the ledger writes through, where its own thread won't do. `steered`: who has commands done.

        `certified`: who keeps its certificate, where that ends.
        """
        self.name, self.state, self.identity = name, state, identity
        self.heard: list[Heard] = []
        """Every ack its ledger took."""
        self.in_flight_max = 0
        self.over_window = 0
        """Batches sent although the backend's last word wanted fewer on their way."""
        self.turns = 0
        """That are on the books to their end."""
        self.mute = 0
        """Turns that it could not hold, or not to their end, although it had power."""
        self._clock, self._chance = clock, seeded(seed)
        self._make_links, self._trusted, self._say = links, trusted, say
        self._writer, self._steered, self._certified = writer, steered, certified
        self._in_flight = 0
        self._window = ("", 1)
        """The backend's time, and how many batches it wanted then."""
        self._ledger: Witnessed | None = None
        self._worker: Worker | None = None
        self._links: Sequence[Link] = ()
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._reopening: asyncio.Task[None] | None = None

    @property
    def dark(self) -> bool:
        return self._ledger is None

    @property
    def over_mqtt(self) -> bool:
        """Whether it is connected to its broker."""
        return not self.dark and any(link.up for link in self._links if link.name == "mqtt")

    @property
    def ledger(self) -> Witnessed:
        """Of a robot that is not dark."""
        assert self._ledger is not None
        return self._ledger

    @property
    def books(self) -> Books:
        """Of a robot that is not dark."""
        return self._books

    @property
    def worker(self) -> Worker | None:
        """What carries its books."""
        return self._worker

    async def start(self) -> None:
        """Raises what SqliteLedger raises."""
        if self._steered is not None:
            await self._steered.opening(self)
        ledger = Witnessed(self.state, self.identity, self._clock, ROOMY, self._writer)
        ledger.took = self._took
        self._books = Books(ledger, shipped_cards(), "UTC", dict.fromkeys(STAGES, "words@1"), self._clock)
        await self._books.recover()
        self._in_flight, self._window = 0, ("", 1)
        links = self._make_links(self._late)
        self._links = [counted(link, self._count, lambda: self.dark) for link in links]
        self._worker = Worker(ledger, self._links, self._trusted, self._clock, self._say, device=self.identity.device)
        self._ledger = ledger
        self.begin(self._worker.run())
        if self._steered is not None:
            self._steered.begin(self, next(link for link in links if isinstance(link, Poster)))
        if self._certified is not None:
            self._certified.begin(self, links)

    async def stop(self) -> None:
        """In good order; a dark robot stays dark."""
        await self._at_rest()
        if self._ledger is not None:
            ledger = self._taken()
            await self._end()
            for link in self._links:
                await link.aclose()
            await ledger.aclose()

    async def cut_power(self) -> None:
        """What runs is gone at once; the folder is what a kill leaves of it."""
        await self._at_rest()
        if self._ledger is None:
            return
        ledger = self._taken()
        left = copied(self.state, self.state.with_name(self.state.name + ".left"))
        await self._end()
        for link in self._links:
            await link.aclose()
        await ledger.aclose()
        shutil.rmtree(self.state)
        left.rename(self.state)

    async def prune(self) -> None:
        """A dark robot lets nothing go."""
        await self._ledger.prune() if self._ledger is not None else None

    async def turn(self) -> None:
        """One turn, unless the robot is dark or becomes so; refused without a word where there is no room."""
        if self._ledger is None:
            return
        if not self._books.room():
            self.mute += 1
            return
        task = self.begin(self._turn())
        with suppress(asyncio.CancelledError):
            await asyncio.shield(task) if not task.done() else None

    async def backlog(self) -> int:
        """Records that are not acked; of a dark robot nobody knows, so at least one."""
        return 1 if self._ledger is None else await self._ledger.waiting()

    def status(self) -> dict[str, Any]:
        """As the worker tells it."""
        return {} if self._worker is None else self._worker.status()

    async def _turn(self) -> None:
        books, chance, turn = self._books, self._chance, self._clock.new_id()
        calls = [OpenCall(turn, f"session-{turn[:8]}", stage, f"{stage}_scripted", "script") for stage in STAGES]
        reached = chance.randrange(1, 3) if chance.random() < BROKEN_OFF_SHARE else 3
        try:
            intent = await books.intend(calls, begin=calls[:1])
            for place, call in enumerate(calls[:reached]):
                if place:
                    await books.start(call)
                await self._clock.sleep(chance.uniform(0, STEP_S_MAX))
                if chance.random() < 0.3:
                    await books.note([(call, used(call.stage, chance))])
                    await self._clock.sleep(chance.uniform(0, STEP_S_MAX))
                await books.settle(call, ended(call, chance), intent)
            if reached < len(calls):
                await books.drop(calls[reached:])
            self.turns += 1
        except VoxmeterError as error:
            self.mute += 1
            self._say(f"{self.name}: {error}")

    def begin(self, work: Any) -> "asyncio.Task[Any]":
        """Something that ends with this life of the robot."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda ended: self._tasks.pop(ended, None))
        return task

    def reopen(self, work: Coroutine[Any, Any, None]) -> None:
        """Closes it and opens it anew, beside this life of it; whoever stops it or cuts its power comes after that."""
        self._reopening = asyncio.get_running_loop().create_task(work)

    async def _at_rest(self) -> None:
        reopening = self._reopening
        if reopening is not None and reopening is not asyncio.current_task():
            await asyncio.wait({reopening})

    def _taken(self) -> Witnessed:
        """The ledger, which from now on nobody has."""
        ledger, self._ledger = self.ledger, None
        if self._steered is not None:
            self._steered.end()
        return ledger

    async def _end(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _count(self, by: int) -> None:
        self._in_flight += by
        self.in_flight_max = max(self.in_flight_max, self._in_flight)
        self.over_window += by > 0 and self._in_flight > max(1, self._window[1])

    def _took(self, ack: Ack, standing: Standing, mark: bool) -> None:
        self.heard.append(Heard.of(self.name, ack, standing, mark=mark))
        # Of two of the same millisecond the later one counts, as for the uploader.
        self._window = max((ack.server_time, ack.window_batches), self._window, key=lambda told: told[0])

    def _late(self, acked: Acked) -> None:
        if self._worker is not None:
            self._worker.heard(acked)


def used(stage: Stage, chance: Random) -> StageUsage:
    """What a stage may have used."""
    size = chance.randrange(1, 200)
    if stage == "asr":
        return StageUsage(output_tokens=size, audio_in_ms=size * 90)
    if stage == "llm":
        return StageUsage(input_tokens=size * 3, cached_tokens=size, output_tokens=size)
    return StageUsage(input_tokens=size, characters=size * 4, audio_out_ms=size * 80)


def ended(call: OpenCall, chance: Random) -> StageResult:
    """How a call may have ended."""
    usage = StageUsage(origin="unknown") if chance.random() < UNKNOWN_SHARE else used(call.stage, chance)
    return StageResult(call.stage, call.engine, call.model, chance.choice(OUTCOMES), usage, StageTimes(0, None, 1))
