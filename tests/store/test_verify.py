"""Verification: what was pruned is believed only on this robot's own signature, what was folded only where it links."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from agent.contract.batch import read
from agent.contract.signing import SigningKey, encode, key_record_data
from agent.ports import Draft
from agent.sim.clock import SimulatedClock
from agent.store.db import LEDGER_FILE, meta, put_meta
from agent.store.keys import KEYS_FOLDER, PENDING_KEY, USAGE_KEY, Keys, publics
from agent.store.ledger import SqliteLedger
from agent.store.verify import verify_books
from tests.store.ledger.helpers import Model, do, fold, next_batch, pruned, take_all
from tests.store.test_ledger import append, ledger, usage

STRANGER = SigningKey.from_seed(b"\7" * 32)


@pytest.fixture(autouse=True)
def no_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


def prune_all(books: SqliteLedger) -> int:
    """All but the record that is appended for it."""
    batch = next_batch(books)
    take_all(books, batch, durable_through=batch.last)
    append(books, usage())
    return pruned(books)


def rotate(books: SqliteLedger) -> None:
    new = books.keys.begin_rotation()
    append(books, Draft("key", key_record_data(books.epoch, books.keys.current, new)))


def change(state: Path, work: Callable[[sqlite3.Connection], object]) -> None:
    """Behind the ledger's back."""
    connection = sqlite3.connect(state / LEDGER_FILE)
    work(connection)
    connection.commit()
    connection.close()


def say(state: Path, **told: str) -> None:
    change(state, lambda connection: put_meta(connection, **told))


def put_body(state: Path, sequence: int, body: bytes) -> None:
    change(state, lambda connection: connection.execute("UPDATE record SET body = ? WHERE sequence = ?", (body, sequence)))


@pytest.fixture
def state(tmp_path: Path, clock: SimulatedClock) -> Path:
    """Records 1 to 3 pruned, 4 and 5 there."""
    with ledger(tmp_path, clock) as books:
        append(books, usage(), usage(5))
        assert prune_all(books) == 3
        append(books, usage())
    return tmp_path


def test_what_is_left_is_whole_from_the_checkpoint_on_and_after_a_restart(state: Path, clock: SimulatedClock) -> None:
    assert (verify_books(state).whole, verify_books(state).records) == (True, 2)
    with ledger(state, clock) as books:
        assert append(books, usage()) == [6]
        assert verify_books(state).whole
        assert prune_all(books) == 3
    assert (verify_books(state).whole, verify_books(state).records) == (True, 1)


ALTERED: dict[str, Callable[[dict[str, Any]], object]] = {
    "sequence up": lambda told: told.update(sequence=4),
    "sequence down": lambda told: told.update(sequence=2),
    "hash": lambda told: told.update(hash="0" * 64),
    "odometer": lambda told: told["odometer"][0].update(quantity=0),
    "epoch": lambda told: told.update(epoch="ab" * 16),
    "added": lambda told: told.update(note=1),
}


@pytest.mark.parametrize("what", ALTERED)
def test_an_altered_checkpoint_is_a_finding_whoever_signs_it(state: Path, what: str) -> None:
    def alter(connection: sqlite3.Connection) -> None:
        told = orjson.loads(meta(connection)["checkpoint"])
        ALTERED[what](told)
        put_meta(connection, checkpoint=orjson.dumps(told, option=orjson.OPT_SORT_KEYS).decode())

    change(state, alter)
    assert verify_books(state).problem == "the checkpoint of what was pruned is not what was signed"
    change(state, lambda connection: sign(connection, STRANGER))
    assert not verify_books(state).whole


def sign(connection: sqlite3.Connection, key: SigningKey) -> None:
    signature = encode(key.sign(meta(connection)["checkpoint"].encode()))
    put_meta(connection, checkpoint_key=encode(key.public), checkpoint_sig=signature)


def test_a_checkpoint_signed_by_a_stranger_is_a_finding(state: Path) -> None:
    change(state, lambda connection: sign(connection, STRANGER))
    assert verify_books(state).problem == "the checkpoint of what was pruned is signed by a key that is not this robot's"


def test_a_stranger_can_not_introduce_itself(state: Path, clock: SimulatedClock) -> None:
    """Whoever can write a checkpoint can write a key record; but not one that this robot's key has signed as the new one."""
    accomplice = SigningKey.from_seed(b"\x08" * 32)
    with ledger(state, clock) as books:
        own = publics(state).pop()
        append(books, Draft("key", key_record_data(books.epoch, STRANGER, accomplice)))
        forged = key_record_data(books.epoch, STRANGER, accomplice) | {"new": encode(own)}
        append(books, Draft("key", forged))
    change(state, lambda connection: sign(connection, STRANGER))
    assert "not this robot's" in verify_books(state).problem


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint_key", "checkpoint_sig"])
def test_every_character_of_a_checkpoint_counts(state: Path, name: str) -> None:
    with sqlite3.connect(state / LEDGER_FILE) as connection:
        sound = meta(connection)[name]
    connection.close()
    for at in range(len(sound)):
        altered = sound[:at] + chr(ord(sound[at]) ^ 1) + sound[at + 1 :]
        say(state, **{name: altered})
        assert not verify_books(state).whole, (at, altered)
    for nonsense in ("", "[]", "7", '{"sequence":1}'):
        say(state, **{name: nonsense})
        assert not verify_books(state).whole
    change(state, lambda connection: connection.execute("DELETE FROM meta WHERE name = ?", (name,)))
    assert not verify_books(state).whole


