"""The backlog: what leaves is noted first, holds together, and can be sent again byte for byte."""

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.contract.batch import BATCH_BYTES_MAX, Batch, read
from agent.errors import LedgerDamaged
from agent.ports import Draft
from agent.sim.clock import SimulatedClock
from agent.store.db import LEDGER_FILE
from agent.store.ledger.leaving.anchors import ANCHORS_MAX
from agent.store.verify import verify_books
from tests.store.ledger.helpers import Model, cursor, do, fold, killed, next_batch, unacked
from tests.store.test_ledger import append, ledger, usage

INSERT_ANCHOR = "INSERT INTO anchor (bootid, boottimems, time, quality) VALUES (?, ?, '2026-11-22T00:00:00.000Z', 'ntp')"


def test_a_batch_is_on_the_disk_as_left_before_anybody_holds_it(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path / "a", clock) as books:
        append(books, usage(), usage())
        batch = next_batch(books)
        state = killed(tmp_path / "a", tmp_path / "b")
        assert asyncio.run(books.next_batch()) is None
    with ledger(state, clock) as books:
        assert cursor(books) == (3, 0)
        assert unacked(books) == [batch]
        rows = do(books, lambda connection: connection.execute("SELECT first, last, hash, batch_id FROM batch").fetchall())
    assert rows == [(1, 3, batch.h_last, batch.batch_id)]


def test_batches_are_full_follow_each_other_and_carry_the_odometer_at_their_end(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, *(usage(n, f"t{n}") for n in range(200)))
        model, end = Model(books), 0
        while batch := asyncio.run(books.next_batch()):
            content = model.check(batch)
            assert (batch.first, batch.last - batch.first + 1) == (end + 1, len(content.bodies))
            assert batch.last == 201 or len(batch.content) > BATCH_BYTES_MAX - 2_000
            end = batch.last
        assert end == 201
        assert len(unacked(books)) > 2


