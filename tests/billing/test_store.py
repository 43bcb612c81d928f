"""The books: durable together, owned once, and another backend after every restore."""

import asyncio
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from agent.billing.ledger import Store, devices, sqlite
from agent.billing.ledger.tables import meta, usage_key
from agent.contract.registration import NewKey
from agent.contract.signing import SigningKey, key_id_of, key_record_data
from agent.errors import BadInput, LedgerBusy, LedgerDamaged
from agent.sim.clock import SimulatedClock
from tests.billing.helpers import EPOCH, KEY, NAME, NOW, TENANT, Backend, Robot, told, with_backend

OTHER = SigningKey.from_seed(b"o" * 32)


def opened(folder: Path, seed: int) -> str:
    """Who a backend says it is after a start, ended cleanly."""

    async def run() -> str:
        store = Store(folder, SimulatedClock(seed))
        await store.aclose()
        return store.backend_id

    return asyncio.run(run())


def note(name: str) -> Any:
    return lambda connection: connection.execute(insert(meta).values(name=name, value="x")).rowcount


def noted(connection: Connection) -> set[str]:
    return set(connection.execute(select(meta.c.name)).scalars())


def test_work_that_waits_together_is_done_and_one_that_fails_fails_alone(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store(tmp_path, SimulatedClock(1))
        names = ["a", "b", "a", "c"]
        results = await asyncio.gather(*(store.write(note(name)) for name in names), return_exceptions=True)
        assert [result if isinstance(result, int) else type(result) for result in results] == [1, 1, LedgerDamaged, 1]
        assert {"a", "b", "c"} <= await store.read(noted)
        await store.aclose()
        with pytest.raises(LedgerDamaged, match="closed"):
            await store.write(note("d"))

    asyncio.run(run())


def test_what_was_written_is_there_after_the_process_is_gone(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store(tmp_path, SimulatedClock(1))
        await store.write(note("a"))
        store.abandon()
        store = Store(tmp_path, SimulatedClock(2))
        assert "a" in await store.read(noted)
        await store.aclose()

    asyncio.run(run())


@pytest.fixture
def open_handed() -> Iterator[None]:
    """A process that leaves its files to everybody."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("open_handed")
def test_all_that_the_books_are_made_of_is_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o777)
    for name in ("billing.mark", "billing.lock"):  # as an earlier version, or a copy, left them
        (folder / name).touch(mode=0o644)

    async def run() -> None:
        store = Store(folder, SimulatedClock(1))
        await store.write(note("a"))
        await store.backup(tmp_path / "copy.db")
        store.abandon()

    asyncio.run(run())
    (folder / "billing.db").chmod(0o644)
    opened(folder, 2)
    sqlite.restore(tmp_path / "copy.db", tmp_path / "other")
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in found} >= {"billing.db", "billing.mark", "billing.lock", "copy.db"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o600}


@pytest.mark.usefixtures("open_handed")
def test_the_log_beside_the_books_is_for_their_owner_alone(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store(tmp_path, SimulatedClock(1))
        await store.write(note("a"))
        assert {stat.S_IMODE((tmp_path / f"billing.db{suffix}").stat().st_mode) for suffix in sqlite.LOGS} == {0o600}
        await store.aclose()

    asyncio.run(run())


def test_good_books_give_way_to_nothing_but_a_backup(tmp_path: Path) -> None:
    opened(tmp_path / "books", 1)
    opened(tmp_path / "others", 2)
    before = (tmp_path / "books" / "billing.db").read_bytes()
    (tmp_path / "text").write_text("a letter")
    (tmp_path / "short.db").write_bytes(before[:10_000])
    for name in ("text", "short.db", "others/billing.db", "books/billing.db", "nothing", "books"):
        with pytest.raises(BadInput, match=r"is no backup.*; name the file that voxmeter billing backup wrote"):
            sqlite.restore(tmp_path / name, tmp_path / "books")
    assert (tmp_path / "books" / "billing.db").read_bytes() == before


def test_a_damaged_backup_is_not_restored(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store(tmp_path / "books", SimulatedClock(1))
        for n in range(500):
            await store.write(note(f"{n} " + "x" * 200))
        await store.backup(tmp_path / "copy.db")
        await store.aclose()

    asyncio.run(run())
    content = bytearray((tmp_path / "copy.db").read_bytes())
    content[-30_000:-20_000] = bytes(10_000)
    (tmp_path / "copy.db").write_bytes(content)
    with pytest.raises(BadInput, match=r"is damaged|is no backup"):
        sqlite.restore(tmp_path / "copy.db", tmp_path / "new")
    assert not (tmp_path / "new" / "billing.db").exists()


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store(tmp_path, SimulatedClock(1))
        with pytest.raises(LedgerBusy, match="belong to process"):
            Store(tmp_path, SimulatedClock(2))
        await store.aclose()

    asyncio.run(run())
    opened(tmp_path, 3)


def test_a_file_that_is_no_database_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / sqlite.DATABASE_FILE).write_bytes(b"nonsense" * 1000)
    with pytest.raises(LedgerDamaged) as error:
        opened(tmp_path, 1)
    assert len(str(error.value).splitlines()) == 1
    (tmp_path / sqlite.DATABASE_FILE).unlink()
    opened(tmp_path, 1)


def test_a_backend_stays_who_it_is_until_an_older_copy_is_put_back(tmp_path: Path) -> None:
    first = opened(tmp_path, 1)
    assert opened(tmp_path, 2) == first
    older = (tmp_path / sqlite.DATABASE_FILE).read_bytes()

    async def run() -> None:
        store = Store(tmp_path, SimulatedClock(3))
        await store.write(note("a"))
        await store.aclose()

    asyncio.run(run())
    assert opened(tmp_path, 4) == first
    (tmp_path / sqlite.DATABASE_FILE).write_bytes(older)
    after = opened(tmp_path, 5)
    assert after != first
    assert opened(tmp_path, 6) == after


def test_a_database_in_another_folder_is_another_backend(tmp_path: Path) -> None:
    first = opened(tmp_path / "a", 1)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / sqlite.DATABASE_FILE).write_bytes((tmp_path / "a" / sqlite.DATABASE_FILE).read_bytes())
    assert opened(tmp_path / "b", 2) != first


def test_books_of_another_backend_put_here_are_another_backend(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "a", 1), opened(tmp_path / "b", 2)
    (tmp_path / "b" / sqlite.DATABASE_FILE).write_bytes((tmp_path / "a" / sqlite.DATABASE_FILE).read_bytes())
    assert opened(tmp_path / "b", 3) not in (first, second)


def test_a_backup_restored_at_once_is_another_backend(tmp_path: Path) -> None:
    async def run() -> str:
        store = Store(tmp_path / "books", SimulatedClock(1))
        await store.backup(tmp_path / "copy.db")
        await store.aclose()
        return store.backend_id

    first = asyncio.run(run())
    sqlite.restore(tmp_path / "copy.db", tmp_path / "books")
    assert opened(tmp_path / "books", 2) != first
    with pytest.raises(BadInput, match="no backup"):
        sqlite.restore(tmp_path / "nothing.db", tmp_path / "books")


def test_a_backup_makes_what_it_holds_durable_and_is_another_backend_when_restored(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        robot = Robot().begin().turns(3)
        await backend.take(robot, robot.batch(1, 3))
        await backend.store.backup(tmp_path / "copy.db")
        answer = await backend.take(robot)
        assert (answer.cum_ack, answer.durable_through) == (4, 3)
        with pytest.raises(BadInput, match="exists"):
            await backend.store.backup(tmp_path / "copy.db")
        await backend.store.aclose()
        sqlite.restore(tmp_path / "copy.db", tmp_path / "books")
        backend.store = Store(tmp_path / "books", SimulatedClock(9))
        again = Backend.over(backend.store)
        state = told(await again.ingest.mark(TENANT, NAME, EPOCH, "n"))
        assert (state.cum_ack, state.durable_through) == (3, 3)
        assert state.backend_id != answer.backend_id
        assert (await again.take(robot)).cum_ack == 4
        assert await again.billed() == 3

    with_backend(tmp_path / "books", run)


def test_a_key_is_one_devices_and_changes_only_by_both_signatures(tmp_path: Path) -> None:
    async def run(backend: Backend) -> None:
        store = backend.store
        change = NewKey.model_validate(key_record_data(EPOCH, KEY, OTHER) | {"epoch": EPOCH})
        await backend.register("sim-2", third := SigningKey.from_seed(b"3" * 32))
        with pytest.raises(BadInput, match="another device"):
            await backend.register("sim-2", KEY)
        with pytest.raises(BadInput, match="not this device"):
            await store.write(lambda connection: devices.add_key(connection, 2, change, NOW))
        wrong = change.model_copy(update={"epoch": "f" * 32})
        with pytest.raises(BadInput, match="both keys"):
            await store.write(lambda connection: devices.add_key(connection, 1, wrong, NOW))
        for _ in range(2):
            assert await store.write(lambda connection: devices.add_key(connection, 1, change, NOW)) == OTHER.key_id
        found = await store.read(lambda connection: devices.device_of_key(connection, OTHER.key_id))
        assert found is not None
        assert (found.device.name, found.public, found.used, found.superseded) == (NAME, OTHER.public, False, False)
        assert await store.read(lambda connection: devices.device_of_key(connection, key_id_of(b"x" * 32))) is None
        owner = await store.read(lambda connection: devices.find(connection, TENANT, "sim-2"))
        assert owner is not None
        assert (owner.id, third.key_id != KEY.key_id) == (2, True)

    with_backend(tmp_path, run)


@pytest.mark.parametrize("signed", [False, True])
def test_a_successor_that_never_signed_gives_way_to_another_and_no_other_does(tmp_path: Path, *, signed: bool) -> None:
    """A robot whose next key was damaged before it was used makes another; the first must not stay valid for ever."""

    async def run(backend: Backend) -> None:
        last = SigningKey.from_seed(b"3" * 32)

        def change(connection: Connection) -> None:
            for new in (OTHER, last):
                named = NewKey.model_validate(key_record_data(EPOCH, KEY, new) | {"epoch": EPOCH})
                devices.retire(connection, KEY.key_id, devices.add_key(connection, 1, named, NOW), NOW)
                if signed:
                    devices.used(connection, OTHER.key_id, NOW)
            devices.used(connection, last.key_id, NOW)

        await backend.store.write(change)
        found = await backend.store.read(
            lambda connection: connection.execute(select(usage_key.c.successor).where(usage_key.c.key_id == KEY.key_id)).scalar_one()
        )
        assert found == (OTHER if signed else last).key_id

    with_backend(tmp_path, run)
