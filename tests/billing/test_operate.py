"""Orders to the backend: what can't be read is one line, whether a backend runs or not."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from agent.billing.access import Access, audit
from agent.billing.access.keyfile import KEY_FILE, backend_key
from agent.billing.access.tables import AUDIT
from agent.billing.ledger import Store, devices
from agent.billing.operate import answering, handed_over, ordered, restore
from agent.billing.serve import Settings, serve
from agent.contract.signing import SigningKey
from agent.errors import BadInput, LedgerBusy, VoxmeterError
from agent.files import write_durably
from agent.sim.clock import SimulatedClock

ROBOT = SigningKey.from_seed(b"r" * 32)

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


def test_books_that_robots_are_on_are_not_served_with_another_key(tmp_path: Path, clock: SimulatedClock) -> None:
    made = asyncio.run(ordered(tmp_path, {"op": "keys create", "name": "office", "scopes": ["admin"]}, clock))
    key = tmp_path / KEY_FILE
    key.unlink()
    asyncio.run(ordered(tmp_path, {"op": "keys list"}, clock))  # nobody believes it yet
    kept = key.read_bytes()
    asyncio.run(registered(tmp_path, clock))
    key.unlink()
    settings = Settings(tmp_path, port=0, plain=True)
    for work in (ordered(tmp_path, {"op": "keys revoke", "id": made["id"]}, clock), serve(settings, clock, print, print)):
        with pytest.raises(BadInput, match=r"keys/backend is missing, and robots are on the books; put back the copy") as told:
            asyncio.run(work)
        assert "\n" not in str(told.value)
        assert not key.exists()
    write_durably(key, kept)
    assert asyncio.run(ordered(tmp_path, {"op": "keys list"}, clock))


async def registered(folder: Path, clock: SimulatedClock) -> None:
    store = Store(folder, clock)
    await store.write(lambda connection: devices.register(connection, "demo", "sim-1", "hotel", ROBOT.public, "2026"))
    await store.aclose()


def test_a_backup_tells_which_key_to_keep_with_it_and_is_restored_under_the_lock(tmp_path: Path, clock: SimulatedClock) -> None:
    books, copy, other = tmp_path / "books", tmp_path / "copy.db", tmp_path / "other"
    asyncio.run(registered(books, clock))
    backed = asyncio.run(running(books, clock, handed_over(books, {"op": "backup", "file": str(copy)})))
    assert Path(backed["key"]).read_bytes() == (books / "keys" / "backend").read_bytes()
    asyncio.run(ordered(books, {"op": "keys create", "name": "later", "scopes": ["admin"]}, clock))

    async def meanwhile() -> None:
        restore(books, copy)

    with pytest.raises(LedgerBusy, match="belong to process"):
        asyncio.run(running(books, clock, meanwhile()))
    assert asyncio.run(ordered(books, {"op": "keys list"}, clock))
    assert restore(books, copy)["key_found"]
    assert asyncio.run(ordered(books, {"op": "keys list"}, clock)) == []
    assert not restore(other, copy)["key_found"]
    with pytest.raises(BadInput, match="put back the copy"):
        asyncio.run(ordered(other, {"op": "keys list"}, clock))


def test_the_operator_sees_the_last_of_the_log_and_where_it_was_altered(tmp_path: Path, clock: SimulatedClock) -> None:
    assert asyncio.run(ordered(tmp_path, {"op": "audit"}, clock)) == {"lines": 0, "first_broken": None, "entries": []}
    for n in range(audit.LAST_LINES + 2):
        asyncio.run(ordered(tmp_path, {"op": "keys create", "name": str(n), "scopes": ["admin"]}, clock))
    told = asyncio.run(running(tmp_path, clock, handed_over(tmp_path, {"op": "audit"})))
    assert (told["lines"], told["first_broken"]) == (audit.LAST_LINES + 2, None)
    assert [line["told"]["name"] for line in told["entries"]] == [str(n) for n in range(2, audit.LAST_LINES + 2)]
    asyncio.run(altered(tmp_path, clock, 5))
    assert asyncio.run(ordered(tmp_path, {"op": "audit"}, clock))["first_broken"] == 5


async def altered(folder: Path, clock: SimulatedClock, line: int) -> None:
    store = Store(folder, clock)
    await store.write(lambda connection: connection.execute(update(AUDIT).where(AUDIT.c.id == line).values(actor="nobody")) and None)
    await store.aclose()


def test_where_no_backend_runs_nothing_is_handed_over(tmp_path: Path) -> None:
    with pytest.raises(LedgerBusy, match=r"the backend in .* takes no commands"):
        asyncio.run(handed_over(tmp_path, {"op": "keys list"}))
