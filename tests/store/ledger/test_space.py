"""Pruning and rolling up: what is let go is what the backend has or what never left, and nothing of what it came to is lost."""

import asyncio
import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from agent.contract.record import check
from agent.metering import report
from agent.metering.record import odometer_of, usage_data
from agent.ports import Draft, Entry, OpenCall
from agent.sim.clock import SimulatedClock
from agent.store.db import meta
from agent.store.ledger import SqliteLedger
from agent.store.ledger.space import KEPT_DAYS
from agent.store.reading import LedgerReader
from agent.store.verify import verify_books
from agent.values import StageResult, StageTimes, StageUsage
from tests.metering.test_rating import card
from tests.store.ledger.helpers import Model, ack, cursor, do, fold, next_batch, pruned, take, take_all, unacked
from tests.store.test_ledger import append, ledger, usage

CALL = OpenCall("t", "s", "llm", "llm_scripted", "m")


def sequences(books: SqliteLedger) -> list[int]:
    return [row[0] for row in do(books, lambda connection: connection.execute("SELECT sequence FROM record ORDER BY 1").fetchall())]


def told(state: Path) -> tuple[dict[str, Any], object]:
    """The money, and the odometer."""
    reader = LedgerReader(state)
    try:
        return report.totals(reader.records()), reader.odometer()
    finally:
        reader.close()


def rollups(state: Path) -> list[dict[str, Any]]:
    reader = LedgerReader(state)
    try:
        return [record["data"] for record in reader.records("rollup") if check(record)]
    finally:
        reader.close()


def with_raw(draft: Draft) -> Draft:
    return Draft(draft.type, draft.data, draft.quantities, b'{"tokens":1}')


def intent() -> Draft:
    calls = [{"stage": "llm", "attempt": 1, "placement": "device", "model": "m", "reserved": "0"}]
    return Draft("intent", {"turn_id": "t", "session_id": "s", "calls": calls})


