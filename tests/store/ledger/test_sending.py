"""What the port Backlog adds to the present epoch's batches: earlier epochs, issuing again, declared losses, the change of the key."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from agent.contract.ack import Ack
from agent.contract.batch import Batch, read
from agent.errors import LedgerDamaged, LedgerFull
from agent.metering import report
from agent.ports import Appended, Draft, Entry
from agent.sim.clock import SimulatedClock
from agent.store.ledger import SqliteLedger
from agent.store.ledger.leaving import backlog
from agent.store.ledger.leaving.earlier import AGAIN_AT_ONCE, EPOCHS_MAX
from agent.store.reading import LedgerReader
from agent.store.verify import verify_books
from tests.store.ledger.helpers import ack, cursor, do, next_batch, pruned, take, take_all
from tests.store.test_ledger import append, ledger, usage


def turns(count: int) -> list[Draft]:
    """Usage of turns of their own."""
    return [Draft("usage", dict(usage(3).data) | {"turn_id": f"turn {number}"}, usage(3).quantities) for number in range(count)]


def records(state: Path, type_: str) -> list[dict[str, Any]]:
    reader = LedgerReader(state)
    try:
        return list(reader.records(type_))  # type: ignore[arg-type]
    finally:
        reader.close()


def earlier(books: SqliteLedger) -> list[str]:
    return asyncio.run(books.epochs())[:-1]


def test_an_earlier_epoch_is_sent_under_its_own_name_until_all_of_it_is_acked(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, *turns(2))
        first, old = next_batch(books), books.epoch
        append(books, *turns(1))
        asyncio.run(books.begin_epoch("lost"))
        assert asyncio.run(books.epochs()) == [old, books.epoch]
        assert asyncio.run(books.unacked(old)) == [first]
    with ledger(tmp_path, clock) as books:
        rest = asyncio.run(books.next_batch(old))
        assert rest is not None
        assert read(rest.content).epoch == old
        assert asyncio.run(books.next_batch(old)) is None
        for batch in (first, rest):
            assert asyncio.run(books.unacked(old))
            assert take(books, ack(books, batch.last, batch.h_last, epoch=old)) == "agreed"
        assert asyncio.run(books.unacked(old)) == []
        assert earlier(books) == [old]  # it is asked about on: the backend may lose it
    assert verify_books(tmp_path).whole


def test_what_the_backend_has_otherwise_is_issued_again_once(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, *turns(2 * AGAIN_AT_ONCE + 7))
        take_all(books, batch := next_batch(books))
        left, old = 2 * AGAIN_AT_ONCE + 8 - batch.last, books.epoch
        asyncio.run(books.differs(old, "different"))
        assert books.epoch != old
        assert asyncio.run(books.epochs()) == [books.epoch]
        asyncio.run(books.differs(old, "different"))
    again = [record for record in records(tmp_path, "usage") if "replaces" in record["data"]]
    assert [one["data"]["replaces"] for one in again] == [{"epoch": old, "sequence": batch.last + 1 + n} for n in range(left)]
    assert report.totals(records(tmp_path, "usage"))["stages"][0]["records"] == 2 * AGAIN_AT_ONCE + 7
    told = [record["data"] for record in records(tmp_path, "epoch")]
    assert (told[-1]["previous"], told[-1]["reason"]) == (old, "different")
    assert verify_books(tmp_path).whole


@pytest.mark.parametrize("pieces", [0, 1, 2])
def test_issuing_again_goes_on_where_it_was_cut_off(tmp_path: Path, clock: SimulatedClock, pieces: int) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, *turns(3 * AGAIN_AT_ONCE))
        old, put, done = books.epoch, books._put_again, 0

        def cut(drafts: Any, noted: dict[str, str]) -> Any:
            nonlocal done
            done += 1
            if done > pieces:
                raise LedgerFull("cut off")
            return put(drafts, noted)

        books._put_again = cut  # type: ignore[method-assign]
        with pytest.raises(LedgerFull):
            asyncio.run(books.differs(old, "ahead"))
    with ledger(tmp_path, clock) as books:
        assert asyncio.run(books.epochs()) == [old, books.epoch]  # only the backend knows that it differs; it is asked again
        asyncio.run(books.differs(old, "ahead"))
        assert earlier(books) == []
    assert sum("replaces" in record["data"] for record in records(tmp_path, "usage")) == 3 * AGAIN_AT_ONCE


def test_an_earlier_epoch_that_lost_what_had_left_is_named_by_a_new_one_once(tmp_path: Path, clock: SimulatedClock) -> None:
    """A disk that lied about an earlier ledger's end: only the backend knows, and the books must say it."""
    with ledger(tmp_path, clock) as books:
        append(books, *turns(4))
        old = books.epoch
        asyncio.run(books.begin_epoch("different"))
        told = ack(books, 9, b"\1" * 32, epoch=old)
        assert take(books, told, mark=True) == "ahead"
        asyncio.run(books.differs(old, "ahead"))
        assert asyncio.run(books.epochs())[-1] == books.epoch
        asyncio.run(books.differs(old, "ahead"))  # it was stopped before it was noted that all is issued again
    begun = [(record["data"]["reason"], record["data"].get("previous")) for record in records(tmp_path, "epoch")]
    assert sorted(begun, key=str) == [("ahead", old), ("different", old), ("first", None)]
    again = [record["data"]["replaces"] for record in records(tmp_path, "usage") if "replaces" in record["data"]]
    assert again == [{"epoch": old, "sequence": number} for number in range(2, 6)]
    assert verify_books(tmp_path).whole


