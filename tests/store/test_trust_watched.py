"""Whom to believe is read again when it has changed, and stays as it was where the file can't be read."""

import os
from pathlib import Path

from agent.contract.registration import jwks
from agent.contract.signing import SigningKey
from agent.store import trust

ONE, TWO = (SigningKey.from_seed(bytes([number]) * 32) for number in (1, 2))


def test_a_change_is_seen_and_damage_is_said_once_and_survived(tmp_path: Path) -> None:
    said: list[str] = []
    watched = trust.Watched(tmp_path, said.append)
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
    watched = trust.Watched(tmp_path, said.append)
    assert watched.now() == watched.now() == trust.Trust()
    assert len(said) == 1
    assert (tmp_path / trust.TRUST_FILE).read_bytes() == damaged
    trust.write(tmp_path, jwks([ONE.public]), "PEM")  # of a backend that tells no operators
    assert watched.now() == trust.read(tmp_path) == trust.Trust({ONE.key_id: ONE.public}, "PEM")
