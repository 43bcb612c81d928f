"""Orders to the backend: what can't be read is one line, whether a backend runs or not."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from agent.billing.access import Access
from agent.billing.access.keyfile import backend_key
from agent.billing.ledger import Store
from agent.billing.operate import answering, handed_over, ordered
from agent.errors import LedgerBusy, VoxmeterError
from agent.sim.clock import SimulatedClock

UNREADABLE: list[dict[str, Any]] = [
    {"op": "keys create"},
    {"op": "keys create", "name": "x", "scopes": None},
    {"op": "token", "tenant": "t", "account": "a", "hours": "soon"},
    {"op": "token", "tenant": "t", "account": "a", "hours": []},
]


async def running(folder: Path, clock: SimulatedClock, work: Awaitable[Any]) -> Any:
    """Beside a backend that takes orders."""
    store = Store(folder, clock)
    try:
        async with answering(folder, store, Access(store, backend_key(folder, clock), clock)):
            return await work
    finally:
        await store.aclose()


@pytest.mark.parametrize("asked", UNREADABLE, ids=str)
def test_an_order_that_can_not_be_read_is_one_line(tmp_path: Path, clock: SimulatedClock, asked: dict[str, Any]) -> None:
    for work in (ordered(tmp_path, asked, clock), running(tmp_path, clock, handed_over(tmp_path, asked))):
        with pytest.raises(VoxmeterError, match=r"this is no command: .*; use the same version on both sides") as told:
            asyncio.run(work)
        assert told.value.code == "bad-input"


def test_an_order_is_carried_out_by_the_backend_that_runs(tmp_path: Path, clock: SimulatedClock) -> None:
    made = asyncio.run(ordered(tmp_path, {"op": "keys create", "name": "office", "scopes": ["admin"]}, clock))
    listed = asyncio.run(running(tmp_path, clock, ordered(tmp_path, {"op": "keys list"}, clock)))
    assert [one["id"] for one in listed] == [made["id"]]


def test_an_order_the_backend_does_not_know_is_told_what_it_knows(tmp_path: Path, clock: SimulatedClock) -> None:
    with pytest.raises(VoxmeterError, match=r"the backend does not know this command; it knows: keys create, .*, backup"):
        asyncio.run(running(tmp_path, clock, handed_over(tmp_path, {"op": "sing"})))


def test_where_no_backend_runs_nothing_is_handed_over(tmp_path: Path) -> None:
    with pytest.raises(LedgerBusy, match=r"the backend in .* takes no commands"):
        asyncio.run(handed_over(tmp_path, {"op": "keys list"}))
