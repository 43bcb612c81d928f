"""A robot's life on a disk, from a seed: start, turns, batches and acks, a rotated key, a full disk, a new epoch, an old schema.

The ledger, the books, the keys are the real ones, in a process of their own; only engines and backend are played. Run as
`python -m agent.sim.power.life STATE SEED STEPS [marked] [killed]`: what was promised goes to the disk's trace, or to standard output; a
life that is killed after its steps leaves its log for the next to take over.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agent.clock import seeded
from agent.contract.ack import Ack
from agent.contract.signing import key_record_data
from agent.dialog.books import Books
from agent.metering import cards
from agent.metering.cards import Cards
from agent.metering.record import odometer_of, usage_data
from agent.ports import Draft, OpenCall
from agent.shipped import shipped
from agent.sim.clock import SimulatedClock
from agent.sim.disk.trace import mark
from agent.sim.power.promises import Say, WitnessedLedger
from agent.store.db import LEDGER_FILE
from agent.store.ledger import epochs
from agent.store.ledger.chain import Identity
from agent.store.ledger.space import Limits
from agent.values import STAGES, Outcome, Stage, StageResult, StageTimes, StageUsage

IDENTITY = Identity("demo", "sim-0001", "hotel")

TIGHT = Limits(quota_bytes=60_000, free_bytes_min=0)
"""A quota that a few dozen turns fill, so that a short life sees pruning and folding."""


def shipped_cards() -> Cards:
    return cards.read(shipped("device_profiles") / "rate_cards" / "standard-cny.toml")


def ack_of(epoch: str, sequence: int, head: str, *, durable: bool = False) -> Ack:
    """What the backend says of an epoch."""
    return Ack(
        device=IDENTITY.device,
        epoch=epoch,
        cum_ack=sequence,
        head_hash=head,
        ranges=[],
        rejects=[],
        durable_through=sequence if durable else 0,
        backend_id="b1",
        window_batches=8,
        not_before_ms=0,
        server_time="2026-11-22T12:00:00.000Z",
    )


def older(state: Path, clock: SimulatedClock) -> None:
    """Leaves a ledger as the first version of this code made it, to be migrated."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    believed, clock.believed = clock.believed, "floor"  # it knew no anchors
    epochs.begin(state, IDENTITY, clock, reason="first", version=1)
    epochs.name(state)
    clock.believed = believed


def a_usage() -> Draft:
    """A record as a turn makes it."""
    call = OpenCall(
        "019abcde-0000-7000-8000-000000000001", "019abcde-0000-7000-8000-000000000002", "llm", "llm_onnx", "smollm2-135m-instruct"
    )
    usage = StageUsage(input_tokens=158, cached_tokens=140, output_tokens=27)
    result = StageResult(call.stage, call.engine, call.model, "completed", usage, StageTimes(0, None, 1))
    named: dict[str, Any] = {"turn_id": call.turn_id, "session_id": call.session_id, "tokenizer": "smollm2-135m-instruct@0123456789ab"}
    intent = {"epoch": "0" * 32, "sequence": 1}
    content = usage_data(result, card=shipped_cards().versions[-1], intent=intent, **named)
    return Draft("usage", content, odometer_of(result))


