"""A certificate and its key change together or not at all, wherever the power goes."""

from pathlib import Path

import pytest

from agent.contract import certificates
from agent.contract.registration import jwks
from agent.contract.signing import SigningKey
from agent.errors import BadInput
from agent.link.tls import client_context
from agent.sim.clock import SimulatedClock
from agent.store import trust
from agent.store.pair import IN_USE, KEY, Pair

NOW = SimulatedClock().utc()
OURS = certificates.authority("ours", NOW, 100)
NAME = "demo/r1"


def issued(key: bytes, name: str = NAME) -> bytes:
    return certificates.issue_from(OURS, certificates.request(name, key), name, NOW, 90) + OURS.certificate


def test_from_nothing_to_a_pair_in_use(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    assert (pair.stage, pair.files(), pair.shown()) == ("nothing", (None, None), None)
    key = pair.key()
    assert (pair.stage, pair.key(), Pair(tmp_path).key()) == ("key", key, key)
    pair.take(issued(key), NAME)
    assert (pair.stage, pair.files(), pair.key()) == ("candidate", (None, None), key)
    pair.promote()
    assert (pair.stage, pair.files()) == ("nothing", (tmp_path / "keys" / IN_USE, None))
    shown = pair.shown()
    assert shown is not None
    assert shown.name == NAME
    client_context("", *pair.files())
    assert pair.key() != key
    pair.promote()
    assert (pair.shown(), pair.stage) == (shown, "key")
    pair.discard()
    assert (pair.shown(), pair.stage) == (shown, "nothing")
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()} == {0o600}


def test_a_certificate_for_another_name_or_key_is_no_candidate(tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    key = pair.key()
    for chain in (issued(certificates.new_key()), issued(key, "demo/r2"), b"", b"x"):
        with pytest.raises(BadInput):
            pair.take(chain, NAME)
    assert pair.stage == "key"


def test_a_new_pair_wins_over_one_made_elsewhere_until_another_is_brought(tmp_path: Path) -> None:
    made = certificates.issue(OURS, NAME, NOW, 9)
    for name, content in (("crt", made.certificate), ("key", made.key)):
        (tmp_path / name).write_bytes(content)
    trust.keep_tls(tmp_path, tmp_path / "crt", tmp_path / "key")
    keys = tmp_path / "keys"
    assert trust.tls_files(tmp_path) == (keys / "tls.crt", keys / "tls.key")
    pair = Pair(tmp_path)
    pair.take(issued(pair.key()), NAME)
    assert trust.tls_files(tmp_path) == (keys / "tls.crt", keys / "tls.key")
    pair.promote()
    assert trust.tls_files(tmp_path) == (keys / IN_USE, None)
    trust.keep_tls(tmp_path, tmp_path / "crt", tmp_path / "key")
    assert trust.tls_files(tmp_path) == (keys / "tls.crt", keys / "tls.key")


@pytest.mark.parametrize("content", [b"", b"x", OURS.certificate, OURS.key, OURS.certificate + certificates.new_key(), b"\0" * 9_999])
def test_what_is_damaged_counts_as_not_there(tmp_path: Path, content: bytes) -> None:
    pair = Pair(tmp_path)
    pair.take(issued(pair.key()), NAME)
    for path in (pair.candidate, tmp_path / "keys" / IN_USE):
        path.write_bytes(content)
        path.chmod(0o600)
    assert (pair.stage, pair.files(), pair.shown(), pair.damaged) == ("nothing", (None, None), None, True)
    pair.promote()
    assert pair.damaged
    pair.take(issued(pair.key()), NAME)
    pair.promote()
    assert (pair.damaged, pair.files()[0]) == (False, tmp_path / "keys" / IN_USE)


@pytest.mark.parametrize("content", [b"", b"x", OURS.certificate])
def test_a_key_that_is_damaged_is_made_anew(tmp_path: Path, content: bytes) -> None:
    pair = Pair(tmp_path)
    before = pair.key()
    (tmp_path / "keys" / KEY).write_bytes(content)
    assert [pair.stage, pair.key() != before, pair.stage] == ["nothing", True, "key"]


def test_a_key_others_can_read_is_not_used(tmp_path: Path) -> None:
    before = Pair(tmp_path).key()
    (tmp_path / "keys" / KEY).chmod(0o644)
    assert Pair(tmp_path).key() != before


def test_operators_keys_stay_where_none_are_brought(tmp_path: Path) -> None:
    ours, theirs = (SigningKey.from_seed(bytes([number]) * 32) for number in (1, 2))
    kept = trust.write(tmp_path, jwks([ours.public]), "pem", jwks([theirs.public]))
    assert trust.read(tmp_path) == kept
    assert trust.write(tmp_path, jwks([ours.public]), "pem") == kept
    assert trust.write(tmp_path, jwks([ours.public]), "pem", []).operator_keys == {}
