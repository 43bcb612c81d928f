"""Acks: the cursor moves only where both sides have the same hash, and only a mark moves it back."""

from pathlib import Path

import orjson
import pytest

from agent.contract.batch import read
from agent.contract.canonical import genesis
from agent.sim.clock import SimulatedClock
from agent.store.db import meta
from agent.store.ledger.leaving import backlog, side
from tests.store.ledger.helpers import Model, ack, cursor, do, fold, next_batch, odometer_in, pruned, take, take_all, unacked
from tests.store.test_ledger import append, ledger, usage


def test_an_ack_moves_the_cursor_and_then_the_side_file(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        for _ in range(2):
            append(books, usage(5))
            batch = next_batch(books)
            assert take_all(books, batch, durable_through=1) == "agreed"
            assert cursor(books) == (batch.last, batch.last)
            told = side.read(tmp_path)
            assert (told["epoch"], told["sequence"], told["hash"]) == (books.epoch, batch.last, batch.h_last.hex())
            assert backlog.totals_of(orjson.dumps(told["odometer"]).decode()) == odometer_in(read(batch.content))
        assert unacked(books) == []
    with ledger(tmp_path, clock) as books:
        assert cursor(books) == (3, 3)


def test_an_ack_counts_although_its_batch_s_odometer_can_t_be_read_and_the_side_file_stays(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage(5))
        take_all(books, next_batch(books))
        before = side.read(tmp_path)
        append(books, usage(5))
        batch = next_batch(books)
        do(books, lambda connection: connection.execute("UPDATE batch SET odometer = '[{' WHERE last = ?", (batch.last,)))
        assert take_all(books, batch) == "agreed"
        assert cursor(books) == (batch.last, batch.last)
        assert side.read(tmp_path) == before


@pytest.mark.parametrize("mark", [False, True])
def test_a_cursor_does_not_move_to_a_hash_that_is_not_ours(tmp_path: Path, clock: SimulatedClock, mark: bool) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage())
        batch = next_batch(books)
        wrong = ack(books, batch.last, b"\1" * 32, durable_through=2, rejects=[{"sequence": 2, "code": "c", "final": True}])
        assert take(books, wrong, mark=mark) == "different"
        assert cursor(books) == (2, 0)
        assert unacked(books) == [batch]
        assert do(books, lambda connection: connection.execute("SELECT count(*) FROM deadletter").fetchone()) == (0,)
        assert "durable_through" not in do(books, meta)
    assert not (tmp_path / side.SIDE_FILE).exists()


def test_a_backend_that_is_ahead_moves_nothing(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage())
        batch = next_batch(books)
        assert take(books, ack(books, 3, b"\1" * 32), mark=True) == "ahead"
        assert take(books, ack(books, 2, batch.h_last, ranges=[{"first": 4, "last": 9}])) == "ahead"
        assert cursor(books) == (2, 0)
    assert not (tmp_path / side.SIDE_FILE).exists()


def test_an_ack_of_another_epoch_moves_nothing(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage())
        batch = next_batch(books)
        take_all(books, batch, epoch="cd" * 16)
        assert cursor(books) == (2, 0)
    assert not (tmp_path / side.SIDE_FILE).exists()


def test_only_a_mark_moves_the_cursor_back(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage())
        first = next_batch(books)
        append(books, usage())
        second = next_batch(books)
        take_all(books, second)
        stale = ack(books, first.last, first.h_last, durable_through=2)
        assert (take(books, stale), cursor(books), unacked(books)) == ("behind", (3, 3), [])
        assert do(books, meta)["durable_through"] == "0"
        assert (take(books, stale, mark=True), cursor(books), unacked(books)) == ("behind", (3, 2), [second])
        assert side.read(tmp_path)["sequence"] == 2
        assert (take(books, ack(books, 0, genesis(books.epoch)), mark=True), cursor(books)) == ("behind", (3, 0))
        assert unacked(books) == [first, second]


def test_what_was_acked_anew_is_kept_35_days_anew(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage())
        batch = next_batch(books)
        append(books, usage())
        take_all(books, batch, day=0)
        take(books, ack(books, 0, genesis(books.epoch), day=30), mark=True)
        take_all(books, batch, day=30)
        take_all(books, batch, day=40)
        assert pruned(books) == 0
        take_all(books, batch, day=65)
        assert pruned(books) == 2


def test_an_ack_that_moves_nothing_still_tells_of_backups_and_time(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage())
        batch = next_batch(books)
        append(books, usage())
        take_all(books, batch)
        take_all(books, batch, day=1, durable_through=batch.last)
        take_all(books, batch, day=0.5, durable_through=0)  # overtaken on its way
        assert do(books, meta)["durable_through"] == "2"
        assert pruned(books) == 2


def test_a_final_reject_is_passed_and_kept_as_a_dead_letter(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, usage(), usage())
        model = Model(books)
        rejects = [{"sequence": 2, "code": "no-such-account", "final": True}, {"sequence": 3, "code": "later", "final": False}]
        take_all(books, next_batch(books), rejects=rejects)
        assert cursor(books) == (3, 3)
        letters = do(books, lambda connection: connection.execute("SELECT sequence, code, body FROM deadletter").fetchall())
        assert letters == [(2, "no-such-account", model.bodies[2])]
        append(books, usage())
        take_all(books, next_batch(books), durable_through=4)
        append(books, usage())
        assert pruned(books) == 4
        assert do(books, lambda connection: connection.execute("SELECT sequence FROM deadletter").fetchall()) == [(2,)]


def test_what_the_backend_holds_has_left_even_if_the_disk_forgot_it(tmp_path: Path, clock: SimulatedClock) -> None:
    """A disk that lied about a sync may lose the note of a batch and keep its records; they must not be folded as well."""
    for name, told in (("linked", (31, [])), ("range", (1, [{"first": 3, "last": 31}]))):
        with ledger(tmp_path / name, clock) as books:
            append(books, *(usage() for _ in range(30)), usage())
            model = Model(books)
            assert take(books, ack(books, told[0], model.hashes[told[0]], ranges=told[1])) == "agreed"
            assert not fold(books)
            model.check(next_batch(books))
            assert cursor(books) == (32, told[0])


def test_a_mark_below_what_was_pruned_leaves_what_is_there_to_be_sent(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        batches = []
        for _ in range(4):
            append(books, usage())
            batches.append(next_batch(books))
        last = batches[-1]
        take_all(books, last, durable_through=4)
        assert pruned(books) == 4
        model_head = read(last.content).h_before
        assert take(books, ack(books, 2, b"\2" * 32), mark=True) == "different"
        assert take(books, ack(books, 2, batches[0].h_last), mark=True) == "behind"
        assert unacked(books) == [last]
        assert read(unacked(books)[0].content).h_before == model_head
    with ledger(tmp_path, clock) as books:
        assert unacked(books) == [last]