class Life:
    """One process of one robot."""

    def __init__(self, state: Path, seed: int, say: Say | None = None, limits: Limits = TIGHT) -> None:
        self.chance = seeded(seed)
        self.clock = SimulatedClock(seed)
        if seed % 3 == 0 and not (state / LEDGER_FILE).exists():
            older(state, self.clock)
        self._state = state
        self._say = say
        self._open(limits)

    def _open(self, limits: Limits) -> None:
        self.ledger = WitnessedLedger(self._state, IDENTITY, self.clock, limits)
        if self._say is not None:
            self.ledger.say = self._say
        self.books = Books(self.ledger, shipped_cards(), "UTC", dict.fromkeys(STAGES, "w@1"), self.clock)

    async def reopen(self, limits: Limits) -> None:
        """A clean stop and a start, on another card."""
        await self.ledger.aclose()
        self._open(limits)

    async def live(self, steps: int, *, killed: bool = False) -> None:
        """The end of it is a clean stop, or none; most lives do not get there."""
        await self.books.recover()
        await self.ledger.salvage(self.books.cut_off)
        chances: list[tuple[Callable[[], Awaitable[object]], int]] = [
            (self.turn, 20),
            (self.sync, 5),
            (self.ledger.tidy, 3),
            (self._rotate, 1),
            (self._step_clock, 1),
            (self._new_epoch, 1),
        ]
        doings, weights = zip(*chances, strict=True)
        for _ in range(steps):
            (doing,) = self.chance.choices(doings, weights)
            await doing()
        if killed:
            os._exit(0)
        await self.ledger.aclose()

    async def turn(self) -> None:
        turn, session = self.clock.new_id(), "s"
        calls = [OpenCall(turn, session, stage, f"{stage}_scripted", "script") for stage in STAGES]
        intent = await self.books.intend(calls, begin=calls[:1])
        reached = self.chance.randrange(1, 4)
        for place, call in enumerate(calls[:reached]):
            if place:
                await self.books.start(call)
            if self.chance.random() < 0.3:
                await self.books.note([(call, self._used(call.stage))])
            settled = self.books.settle(call, self._ended(call), intent)
            await settled
        if reached < 3:
            await self.books.drop(calls[reached:])
        self.clock.advance(self.chance.random() * 100)

    def _used(self, stage: Stage) -> StageUsage:
        size = self.chance.randrange(1, 200)
        if stage == "asr":
            return StageUsage(output_tokens=size, audio_in_ms=size * 90)
        if stage == "llm":
            return StageUsage(input_tokens=size * 3, cached_tokens=size, output_tokens=size)
        return StageUsage(input_tokens=size, characters=size * 4, audio_out_ms=size * 80)

    def _ended(self, call: OpenCall) -> StageResult:
        outcome: Outcome = self.chance.choice(["completed", "completed", "interrupted", "failed"])
        usage = StageUsage(origin="unknown") if self.chance.random() < 0.05 else self._used(call.stage)
        return StageResult(call.stage, call.engine, call.model, outcome, usage, StageTimes(0, None, 1))

    async def sync(self, *, good: bool = False) -> None:
        """The backend takes everything and its backups some of it, unless the link is cut; all of it on a good day."""
        while (batch := await self.ledger.next_batch()) is not None:
            if not good and self.chance.random() < 0.2:
                return  # the batch may or may not have arrived
            durable = good or self.chance.random() < 0.5
            await self.ledger.take(ack_of(self.ledger.epoch, batch.last, batch.h_last.hex(), durable=durable))

    async def _rotate(self) -> None:
        keys = self.ledger.keys
        old = keys.current
        self.ledger.promise_key(old.key_id, used=True)
        new = keys.begin_rotation()
        self.ledger.promise_key(new.key_id, used=False)
        await self.ledger.append([Draft("key", key_record_data(self.ledger.epoch, old, new))])
        keys.promote()
        self.ledger.promise_key(new.key_id, used=True)

    async def _step_clock(self) -> None:
        self.clock.believed = self.chance.choice(["none", "floor", "ntp", "signed"])
        if self.chance.random() < 0.3:
            self.clock.reboot()

    async def _new_epoch(self) -> None:
        await self.ledger.begin_epoch("different")


def main() -> None:
    """Entry point."""
    state, seed, steps = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

    def say(line: str) -> None:
        if "marked" in sys.argv:
            mark(state, line)
        else:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    async def live() -> None:
        await Life(state, seed, say).live(steps, killed="killed" in sys.argv)

    asyncio.run(live())


if __name__ == "__main__":
    main()