def test_records_alone_are_never_too_many(tmp_path: Path, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of today has 400 bytes and more, so 64 KiB end a batch first; the limit of the contract must hold without that."""
    for where in ("agent.contract.batch", "agent.store.ledger.leaving.backlog"):
        monkeypatch.setattr(f"{where}.BATCH_BYTES_MAX", 1 << 30)
    with ledger(tmp_path, clock) as books:
        append(books, *(usage(1) for _ in range(700)))
        assert [next_batch(books).last, next_batch(books).last] == [500, 701]


STEPS = st.lists(st.one_of(st.integers(1, 40), st.sampled_from(["batch", "fold", "intent", "again"])), max_size=14)


@settings(max_examples=40)
@given(STEPS)
def test_batches_cross_what_was_folded_before_inside_and_after_them(
    tmp_path_factory: pytest.TempPathFactory, steps: Sequence[int | str]
) -> None:
    state = tmp_path_factory.mktemp("backlog")
    sent: list[Batch] = []
    with ledger(state, SimulatedClock()) as books:
        model = Model(books)
        for step in [*steps, "batch", "batch", "batch"]:
            if isinstance(step, int):
                append(books, *(usage(step) for _ in range(step)))
            elif step == "intent":
                append(books, Draft("key", {"note": "ends a run"}))
            elif step == "fold":
                fold(books)
            elif batch := asyncio.run(books.next_batch()) if step == "batch" else None:
                sent.append(batch)
            model.learn(books)
            assert unacked(books) == sent
        for batch in sent:
            model.check(batch)
        assert [batch.first - 1 for batch in sent[1:]] >= [batch.last for batch in sent[:-1]]
    with ledger(state, SimulatedClock(7)) as books:
        assert unacked(books) == sent
    assert verify_books(state).whole


def test_a_hole_lies_before_inside_and_after_a_batch(tmp_path: Path, clock: SimulatedClock) -> None:
    """The three places by name, so that nobody has to believe that the property test found them."""
    with ledger(tmp_path, clock) as books:
        next_batch(books)
        append(books, *(usage() for _ in range(30)), Draft("key", {"n": 1}), *(usage() for _ in range(30)), Draft("key", {"n": 2}))
        model = Model(books)
        assert fold(books)
        assert fold(books)
        model.learn(books)
        inside = next_batch(books)
        content = model.check(inside)
        assert (inside.first, [(hole.first, hole.last) for hole in content.holes]) == (32, [(33, 62)])
        assert bytes.fromhex(content.h_before) == model.hashes[31]
        append(books, *(usage() for _ in range(30)), usage())
        model.learn(books)
        assert fold(books)
        model.learn(books)
        assert unacked(books)[-1] == inside
        after = next_batch(books)
        model.check(after)
        assert after.first == 96


def test_a_roll_up_of_another_epoch_makes_no_hole(tmp_path: Path, clock: SimulatedClock) -> None:
    """What was issued again after a restore keeps the range of its old epoch."""
    with ledger(tmp_path, clock) as books:
        append(books, *(usage() for _ in range(30)), Draft("key", {"n": 1}))
        assert fold(books)
        stranger = {"epoch": "ab" * 16, "first": 2, "last": 4, "h_before": "0" * 64, "h_last": "1" * 64, "reason": "r", "totals": []}
        append(books, Draft("rollup", stranger))
        assert [hole.last for hole in read(next_batch(books).content).holes] == [31]


def test_raw_usage_travels_beside_its_record_unless_it_is_too_long(tmp_path: Path, clock: SimulatedClock) -> None:
    def with_raw(raw: bytes) -> Draft:
        draft = usage()
        return Draft(draft.type, draft.data, draft.quantities, raw)

    with ledger(tmp_path, clock) as books:
        append(books, with_raw(b"{}"), usage(), with_raw(b"x" * 16_384), with_raw(b"x" * 16_385))
        model = Model(books)
        content = model.check(next_batch(books))
        assert [(line.sequence, line.body) for line in content.raw] == [(2, b"{}"), (4, b"x" * 16_384)]
        append(books, *(with_raw(b"y" * 16_000) for _ in range(5)))
        model.learn(books)
        while batch := asyncio.run(books.next_batch()):
            model.check(batch)
        assert cursor(books) == (10, 0)


def test_anchors_of_a_batch_say_when_its_boots_were(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage())
        clock.reboot()
        clock.believed = "none"
        append(books, usage())
        first = next_batch(books)
        clock.believed = "signed"
        append(books, usage())
        again, second = unacked(books)[0], next_batch(books)
    assert [(anchor.boottimems, anchor.quality) for anchor in read(first.content).anchors] == [("0", "ntp")]
    assert again == first
    assert [anchor.quality for anchor in read(second.content).anchors] == ["signed"]


def test_a_robot_that_runs_for_a_year_still_sends_more_than_anchors(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        do(books, lambda connection: connection.executemany(INSERT_ANCHOR, [(clock.boot_id(), n * 600_000) for n in range(1, 52_560)]))
        for _ in range(120):
            clock.advance(3 * 86_400)
            append(books, usage())
        model = Model(books)
        batch = next_batch(books)
        content = model.check(batch)
        moments = [int(orjson.loads(body)["boottimems"]) for body in content.bodies]
        known = [int(anchor.boottimems) for anchor in content.anchors]
    assert batch.last > 30
    assert known == sorted(set(known))
    assert len(known) <= ANCHORS_MAX
    assert max(at for at in known if at <= moments[0]) == 0
    assert min(at for at in known if at >= moments[-1]) == moments[-1]


def test_a_robot_that_starts_for_every_record_still_sends_batches(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        for _ in range(200):
            clock.reboot()
            append(books, usage())
            more = [(clock.boot_id(), later) for later in range(1, 6)]
            do(books, lambda connection, more=more: connection.executemany(INSERT_ANCHOR, more))  # type: ignore[misc]
        model = Model(books)
        batches = []
        while batch := asyncio.run(books.next_batch()):
            batches.append(model.check(batch))
    assert sum(len(batch.bodies) for batch in batches) == 201
    assert len(batches) <= 12
    assert all({anchor.bootid for anchor in batch.anchors} == {orjson.loads(body)["bootid"] for body in batch.bodies} for batch in batches)


def test_a_record_that_was_altered_on_the_disk_does_not_leave(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage(), usage())
        do(
            books,
            lambda connection: connection.execute("UPDATE record SET body = CAST(replace(body, 'asr', 'llm') AS BLOB) WHERE sequence = 2"),
        )
        with pytest.raises(LedgerDamaged, match="record 2 is not what was chained"):
            next_batch(books)
    held = sqlite3.connect(tmp_path / LEDGER_FILE).execute("SELECT count(*) FROM batch").fetchone()
    assert held == (0,)
