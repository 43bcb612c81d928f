"""What waits is told from the files, beside whoever owns them."""

import asyncio
from pathlib import Path

import pytest

from agent.errors import BadInput
from agent.sim.clock import SimulatedClock
from agent.store.waiting import age_s, waiting
from tests.store.ledger.helpers import ack, next_batch, take, take_all
from tests.store.test_ledger import append, ledger, usage


def test_it_counts_what_is_not_acked_of_all_epochs(tmp_path: Path, clock: SimulatedClock) -> None:
    with pytest.raises(BadInput, match="no ledger"):
        waiting(tmp_path)
    with ledger(tmp_path, clock) as books:
        append(books, usage(), usage())
        old, batch = books.epoch, next_batch(books)
        clock.advance(60)
        asyncio.run(books.begin_epoch("lost"))
        told = waiting(tmp_path)
        assert [(one["epoch"], one["acked"], one["last"], one["records"]) for one in told["epochs"]] == [
            (old, 0, 3, 3),
            (books.epoch, 0, 1, 1),
        ]
        assert (told["records"], told["last_ack"], told["dead_letters"]) == (4, None, 0)
        assert age_s(told["oldest"], clock.utc()) == 60
        take(books, ack(books, batch.last, batch.h_last, epoch=old))
        take_all(books, next_batch(books), rejects=[{"sequence": 1, "code": "invalid", "final": True}])
        told = waiting(tmp_path)
        assert (told["records"], told["oldest"], told["dead_letters"], len(told["epochs"])) == (0, None, 1, 1)
        assert told["last_ack"] is not None
        append(books, usage())
        asyncio.run(books.differs(books.epoch, "different"))
        assert waiting(tmp_path)["records"] == 2  # the new epoch's first, and what was issued again
