"""Whatever happens in whatever order: gapless, chained, the odometer the sum of all records, the money the sum of all charges."""

import asyncio
import datetime
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeVar

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.clock import ClockQuality
from agent.contract.ack import Ack
from agent.contract.batch import Batch, read
from agent.contract.canonical import genesis, link
from agent.contract.record import type_name
from agent.dialog.books import NO_TIMES, Books
from agent.dialog.stage import ended
from agent.metering import report
from agent.metering.cards import Cards
from agent.metering.record import odometer_of_data
from agent.ports import Appended, OpenCall
from agent.sim.clock import SimulatedClock
from agent.store.db import meta
from agent.store.ledger import SqliteLedger
from agent.store.ledger.leaving import backlog
from agent.store.ledger.space import Limits, fold_once, prune
from agent.store.reading import LedgerReader
from agent.store.verify import verify_books
from agent.values import StageUsage
from tests.metering.test_rating import card
from tests.store.ledger.helpers import ack
from tests.store.test_ledger import ROBOT, usage

T = TypeVar("T")

USAGE, ROLLUP = type_name("usage"), type_name("rollup")

PRICE = Decimal("0.01")

Ending = Literal["final", "dropped", "cut_off", "never began"]


@dataclass
class Open:
    """A call that is under way, and what its one record must show."""

    call: OpenCall
    intent: Appended
    started: bool = False
    noted: int | None = None