def test_what_a_restored_backend_lacks_and_is_pruned_is_declared_once(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        batches: list[Batch] = []
        for size in (1, 2, 3, 4):
            append(books, usage(size))
            batches.append(next_batch(books))
        take_all(books, batches[-1], durable_through=batches[-1].last)
        end = batches[-2]
        append(books, usage(1))
        next_batch(books)
        assert pruned(books)
        lost = batches[0]
        standings = [take(books, ack(books, lost.last, lost.h_last), mark=True) for _ in range(2)]
        assert standings == ["behind", "agreed"]
        (gap,) = [record["data"] for record in records(tmp_path, "gap")]
        told = {key: gap[key] for key in ("epoch", "first", "last", "h_before", "h_last")}
        assert told["first"] == lost.last + 1
        assert told["h_before"] == lost.h_last.hex()
        assert gap["last"] >= end.last
        assert sum(line["quantity"] for line in gap["totals"]) == do(books, lambda connection: _between(connection, lost.last, gap["last"]))
        assert all(batch.first > gap["last"] for batch in asyncio.run(books.unacked()))
    assert verify_books(tmp_path).whole


def _between(connection: Any, begin: int, end: int) -> int:
    odometer = dict(connection.execute("SELECT last, odometer FROM batch WHERE last IN (?, ?)", (begin, end)).fetchall())
    return sum((backlog.totals_of(odometer[end]) - backlog.totals_of(odometer[begin])).values())


def test_what_is_lost_of_an_earlier_epoch_is_declared_in_the_present_one(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        batches: list[Batch] = []
        for size in (1, 2, 3):
            append(books, usage(size))
            batches.append(next_batch(books))
        take_all(books, batches[-1], durable_through=batches[-1].last)
        append(books, usage(1))
        next_batch(books)
        assert pruned(books)
        old = books.epoch
        asyncio.run(books.begin_epoch("lost"))
        for _ in range(2):
            take(books, ack(books, batches[0].last, batches[0].h_last, epoch=old), mark=True)
    (gap,) = records(tmp_path, "gap")
    assert (gap["data"]["epoch"], gap["data"]["first"], gap["data"]["h_before"]) == (old, batches[0].last + 1, batches[0].h_last.hex())
    assert gap["source"].endswith(books.epoch)


def test_more_lines_than_a_record_holds_are_left_out_of_what_is_declared(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, *(Draft("usage", usage(1).data, {("llm", f"model {number}", "device", "output"): 1}) for number in range(60)))
        take_all(books, batch := next_batch(books), durable_through=batch.last)
        append(books, usage(1))
        next_batch(books)
        assert pruned(books)
        begin = bytes.fromhex(read(batch.content).h_before)
        assert take(books, ack(books, 0, begin), mark=True) == "behind"
    assert len(records(tmp_path, "gap")) == 1


def test_an_ack_of_before_a_restore_moves_nothing_after_it(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage(1))
        one = next_batch(books)
        append(books, usage(1))
        two = next_batch(books)
        assert take(books, ack(books, one.last, one.h_last, backend_id="restored"), mark=True) == "agreed"
        assert take(books, ack(books, two.last, two.h_last, backend_id="before", durable_through=two.last)) == "behind"
        assert cursor(books) == (two.last, one.last)
        assert take(books, ack(books, two.last, two.h_last, backend_id="restored")) == "agreed"


def test_of_many_earlier_epochs_the_oldest_that_wait_are_sent_first(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage(1))
        epochs = [books.epoch]
        for _ in range(EPOCHS_MAX + 1):
            take_all(books, next_batch(books)) if len(epochs) > 1 else None
            epochs.append(asyncio.run(books.begin_epoch("lost")))
        listed = earlier(books)
        assert len(listed) == EPOCHS_MAX
        assert listed[0] == epochs[0]
        assert listed[-1] == epochs[-2]


@pytest.mark.parametrize("body", [b"\xff", b"{}", b"[1]", b'{"bootid":1}'])
def test_a_record_that_can_not_be_read_is_damage_and_nothing_else(tmp_path: Path, clock: SimulatedClock, body: bytes) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage(1))
        do(books, lambda connection: connection.execute("UPDATE record SET body = ? WHERE sequence = 2", (body,)))
        with pytest.raises(LedgerDamaged):
            asyncio.run(books.next_batch())


def test_an_epoch_that_gives_way_meanwhile_has_no_batch_for_who_asked(tmp_path: Path, clock: SimulatedClock) -> None:
    async def race(books: SqliteLedger) -> tuple[Batch | None, list[Batch]]:
        old = books.epoch
        _, batch, again = await asyncio.gather(books.begin_epoch("lost"), books.next_batch(old), books.unacked(old))
        return batch, again

    with ledger(tmp_path, clock) as books:
        append(books, usage(1))
        assert asyncio.run(race(books)) == (None, [])


def test_nobody_is_told_of_a_loss_by_an_ack_that_was_overtaken(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage(1))
        one = next_batch(books)
        append(books, usage(1))
        take_all(books, two := next_batch(books), durable_through=two.last)
        pruned(books)
        assert take(books, ack(books, one.last, one.h_last)) == "behind"
    assert records(tmp_path, "gap") == []


def test_a_new_key_signs_once_the_backend_holds_the_record_that_names_it(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        old = books.keys.current
        asyncio.run(books.rotate())
        first = next_batch(books)
        assert asyncio.run(books.signed(first))["vx-key"] == old.key_id
        pending = books.keys.pending
        assert pending is not None
        append(books, usage())
        take_all(books, first)
        assert books.keys.current == pending
        assert asyncio.run(books.signed(next_batch(books)))["vx-key"] == pending.key_id
    assert verify_books(tmp_path).whole


def test_a_mark_dates_the_records_of_a_robot_without_a_clock(tmp_path: Path, clock: SimulatedClock) -> None:
    clock.believed = "floor"
    with ledger(tmp_path, clock) as books:
        append(books, usage())
        told: Ack = ack(books, 0, bytes.fromhex(read(next_batch(books).content).h_before))
        assert take(books, told, mark=True) == "agreed"
        append(books, usage())
        anchors = orjson.loads(next_batch(books).content)["anchors"]
        assert [(anchor["quality"], anchor["time"]) for anchor in anchors] == [("signed", told.server_time)]


def test_whoever_sends_is_woken_by_an_append(tmp_path: Path, clock: SimulatedClock) -> None:
    async def wait(books: SqliteLedger) -> list[Appended]:
        waiting = asyncio.create_task(books.grown())
        await asyncio.sleep(0)
        assert not waiting.done()
        done = await books.append(turns(1), NO_ENTRIES)
        await waiting
        return done

    with ledger(tmp_path, clock) as books:
        assert len(asyncio.run(wait(books))) == 1


NO_ENTRIES: Sequence[Entry] = ()
