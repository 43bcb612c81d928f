"""Whom a robot believes is kept as it came, and a file that says something else is refused, not taken for an empty one."""

import stat
from pathlib import Path

import pytest

from agent.contract.registration import jwks
from agent.contract.signing import SigningKey
from agent.errors import BadInput
from agent.store import trust

KEYS = [SigningKey.from_seed(bytes([number]) * 32) for number in (1, 2)]


def test_what_a_registration_brought_is_read_again(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert trust.read(state) == trust.Trust()
    written = trust.write(state, jwks(key.public for key in KEYS), 'a "PEM"\nin\\lines\n')
    assert trust.read(state) == written
    assert written.ack_keys == {key.key_id: key.public for key in KEYS}
    trust.write(state, jwks([KEYS[0].public]), "")
    assert trust.read(state) == trust.Trust({KEYS[0].key_id: KEYS[0].public}, "")
    assert stat.S_IMODE((state / trust.TRUST_FILE).stat().st_mode) == 0o600


def test_an_api_key_is_its_owners(tmp_path: Path) -> None:
    trust.keep_api_key(tmp_path, "vx_1_secret")
    path = trust.api_key_file(tmp_path)
    assert path.read_text() == "vx_1_secret\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content",
    [
        b"\xff",
        b"[[ack_key]]\nkid = 1\nx = 2\n",
        b"ack_key = 3\n",
        b"authority = 7\n",
        b'[[ack_key]]\nkid = "a"\nx = "b"\n',
        b"[[",
        b"ack_key = [1]",
        b"",
        b'authority = "PEM"\n',
    ],
)
def test_a_file_that_is_not_what_was_written_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / trust.TRUST_FILE).write_bytes(content)
    with pytest.raises(BadInput, match=r"trust\.toml"):
        trust.read(tmp_path)


def test_a_backend_without_a_key_is_not_believed(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no key"):
        trust.write(tmp_path, [{"kty": "RSA"}], "")
    assert not (tmp_path / trust.TRUST_FILE).exists()


@pytest.mark.parametrize("authority", ["", "PEM"])
def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path, authority: str) -> None:
    trust.write(tmp_path, jwks([KEYS[0].public]), authority, jwks([KEYS[1].public]))
    whole = (file := tmp_path / trust.TRUST_FILE).read_bytes()
    for end in range(len(whole)):
        file.write_bytes(whole[:end])
        with pytest.raises(BadInput, match=r"trust\.toml"):
            trust.read(tmp_path)


def test_a_file_of_an_older_version_is_read(tmp_path: Path) -> None:
    written = trust.write(tmp_path, jwks([KEYS[0].public]), "PEM", jwks([KEYS[1].public]))
    first, _, rest = (file := tmp_path / trust.TRUST_FILE).read_bytes().partition(b"\n")
    assert first.startswith(b"digest = ")
    file.write_bytes(rest)
    assert trust.read(tmp_path) == written


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    before = trust.write(tmp_path, jwks([KEYS[0].public]), "PEM")
    with pytest.raises(BadInput, match="one authority"):
        trust.write(tmp_path, jwks([KEYS[0].public]), "x" * trust.TRUST_BYTES_MAX)
    assert trust.read(tmp_path) == before


def test_what_is_prepared_is_not_believed_before_it_is_kept(tmp_path: Path) -> None:
    before = trust.write(tmp_path, jwks([KEYS[0].public]), "PEM")
    keep = trust.prepared(tmp_path, jwks([KEYS[1].public]), "PEM")
    assert trust.read(tmp_path) == before
    assert keep() == trust.read(tmp_path) != before
