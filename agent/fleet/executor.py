"""Takes commands from the link, has them judged, written down and run, one at a time in the order they came.

    take (link's callback) -> waits, at most WAITING_MAX -> judged (`order`) -> accepted, durable, confirmed -> waits -> run
                              dropped when it is nothing to this robot, and confirmed; refused, durable, confirmed

A command that only answers is run where it was judged, so it waits for none but what waits for a restart; what goes beyond AHEAD_MAX
that wait to be run is refused as busy. While the books have no room only what `helps` is taken, and of what is refused then nothing is
written but its seq: it is told once, at best effort, for the room that is left is there for records of usage.

What comes too fast of one key waits; the broker keeps back what goes beyond sixteen that are not confirmed. What nobody signed is
counted and never written down. A ledger that refuses makes all wait: nothing is run or confirmed that is not durable.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from agent.clock import Clock
from agent.contract import wire
from agent.contract.fleet import jws
from agent.contract.fleet.command import COMMAND, COMMAND_BYTES_MAX, FINAL, Command, State, audience_of, parsed
from agent.errors import BadInput
from agent.fleet.commands import COMMANDS, Spec, spec
from agent.fleet.order import Addressee, Asked, Cached, Drop, Expire, Reject, Run, Standing, decide
from agent.fleet.running import Outcome, Post, Runner, Say, topic_of
from agent.fleet.running.recovering import recovered
from agent.fleet.running.refusals import LOOK_S, Refusal, Refusals
from agent.fleet.running.repeats import Repeats
from agent.link.bucket import Bucket
from agent.ports import CommandBook, Delivered, Known, Steerable

RATE_PER_S, BURST = 20.0, 100
"""Commands of one key: a person, or a program that steers a fleet, sends a robot a few a day."""

FORGED_PER_S, FORGED_BURST = 200.0, 400
"""What nobody signed: looking at one takes half a millisecond at most, so a flood takes a tenth of a core."""

WAITING_MAX = 64
"""Not yet judged: what a broker may send without confirmation, from as many connections as break meanwhile; 2 MiB."""

AHEAD_MAX = 16
"""Accepted and not yet run."""

ENDING_S = 60.0
"""So long nothing more is taken after a command that ends the agent; if it is still here then, it goes on."""

KEPT_DAYS = 30
"""Results."""

FORGET_EVERY_S = 6 * 3600.0

KEYS_MAX = 64
"""Buckets kept of keys that are quiet."""


class Arrived(NamedTuple):
    """A message, and the nonce of the connection it came on."""

    message: Delivered
    nonce: str


async def _nowhere(_topic: str, _body: bytes) -> None: ...


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
        post: Post = _nowhere,
        refused: Callable[[Refusal], None] = lambda _: None,
        rate_per_s: float = RATE_PER_S,
        burst: int = BURST,
    ) -> None:
        """`addressee`: who this robot is now, asked for each command, for its groups may change.

        `trusted`: operators' keys, key id -> raw public key. `nonce`: of the present connection, as told in the birth; empty: none.
        `post(topic, body)`: carries `accepted` and `running` straight to the link, at best effort (`Poster.post` does); final states
        go through the book's outbox. `refused`: told of commands that were not run, for the audit log; already thinned out.
        """
        self._book, self._clock, self._say = book, clock, say
        self._addressee, self._trusted, self._nonce, self._allowed = addressee, trusted, nonce, frozenset(allowed)
        self._refused, self._refusals, self._repeats = refused, Refusals(), Repeats(clock)
        self._runner = Runner(book, robot, clock, device=self._device, say=say, post=post)
        self._rate = rate_per_s, burst
        self._buckets: dict[str, Bucket] = {}
        self._forged = Bucket(clock, FORGED_PER_S, FORGED_BURST)
        self._waiting: asyncio.Queue[Arrived] = asyncio.Queue(WAITING_MAX)
        self._ahead: asyncio.Queue[tuple[Known, Command]] = asyncio.Queue(AHEAD_MAX)
        self._again: list[tuple[Known, Command]] = []
        self._ending = self._ended = False
        """A command that ends the agent was accepted; the last that was run has ended it."""

    def take(self, message: Delivered) -> None:
        """From the link, in the event loop: queues what came on `cmd/req/{id}`. Returns at once, raises nothing.

        The message is confirmed when `accepted`, or its refusal or cached result, is durable; what is dropped, at once.
        """
        if len(message.content) > COMMAND_BYTES_MAX:
            self._drop(message, "too-big", f"a command of {len(message.content)} bytes; the most is {COMMAND_BYTES_MAX}")
            return
        try:
            self._waiting.put_nowait(Arrived(message, self._nonce()))
        except asyncio.QueueFull:  # it comes again with the next connection
            self._note("overrun", f"more than {WAITING_MAX} commands at once")

    async def run(self) -> None:
        """Until cancelled. Begins with what the last run left (`recover`)."""
        try:
            await self.recover()
            async with asyncio.TaskGroup() as group:
                for work in (self._judging(), self._working(), self._keeping()):
                    group.create_task(work)
        finally:
            for refusal in self._refusals.rest():
                self._refused(refusal)
            await self._runner.aclose()

    async def recover(self) -> None:
        """What a power cut left: idempotent commands are run again, others end `unknown`. `run` calls it."""
        self._ahead = asyncio.Queue(AHEAD_MAX)  # where this part was begun again in the same process: they stand in the book as well
        self._again = await recovered(self._book, self._runner, self._device(), self._say)

    async def _working(self) -> None:
        for known, command in self._again:
            await self._runner.run(known, command, again=True)
        while True:
            known, command = await self._ahead.get()
            self._ended = await self._runner.run(known, command)
            self._ahead.task_done()

    async def _keeping(self) -> None:
        """Tells refusals that waited; forgets old results."""
        forgot_s = -FORGET_EVERY_S
        while True:
            if self._clock.monotonic() - forgot_s >= FORGET_EVERY_S:
                await self._runner.patiently(lambda: self._book.forget(KEPT_DAYS))
                forgot_s = self._clock.monotonic()
            await self._clock.sleep(LOOK_S)
            for refusal in self._refusals.due(self._clock.monotonic()):
                self._refused(refusal)

    async def _judging(self) -> None:
        while True:
            arrived = await self._waiting.get()
            try:
                await self._judge(arrived)
            except Exception as error:  # noqa: BLE001  it would come again, and stop the robot again, for ever
                self._drop(arrived.message, "error", f"a command could not be judged: {type(error).__name__}: {error}")
                self._say(f"a command could not be judged: {type(error).__name__}: {error}")
            await self._clock.sleep(0)  # a flood leaves the loop to others

    async def _judge(self, arrived: Arrived) -> None:
        asked = await self._runner.patiently(lambda: self._read(arrived.message))
        if isinstance(asked, Drop):
            await _paced(self._forged, self._clock)
            self._drop(arrived.message, asked.code, asked.message)
            return
        await _paced(self._bucket(asked.key_id), self._clock)
        await self._runner.patiently(lambda: self._decide(asked, arrived))

    async def _read(self, message: Delivered) -> Asked | Drop:
        trusted = self._trusted()
        try:
            key_id, request = jws.read(COMMAND, message.content, trusted, bytes_max=COMMAND_BYTES_MAX, what="the command")
            command = parsed(request, Command, "the command")
        except jws.BadSignature as error:
            return Drop("bad-signature", str(error))
        except BadInput as error:
            return Drop("bad-command", str(error))
        return Asked(command, key_id, request, message.topic.removeprefix(f"{wire.REQUEST}/"), message.retained)

    async def _decide(self, asked: Asked, arrived: Arrived) -> None:
        """Raises what the ledger raises; then nothing was run or confirmed."""
        known = await self._book.find(asked.command.cmd_id)
        match decide(asked, await self._standing(asked, known, arrived.nonce)):
            case Run(command):
                await self._accept(asked, command, arrived)
            case Cached(known) if known.state in FINAL:
                await self._answer_again(known)
                arrived.message.confirm()
            case Cached(known):
                self._runner.tell(known, known.state)
                arrived.message.confirm()
            case Reject(code, message) | Expire(code, message) as refusal if known is None:
                state: State = "expired" if isinstance(refusal, Expire) else "rejected"
                await self._refuse(_known(asked), arrived.message, Outcome(state, code, message))
            case Reject(code, message) | Expire(code, message) | Drop(code, message):  # what stands in the book stays
                self._drop(arrived.message, code, message)

    async def _answer_again(self, known: Known) -> None:
        if self._repeats.answers(known.cmd_id):
            if self._book.room():
                await self._book.settle(known, topic_of(known.cmd_id))
            else:
                self._runner.tell_as_is(known, known.result)
        if self._repeats.too_many():
            self._note("repeated", f"command {known.cmd_id} was done, and is sent again and again")

    async def _standing(self, asked: Asked, known: Known | None, nonce: str) -> Standing:
        return Standing(
            addressee=self._addressee(),
            ops=COMMANDS.keys(),
            allowed=self._allowed,
            known=known,
            highest=await self._book.highest(asked.key_id),
            now_s=self._clock.utc().timestamp(),
            quality=self._clock.quality(),
            nonce=nonce,
            floor_s=await self._book.floor_s(),
        )

    async def _accept(self, asked: Asked, command: Command, arrived: Arrived) -> None:
        one, known, message = spec(command.op), _known(asked), arrived.message
        if why := self._unfit(one, command) or await self._no_room(one):
            await self._refuse(known, message, Outcome("rejected", *why))
            return
        if self._ending and (self._ended or not one.quick):
            await self._end()
            await self._decide(asked, arrived)  # time has passed
            return
        await self._book.accept(known)
        message.confirm()
        if one.quick:
            await self._runner.run(known, command)
            return
        self._runner.tell(known, "accepted")
        self._ahead.put_nowait((known, command))
        self._ending = self._ending or one.ends

    def _unfit(self, one: Spec[Any], command: Command) -> tuple[str, str] | None:
        """Why it can't be taken now: (code, line). Whoever waited here would keep what only answers waiting too."""
        try:
            one.given(command.args)
        except BadInput as error:
            return "bad-arguments", str(error)
        if not one.quick and self._ahead.full():
            return "busy", f"{AHEAD_MAX} commands are accepted and wait to be run; send it anew when they are done"
        return None

    async def _no_room(self, one: Spec[Any]) -> tuple[str, str] | None:
        """Likewise, where the books have no room."""
        if self._book.room() or (one.helps and await self._book.spare()):
            return None
        helping = ", ".join(op for op in COMMANDS if spec(op).helps)
        return "no-room", f"the books have no room; taken are, one after the other: {helping}. Send it anew when there is room"

    async def _refuse(self, known: Known, message: Delivered, outcome: Outcome) -> None:
        """Durably; without room nothing but its seq is, and that it came is told at best effort."""
        if self._book.room():
            await self._runner.settle(known, outcome)
        else:
            await self._book.count(known)
            self._runner.tell(known, outcome.state, outcome.code, outcome.message)
        self._drop(message, outcome.code, outcome.message)

    async def _end(self) -> None:
        """What is to be done from now on is for the next start: accepted here, it would be cut off. What only answers is answered until
        the end, or until it would come after what waits here."""
        await self._ahead.join()
        if self._ended:
            await self._clock.sleep(ENDING_S)
        self._ending = self._ended = False

    def _bucket(self, key_id: str) -> Bucket:
        if key_id not in self._buckets and len(self._buckets) >= KEYS_MAX:
            self._buckets = {name: bucket for name, bucket in self._buckets.items() if not bucket.full}
        return self._buckets.setdefault(key_id, Bucket(self._clock, *self._rate))

    def _drop(self, message: Delivered, code: str, why: str) -> None:
        message.confirm()
        self._note(code, why)

    def _note(self, code: str, why: str) -> None:
        if refusal := self._refusals.note(code, why, self._clock.monotonic()):
            self._refused(refusal)

    def _device(self) -> str:
        addressee = self._addressee()
        return audience_of(addressee.tenant, addressee.device)


async def _paced(bucket: Bucket, clock: Clock) -> None:
    while not bucket.take():
        await clock.sleep(bucket.wait_ms() / 1000)


def _known(asked: Asked) -> Known:
    command = asked.command
    return Known(command.cmd_id, asked.key_id, command.seq, command.op, "accepted", asked.request, b"")