def test_only_what_is_acked_and_backed_up_is_pruned(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        batches = []
        for _ in range(4):
            append(books, with_raw(usage()), usage())
            batches.append(next_batch(books))
        assert pruned(books) == 0
        one, two, three, four = batches
        take_all(books, three)
        assert pruned(books) == 0
        take(books, ack(books, three.last, three.h_last, durable_through=two.last + 1))
        assert pruned(books) == two.last == 5
        assert sequences(books) == [6, 7, 8, 9]
        assert unacked(books) == [four]
        assert do(books, lambda connection: connection.execute("SELECT sequence FROM raw").fetchall()) == [(6,), (8,)]
        assert one.last < two.last
        assert verify_books(tmp_path).whole
    with ledger(tmp_path, clock) as books:
        assert unacked(books) == [four]
        assert append(books, usage()) == [10]
        assert next_batch(books).first == 10
        take_all(books, four, durable_through=four.last)
        assert pruned(books) == 4
    assert verify_books(tmp_path).whole


def test_a_mark_that_moves_back_keeps_what_is_behind_it(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage())
        first = next_batch(books)
        append(books, usage())
        second = next_batch(books)
        append(books, usage())
        take_all(books, second, durable_through=second.last)
        take(books, ack(books, first.last, first.h_last, durable_through=first.last), mark=True)
        assert pruned(books) == first.last
        assert unacked(books) == [second]


def test_a_backend_that_came_back_does_not_move_back_where_verification_begins(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        batches = []
        for _ in range(3):
            append(books, usage())
            batches.append(next_batch(books))
        first, second, _ = batches
        take_all(books, second, day=36, durable_through=second.last)
        assert pruned(books) == second.last
        take(books, ack(books, second.last, second.h_last, day=37, durable_through=first.last), mark=True)
        assert pruned(books) == 0
        verdict = verify_books(tmp_path)
        assert (verdict.problem, verdict.records) == ("", 1)


@pytest.mark.parametrize("years", [-10, 10, -56])
def test_35_days_pass_only_in_the_backends_signed_time(tmp_path: Path, clock: SimulatedClock, years: int) -> None:
    with ledger(tmp_path, clock) as books:
        batches = []
        for _ in range(3):
            append(books, usage())
            batches.append(next_batch(books))
        take_all(books, batches[0], day=0)
        clock.step_wall(datetime.timedelta(days=365 * years))
        clock.advance(90 * 86_400)
        assert pruned(books) == 0
        take_all(books, batches[1], day=KEPT_DAYS - 0.001)
        assert pruned(books) == 0
        take_all(books, batches[2], day=KEPT_DAYS)
        assert pruned(books) == batches[0].last
        assert sequences(books) == [3, 4]


def test_the_last_record_stays_whatever_is_acked(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        for _ in range(3):
            append(books, usage())
            batch = next_batch(books)
            take_all(books, batch, durable_through=batch.last)
        assert pruned(books) == 3
        assert sequences(books) == [4]
    with ledger(tmp_path, clock) as books:
        assert append(books, usage()) == [5]
        assert orjson.loads(do(books, meta)["checkpoint"])["sequence"] == 3
    assert verify_books(tmp_path).whole


def test_a_roll_up_changes_neither_money_nor_odometer_nor_the_chain(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, *(with_raw(usage(n, f"t{n}")) for n in range(20)), intent(), usage(3))
        clock.believed = "none"
        append(books, *(usage(n) for n in range(20)), usage())
        model, before = Model(books), told(tmp_path)
        assert fold(books)
        model.learn(books)
        assert sequences(books) == [1, 44, 45]
        assert told(tmp_path) == before
        assert do(books, lambda connection: connection.execute("SELECT count(*) FROM raw").fetchone()) == (0,)
        (folded,) = rollups(tmp_path)
        assert (folded["first"], folded["last"], folded["epoch"]) == (2, 43, books.epoch)
        assert (bytes.fromhex(folded["h_before"]), bytes.fromhex(folded["h_last"])) == (model.hashes[1], model.hashes[43])
        assert sum(Decimal(total.get("amount", "0")) for total in folded["totals"]) == Decimal("3.83")
        assert {total["span"] for total in folded["totals"]} == {"2026-11-01", f"boot:{clock.boot_id()}"}
        model.check(next_batch(books))
    assert verify_books(tmp_path).whole
    with ledger(tmp_path, clock) as books:
        append(books, usage())
    assert verify_books(tmp_path).whole


def test_roll_ups_side_by_side_link(tmp_path: Path, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.store.ledger.space.FOLDED_MAX", 25)
    with ledger(tmp_path, clock) as books:
        append(books, *(usage(n) for n in range(60)))
        model, before = Model(books), told(tmp_path)
        assert fold(books)
        assert fold(books)
        model.learn(books)
        first, second = rollups(tmp_path)
        assert (first["last"], second["first"]) == (25, 26)
        assert first["h_last"] == second["h_before"] == model.hashes[25].hex()
        assert told(tmp_path) == before
        while batch := asyncio.run(books.next_batch()):
            model.check(batch)
    assert verify_books(tmp_path).whole


def test_nothing_that_ever_left_is_rolled_up(tmp_path: Path, clock: SimulatedClock) -> None:
    """Also if it is not acknowledged: it may be on its way, or held beyond a gap, and would be billed twice."""
    with ledger(tmp_path, clock) as books:
        append(books, *(usage() for _ in range(30)))
        left = next_batch(books).last
        append(books, *(usage() for _ in range(30)), usage())
        assert (left, cursor(books)) == (31, (31, 0))
        sent = unacked(books)
        while fold(books):
            pass
        assert sequences(books) == [*range(1, left + 1), 62, 63]
        assert unacked(books) == sent
        next_batch(books)
        append(books, usage())
        assert not fold(books)


def test_other_records_and_what_is_issued_again_end_a_run(tmp_path: Path, clock: SimulatedClock) -> None:
    def replacing() -> Draft:
        result = StageResult("asr", "asr_scripted", "m", "completed", StageUsage(output_tokens=3), StageTimes(0, None, 1))
        replaces = {"epoch": "ab" * 16, "sequence": 7}
        written = usage_data(result, turn_id="t", session_id="s", card=card(), tokenizer="w@1", replaces=replaces)
        return Draft("usage", written, odometer_of(result))

    for name, ending in (("key", Draft("key", {"n": 1})), ("adjust", Draft("adjust", {"n": 1})), ("replaces", replacing())):
        with ledger(tmp_path / name, clock) as books:
            append(books, *(usage() for _ in range(20)), ending, *(usage() for _ in range(20)), ending)
            while fold(books):
                pass
            assert sequences(books) == [1, 22, 43, 44, 45]
        assert [(one["first"], one["last"]) for one in rollups(tmp_path / name)] == [(2, 21), (23, 42)]


def test_an_intent_is_folded_when_its_calls_have_ended_not_before(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, *(usage() for _ in range(20)))
        asyncio.run(books.append([intent()], [Entry(CALL, "intended"), Entry(CALL, "started")]))
        append(books, *(usage() for _ in range(20)), usage())
        while fold(books):
            pass
        assert sequences(books) == [1, 22, 44, 45]
        asyncio.run(books.append([usage()], [Entry(CALL, "settled")]))
        append(books, *(usage() for _ in range(20)))
        while fold(books):
            pass
        assert 22 in sequences(books)  # alone, with no usage beside it: not worth a roll-up
        assert verify_books(tmp_path).whole
    with ledger(tmp_path / "settled", clock) as books:
        asyncio.run(books.append([intent()], [Entry(CALL, "intended")]))
        asyncio.run(books.append([], [Entry(CALL, "settled")]))
        append(books, *(usage() for _ in range(20)), usage())
        assert fold(books)
        assert sequences(books) == [1, 23, 24]


def test_a_call_without_an_intent_does_not_stop_the_folding(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        asyncio.run(books.append([], [Entry(CALL, "intended")]))
        append(books, *(usage() for _ in range(20)), usage())
        assert fold(books)


def test_what_a_roll_up_would_not_make_smaller_stays(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage(), Draft("key", {"n": 1}), usage(), Draft("key", {"n": 2}))
        before = sequences(books)
        assert not fold(books)
        assert sequences(books) == before