class LedgerMachine(RuleBasedStateMachine):
    """The real ledger beside a model that forgets nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.root = Path(tempfile.mkdtemp(prefix="voxmeter-"))
        self.lives = self.turns = 0
        self.bodies: list[bytes] = []
        self.hashes: list[bytes] = []
        self.folded: dict[int, int] = {}
        """Sequence of a folded record -> of its roll-up."""
        self.open: list[Open] = []
        self.endings: dict[tuple[str, str], Ending] = {}
        self.sent: list[Batch] = []
        self.acked = self.day = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.clock = SimulatedClock(seed)
        self.start(self.root / "0")
        self.hashes.append(genesis(self.ledger.epoch))

    def start(self, state: Path) -> None:
        self.state = state
        self.ledger = SqliteLedger(state, ROBOT, self.clock, Limits())
        self.books = Books(self.ledger, Cards.of([card()]), "UTC", {}, self.clock)

    # what a robot does

    @rule(tokens=st.lists(st.integers(0, 10**6), min_size=1, max_size=30))
    def append(self, tokens: list[int]) -> None:
        done = self.run(self.ledger.append([usage(one) for one in tokens]))
        assert [one.sequence for one in done] == [*range(self.last() + 1, self.last() + 1 + len(tokens))]

    @rule(placements=st.lists(st.sampled_from(["device", "cloud"]), min_size=1, max_size=3), begin=st.booleans())
    def intend(self, placements: list[Any], begin: bool) -> None:
        self.turns += 1
        calls = [OpenCall(f"turn {self.turns}", "s", "asr", "e", "m", place, number) for number, place in enumerate(placements, 1)]
        intent = self.run(self.books.intend(calls, calls[:1] if begin else ()))
        self.open += [Open(call, intent, begin and call is calls[0]) for call in calls]

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 99), tokens=st.none() | st.integers(0, 10**6))
    def start_or_note(self, which: int, tokens: int | None) -> None:
        one = self.open[which % len(self.open)]
        self.run(self.books.start(one.call) if tokens is None else self.books.note([(one.call, StageUsage(output_tokens=tokens))]))
        one.started, one.noted = True, tokens

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 99), tokens=st.integers(0, 10**6))
    def final(self, which: int, tokens: int) -> None:
        one = self.open.pop(which % len(self.open))
        result = ended(one.call, "completed", StageUsage(output_tokens=tokens), NO_TIMES)
        self.run(self.books.settle(one.call, result, one.intent))
        self.end(one, "final")

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 99))
    def drop(self, which: int) -> None:
        one = self.open.pop(which % len(self.open))
        self.run(self.books.drop([one.call]))
        self.end(one, "dropped")

    def end(self, one: Open, ending: Ending) -> None:
        place = (one.call.turn_id, str(one.call.attempt))
        assert place not in self.endings
        self.endings[place] = ending

    @rule(reboot=st.booleans(), twice=st.booleans())
    def crash(self, reboot: bool, twice: bool) -> None:
        """SIGKILL: the files as they are while the ledger is open. The second time there is nothing left to settle."""
        for _ in range(1 + twice):
            self.lives += 1
            state = self.root / str(self.lives)
            shutil.copytree(self.state, state)
            self.run(self.ledger.aclose())
            if reboot:
                self.clock.reboot()
            self.start(state)
            began = [one for one in self.open if one.started or one.call.placement == "cloud"]
            assert self.run(self.books.recover()) == len(began)
            for one in self.open:
                self.end(one, "cut_off" if one in began else "never began")
            self.open, before = [], self.last()
            self.learn()
            for body, one in zip(self.bodies[before:], began, strict=True):
                told = orjson.loads(body)["data"]
                assert (told["turn_id"], told["attempt"], told["outcome"]) == (one.call.turn_id, one.call.attempt, "cut_off")
                assert told["intent"] == {"epoch": one.intent.epoch, "sequence": one.intent.sequence}
                known = ("unknown", None) if one.noted is None else ("estimated", one.noted)
                assert (told["origin"], told.get("gen_ai.usage.output_tokens")) == known

    # what leaves and comes back

    @rule()
    def batch(self) -> None:
        batch = self.run(self.ledger.next_batch())
        assert (batch is None) == (bool(self.sent) and self.sent[-1].last == self.last())
        if batch:
            content = read(batch.content)
            assert [(self.hashes[at], self.bodies[at - 1]) for at, _, _ in content.records] == [row[1:] for row in content.records]
            assert bytes.fromhex(content.h_before) == self.hashes[batch.first - 1]
            quantities = {(line.stage, line.model, line.placement, line.class_): line.quantity for line in content.odometer}
            assert quantities == dict(self.odometer(batch.last))
            self.sent.append(batch)

    @precondition(lambda self: self.sent)
    @rule(which=st.integers(0, 99), durable=st.booleans(), mark=st.booleans(), days=st.sampled_from([0, 1, 36]))
    def ack(self, which: int, durable: bool, mark: bool, days: int) -> None:
        self.day += days
        batch = self.sent[which % len(self.sent)]
        standing = self.run(self.ledger.take(self.told(batch.last, batch.h_last, batch.last if durable else 0), mark=mark))
        assert standing == ("behind" if batch.last < self.acked else "agreed")
        if mark or standing == "agreed":
            self.acked = batch.last

    @rule(which=st.integers(0, 2**20), mark=st.booleans())
    def wrong_ack(self, which: int, mark: bool) -> None:
        sequence = 1 + which % (self.last() + 5)
        ends = {batch.last for batch in self.sent}  # whose hashes stay when their records have been pruned
        known = sequence in ends or (self.checkpoint() <= sequence <= self.last() and sequence not in self.folded)
        standing = self.run(self.ledger.take(self.told(sequence, b"\1" * 32, 0), mark=mark and sequence >= self.acked))
        assert standing == ("ahead" if sequence > self.last() else "different" if known or sequence >= self.acked else "behind")

    def told(self, sequence: int, head: bytes, durable: int) -> Ack:
        return ack(self.ledger, sequence, head, day=self.day, durable_through=durable)

    @rule()
    def prune(self) -> None:
        self.run(self.ledger._do(lambda connection: prune(connection, self.ledger.epoch, self.ledger.keys)))

    @rule(times=st.integers(1, 3))
    def roll_up(self, times: int) -> None:
        for _ in range(times):
            self.run(self.ledger._do(lambda connection: fold_once(connection, self.ledger._chain)))
            self.learn()

    @rule(pressure=st.sampled_from([0.5, 0.8, 0.95, 2]))
    def tidy(self, pressure: float) -> None:
        """A clean restart with another quota, then what the room asks for."""
        self.run(self.ledger.aclose())
        self.ledger = SqliteLedger(self.state, ROBOT, self.clock, Limits(quota_bytes=int(81_920 / pressure), free_bytes_min=0))
        self.books = Books(self.ledger, Cards.of([card()]), "UTC", {}, self.clock)
        self.run(self.books.recover())
        for one in self.open:
            self.end(one, "cut_off" if one.started or one.call.placement == "cloud" else "never began")
        self.open = []
        self.learn()
        self.run(self.ledger.tidy())

    @rule(days=st.sampled_from([-3650, -1, 1, 3650]), quality=st.sampled_from(["none", "floor", "ntp", "signed"]), reboot=st.booleans())
    def clocks(self, days: int, quality: ClockQuality, reboot: bool) -> None:
        self.clock.step_wall(datetime.timedelta(days=days))
        self.clock.believed = quality
        if reboot:
            self.clock.reboot()
        self.clock.advance(700)

    # what must hold

    def last(self) -> int:
        return len(self.bodies)

    def checkpoint(self) -> int:
        told = self.run(self.ledger._do(meta)).get("checkpoint")
        return int(orjson.loads(told)["sequence"]) if told else 0

    def learn(self) -> None:
        query = "SELECT sequence, body FROM record WHERE sequence > ? ORDER BY sequence"
        for sequence, body in self.run(self.ledger._do(lambda connection: connection.execute(query, (self.last(),)).fetchall())):
            assert sequence == self.last() + 1
            self.bodies.append(body)
            self.hashes.append(link(self.hashes[-1], body))
            record = orjson.loads(body)
            if record["type"] == ROLLUP:
                self.folded |= dict.fromkeys(range(record["data"]["first"], record["data"]["last"] + 1), sequence)

    def usages(self) -> list[tuple[int, dict[str, Any]]]:
        decoded = ((sequence, orjson.loads(body)) for sequence, body in enumerate(self.bodies, 1))
        return [(sequence, record["data"]) for sequence, record in decoded if record["type"] == USAGE]

    def odometer(self, through: int) -> Counter[tuple[str, str, str, str]]:
        held: Counter[tuple[str, str, str, str]] = Counter()
        for sequence, given in self.usages():
            if sequence <= through:
                held.update(odometer_of_data(given))
        return held

    @invariant()
    def all_holds(self) -> None:
        self.learn()
        self.nothing_is_lost()
        self.what_was_sent_can_be_sent_again()
        self.the_sums_are_right()
        self.every_call_ends_once()

    def nothing_is_lost(self) -> None:
        rows = self.run(self.ledger._do(lambda connection: connection.execute("SELECT sequence, hash, body FROM record").fetchall()))
        checkpoint = self.checkpoint()
        there = [sequence for sequence in range(checkpoint + 1, self.last() + 1) if sequence not in self.folded]
        assert {row[0]: row[1:] for row in rows} == {at: (self.hashes[at], self.bodies[at - 1]) for at in there}
        assert not set(self.folded).intersection(at for batch in self.sent for at, _, _ in read(batch.content).records)
        verdict = verify_books(self.state)
        assert (verdict.problem, verdict.records) == ("", len(there))

    def what_was_sent_can_be_sent_again(self) -> None:
        at = self.run(self.ledger._do(backlog.cursor))
        assert (at.batched, at.acked) == (self.sent[-1].last if self.sent else 0, self.acked)
        left = [batch for batch in self.sent if batch.last > max(self.acked, self.checkpoint())]
        assert self.run(self.ledger.unacked()) == left

    def the_sums_are_right(self) -> None:
        reader = LedgerReader(self.state)
        try:
            shown, odometer = report.totals(reader.records())["total"], reader.odometer()
        finally:
            reader.close()
        assert odometer == self.odometer(self.last())
        checkpoint, usages = self.checkpoint(), self.usages()
        pruned = [given for sequence, given in usages if self.folded.get(sequence, sequence) <= checkpoint]
        money = [sum(Decimal(given.get("amount", "0")) for given in some) for some in (pruned, [given for _, given in usages])]
        assert sum(Decimal(line["amount"]) for line in shown) + money[0] == money[1]
        assert money[1] == PRICE * sum(given.get("gen_ai.usage.output_tokens", 0) for _, given in usages)

    def every_call_ends_once(self) -> None:
        ends = Counter((given["turn_id"], str(given["attempt"])) for _, given in self.usages() if given["turn_id"] != "t")
        assert ends == Counter(place for place, ending in self.endings.items() if ending in {"final", "cut_off"})
        assert not {(one.call.turn_id, str(one.call.attempt)) for one in self.open} & set(self.endings)

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.run(self.ledger.aclose())
        self.runner.close()
        shutil.rmtree(self.root)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=70, stateful_step_count=40)
