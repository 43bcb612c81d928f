"""Signatures that anybody can check, and sealed texts that only the key opens."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.record import check
from agent.contract.signing import (
    SigningKey,
    UnknownKey,
    check_key_record,
    check_signed,
    decode,
    encode,
    key_record_data,
    seal,
    signed,
    unseal,
    verify,
)
from agent.errors import BadInput
from tests.contract.make_golden import EPOCH, envelope

SEEDS = st.binary(min_size=32, max_size=32)
KEY = SigningKey.from_seed(bytes(range(32)))
OTHER = SigningKey.from_seed(bytes(32))
TRUSTED = {KEY.key_id: KEY.public}


def test_ed25519_as_rfc_8032_has_it() -> None:
    key = SigningKey.from_seed(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )
    assert key.key_id == hashlib.sha256(key.public).hexdigest()[:32]


def test_a_key_does_not_print_its_seed() -> None:
    key = SigningKey.from_seed(b"a very secret seed of 32 bytes!!")
    shown = f"{key!r} {key}"
    assert "public" in shown
    assert "secret" not in shown
    assert key.seed.hex() not in shown


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_seed_has_32_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        SigningKey.from_seed(bytes(size))


@given(SEEDS, st.binary(max_size=100), st.integers(0, 63), st.integers(1, 255))
def test_a_signature_holds_for_its_key_and_message_alone(seed: bytes, message: bytes, at: int, flip: int) -> None:
    key = SigningKey.from_seed(seed)
    signature = key.sign(message)
    assert verify(key.public, message, signature)
    assert not verify(key.public, message + b"x", signature)
    assert not verify(KEY.public if seed != KEY.seed else OTHER.public, message, signature)
    assert not verify(key.public, message, signature[:at] + bytes([signature[at] ^ flip]) + signature[at + 1 :])


@given(st.binary(max_size=70), st.binary(max_size=70))
def test_garbage_is_no_signature(public: bytes, signature: bytes) -> None:
    assert verify(public, b"m", signature) is False
    assert verify(KEY.public, b"m", signature) is False


@given(st.binary(max_size=100))
def test_base64url_comes_back(content: bytes) -> None:
    text = encode(content)
    assert decode(text) == content
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@pytest.mark.parametrize("text", ["A", "AA==", "AB", "A A", "AA\n", "+/8", "é", "AAAAA", "=", "AA.AA"])
def test_nothing_else_is_base64url(text: str) -> None:
    with pytest.raises(BadInput, match="not base64url without padding"):
        decode(text)


def test_a_signature_travels_beside_its_content() -> None:
    assert check_signed(b"content", signed(b"content", KEY), TRUSTED, what="the ack") == KEY.key_id


@pytest.mark.parametrize(
    ("marks", "says"),
    [
        ({}, "the ack isn't signed; send vx-key and vx-sig with it"),
        ({"vx-key": KEY.key_id}, "the ack isn't signed"),
        (signed(b"content", KEY) | {"vx-sig": "%"}, "the signature of the ack is wrong"),
        (signed(b"other", KEY), "the signature of the ack is wrong"),
        (signed(b"content", OTHER) | {"vx-key": KEY.key_id}, "the signature of the ack is wrong"),
        ({"vx-key": 7, "vx-sig": 7}, "the ack isn't signed"),
    ],
)
def test_what_is_wrong_with_a_signature_is_told_in_one_line(marks: dict[str, str], says: str) -> None:
    with pytest.raises(BadInput, match=says) as told:
        check_signed(b"content", marks, TRUSTED, what="the ack")
    assert not isinstance(told.value, UnknownKey)


def test_an_unknown_key_is_not_a_wrong_signature() -> None:
    with pytest.raises(UnknownKey, match=f"signed by a key that isn't known here: '{OTHER.key_id}'"):
        check_signed(b"content", signed(b"content", OTHER), TRUSTED, what="the ack")


@given(SEEDS, st.binary(min_size=12, max_size=12), st.binary(max_size=100), st.binary(max_size=20))
def test_a_sealed_text_opens_with_its_key_and_place(key: bytes, nonce: bytes, plain: bytes, bound: bytes) -> None:
    sealed = seal(key, nonce, plain, bound)
    assert unseal(key, sealed, bound) == plain
    for wrong in ((bytes(31) + b"\1" if key == bytes(32) else bytes(32), sealed, bound), (key, sealed, bound + b"x"), (key, b"", bound)):
        with pytest.raises(BadInput, match="it was altered or its key is another"):
            unseal(*wrong)


@given(st.data())
def test_an_altered_sealed_text_does_not_open(data: st.DataObject) -> None:
    sealed = seal(bytes(32), bytes(12), b"hello", b"")
    at, flip = data.draw(st.integers(0, len(sealed) - 1)), data.draw(st.integers(1, 255))
    with pytest.raises(BadInput, match="altered"):
        unseal(bytes(32), sealed[:at] + bytes([sealed[at] ^ flip]) + sealed[at + 1 :], b"")


def test_a_key_that_is_none_does_not_open() -> None:
    with pytest.raises(BadInput, match="altered"):
        unseal(b"short", seal(bytes(32), bytes(12), b"hello", b""), b"")


def test_a_key_record_is_signed_by_both_keys_over_the_written_bytes() -> None:
    told = key_record_data(EPOCH, KEY, OTHER)
    message = b"voxmeter-key-v1\x00" + EPOCH.encode() + KEY.public + OTHER.public
    assert verify(KEY.public, message, decode(told["sig_old"]))
    assert verify(OTHER.public, message, decode(told["sig_new"]))
    assert check_key_record(EPOCH, told)
    check(envelope(3, "key", told))


@pytest.mark.parametrize("name", ["old", "new", "sig_old", "sig_new"])
def test_a_key_record_with_anything_altered_is_none(name: str) -> None:
    told = key_record_data(EPOCH, KEY, OTHER)
    stranger = key_record_data(EPOCH, SigningKey.from_seed(b"x" * 32), SigningKey.from_seed(b"y" * 32))
    assert not check_key_record(EPOCH, told | {name: stranger[name]})
    assert not check_key_record(EPOCH, told | {name: "!"})
    assert not check_key_record(EPOCH, {field: value for field, value in told.items() if field != name})


def test_a_key_record_holds_in_its_epoch_alone_and_changes_the_key() -> None:
    assert not check_key_record("f" * 32, key_record_data(EPOCH, KEY, OTHER))
    assert not check_key_record("é" * 32, key_record_data(EPOCH, KEY, OTHER))
    assert not check_key_record(EPOCH, key_record_data(EPOCH, KEY, KEY))
    assert not check_key_record(EPOCH, key_record_data(EPOCH, OTHER, KEY) | {"sig_old": key_record_data(EPOCH, KEY, OTHER)["sig_old"]})
