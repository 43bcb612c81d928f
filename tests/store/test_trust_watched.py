"""Whom to believe is read again when it has changed, and stays as it was where the file can't be read."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.contract.registration import jwks
from agent.contract.signing import SigningKey
from agent.sim.clock import SimulatedClock
from agent.store import trust

ONE, TWO = (SigningKey.from_seed(bytes([number]) * 32) for number in (1, 2))


def test_a_change_is_seen_and_damage_is_said_once_and_survived(tmp_path: Path) -> None:
    said: list[str] = []
    watched = trust.Watched(tmp_path, said.append, SimulatedClock())
    assert not watched.now().ack_keys
    trust.write(tmp_path, jwks([ONE.public]), "", jwks([TWO.public]))
    assert set(watched.now().operator_keys) == {TWO.key_id}
    trust.write(tmp_path, jwks([TWO.public]), "")
    assert set(watched.now().ack_keys) == {TWO.key_id}
    (tmp_path / trust.TRUST_FILE).write_bytes(os.urandom(200))
    assert set(watched.now().ack_keys) == {TWO.key_id}
    assert watched.now() is watched.now()
    assert len(said) == 2
    assert trust.read(tmp_path) == watched.now(), "the next start would believe nobody"
    trust.write(tmp_path, jwks([ONE.public]), "", jwks([TWO.public]))
    assert set(watched.now().ack_keys) == {ONE.key_id}


def test_what_was_damaged_at_the_start_is_not_written_over_but_a_registration_mends_it(tmp_path: Path) -> None:
    said: list[str] = []
    damaged = os.urandom(200)
    (tmp_path / trust.TRUST_FILE).write_bytes(damaged)
    watched = trust.Watched(tmp_path, said.append, SimulatedClock())
    assert watched.now() == watched.now() == trust.Trust()
    assert len(said) == 1
    assert (tmp_path / trust.TRUST_FILE).read_bytes() == damaged
    trust.write(tmp_path, jwks([ONE.public]), "PEM")  # of a backend that tells no operators
    assert watched.now() == trust.read(tmp_path) == trust.Trust({ONE.key_id: ONE.public}, "PEM")


CUT = b"\n[[operator_key]]"


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b'authority = "PEM"\n'),
        lambda file: file.write_bytes(file.read_bytes().partition(CUT)[0]),
        lambda file: file.write_bytes(file.read_bytes().partition(CUT)[0] + b"\n"),
    ],
    ids=["emptied", "gone", "no key", "cut at a table", "cut behind it"],
)
def test_what_is_still_toml_is_damage_all_the_same_and_mended(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    said: list[str] = []
    watched = trust.Watched(tmp_path, said.append, SimulatedClock())
    trust.write(tmp_path, jwks([ONE.public]), "PEM", jwks([TWO.public]))
    before = watched.now()
    damage(tmp_path / trust.TRUST_FILE)
    assert watched.now() == before == trust.read(tmp_path)
    assert before.operator_keys
    assert len(said) == 2


def test_a_mend_that_the_disk_refuses_is_tried_again_once_a_minute_and_said_once(tmp_path: Path) -> None:
    said: list[str] = []
    clock, file, in_the_way = SimulatedClock(), tmp_path / trust.TRUST_FILE, tmp_path / f"{trust.TRUST_FILE}.part"
    watched = trust.Watched(tmp_path, said.append, clock)
    trust.write(tmp_path, jwks([ONE.public]), "PEM", jwks([TWO.public]))
    before = watched.now()
    in_the_way.mkdir()
    file.write_bytes(b"")
    assert watched.now() == before
    for _ in range(3):
        clock.advance(trust.AGAIN_S)
        assert watched.now() == before
    assert len(said) == 2
    in_the_way.rmdir()
    for damage in (b"\0\0", b""):
        file.write_bytes(damage)
        assert watched.now() == before
        assert file.read_bytes() == damage, "not yet"
    clock.advance(trust.AGAIN_S)
    assert watched.now() == before == trust.read(tmp_path)
    assert said[2:] == ["whom to believe: written anew as it was"]
    file.unlink()
    assert watched.now() == trust.read(tmp_path) == before
    assert len(said) == 5


def test_what_is_well_again_by_itself_is_taken_as_it_is(tmp_path: Path) -> None:
    watched = trust.Watched(tmp_path, lambda _: None, clock := SimulatedClock())
    trust.write(tmp_path, jwks([ONE.public]), "PEM")
    assert watched.now().ack_keys
    (tmp_path / f"{trust.TRUST_FILE}.part").mkdir()
    (tmp_path / trust.TRUST_FILE).unlink()
    assert watched.now().ack_keys
    (tmp_path / f"{trust.TRUST_FILE}.part").rmdir()
    trust.write(tmp_path, jwks([TWO.public]), "PEM")
    clock.advance(trust.AGAIN_S)
    assert watched.now() == trust.read(tmp_path) == trust.Trust({TWO.key_id: TWO.public}, "PEM")