def test_an_older_checkpoint_of_this_robot_does_not_hide_a_removal(state: Path, clock: SimulatedClock) -> None:
    with sqlite3.connect(state / LEDGER_FILE) as connection:
        old = {name: value for name, value in meta(connection).items() if name.startswith("checkpoint")}
    connection.close()
    with ledger(state, clock) as books:
        prune_all(books)
    say(state, **old)
    verdict = verify_books(state)
    assert (verdict.whole, verdict.sequence) == (False, 4)


def test_a_checkpoint_outlives_the_key_that_signed_it(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        prune_all(books)
        rotate(books)
        assert verify_books(tmp_path).whole
        books.keys.promote()
        assert verify_books(tmp_path).whole
        rotate(books)
        books.keys.promote()
        assert verify_books(tmp_path).whole
    change(tmp_path, lambda connection: connection.execute("UPDATE meta SET value = '[]' WHERE name = 'former_keys'"))
    assert verify_books(tmp_path).whole


def test_a_pruned_key_record_still_speaks_for_older_checkpoints(tmp_path: Path, clock: SimulatedClock) -> None:
    """One signed by the old key over its own successor, and one of an earlier epoch."""
    with ledger(tmp_path, clock) as books:
        prune_all(books)
        asyncio.run(books.begin_epoch("different"))
        rotate(books)
        prune_all(books)
        books.keys.promote()
        assert verify_books(tmp_path).whole
        rotate(books)
        books.keys.promote()
        prune_all(books)
        assert verify_books(tmp_path).whole
    change(tmp_path, lambda connection: connection.execute("DELETE FROM meta WHERE name = 'former_keys'"))
    assert "not this robot's" in verify_books(tmp_path).problem
    for nonsense in ("7", "[7]", "{", '[{"old":1}]'):
        say(tmp_path, former_keys=nonsense)
        assert "not this robot's" in verify_books(tmp_path).problem


def test_verifying_makes_no_key_and_says_what_it_misses(state: Path) -> None:
    path = state / KEYS_FOLDER / USAGE_KEY
    sound = path.read_bytes()
    path.write_bytes(b"damaged")
    assert "damaged: it does not hold a key" in verify_books(state).problem
    path.unlink()
    assert verify_books(state).problem.endswith("no usage key is here to compare")
    (state / KEYS_FOLDER).rmdir()
    assert not verify_books(state).whole
    assert not (state / KEYS_FOLDER).exists()
    (state / KEYS_FOLDER).mkdir()
    (state / KEYS_FOLDER / PENDING_KEY).write_bytes(sound)
    (state / KEYS_FOLDER / PENDING_KEY).chmod(0o600)
    assert verify_books(state).whole


def test_publics_are_of_all_keys_that_are_there(tmp_path: Path, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    assert publics(tmp_path) == set()
    keys = Keys(tmp_path, clock)
    current = keys.current
    assert publics(tmp_path) == {current.public}
    new = keys.begin_rotation()
    assert publics(tmp_path) == {current.public, new.public}
    (tmp_path / "usage-key").write_bytes(STRANGER.seed)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert publics(tmp_path) == {current.public, new.public, STRANGER.public}


def test_a_batch_that_ends_between_a_hole_and_its_roll_up_may_be_where_pruning_ends(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, *(usage() for _ in range(30)), Draft("key", {"n": 1}), *(usage() for _ in range(99)))
        model = Model(books)
        assert fold(books)
        model.learn(books)
        batch = next_batch(books)
        assert model.check(batch).holes
        assert batch.last < 132
        take_all(books, batch, durable_through=batch.last)
        assert pruned(books)
        assert verify_books(tmp_path).whole
        read(next_batch(books).content)
    assert verify_books(tmp_path).whole


def test_a_changed_byte_of_a_roll_up_is_found_before_anything_trips_over_it(tmp_path: Path, clock: SimulatedClock) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, *(usage() for _ in range(30)))
        assert fold(books)
        (body,) = do(books, lambda connection: connection.execute("SELECT body FROM record WHERE sequence = 32").fetchone())
    for at in range(len(body)):
        altered = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        put_body(tmp_path, 32, altered)
        verdict = verify_books(tmp_path)
        assert 2 <= (verdict.sequence or 0) <= 32, (at, verdict)


@pytest.mark.parametrize(("first", "last"), [(2, 1), (2, 7), ("2", "3"), (2, 2)])
def test_a_roll_up_stands_only_for_what_is_missing(tmp_path: Path, clock: SimulatedClock, first: object, last: object) -> None:
    """Also one that points back, round which a walk would go for ever."""
    with ledger(tmp_path, clock) as books:
        append(books, usage(), usage())
        told = {"epoch": books.epoch, "first": first, "last": last, "h_before": "", "h_last": "0" * 64, "reason": "r", "totals": []}
        append(books, Draft("rollup", told), Draft("rollup", told | {"first": 1, "last": 1}))
    change(tmp_path, lambda connection: connection.execute("DELETE FROM record WHERE sequence IN (2, 3)"))
    assert verify_books(tmp_path).sequence in {2, 3, 4}


@pytest.mark.parametrize("type_", ["usage", "rollup"])
def test_a_chained_record_without_figures_is_told_not_thrown(tmp_path: Path, clock: SimulatedClock, type_: Any) -> None:
    with ledger(tmp_path, clock) as books:
        append(books, Draft(type_, {"stage": 1}))
    verdict = verify_books(tmp_path)
    assert (verdict.sequence, verdict.problem) == (2, "its figures can't be read")
