"""A token is taken only if it is ours, for us and still good."""

import base64
import datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, strategies

from agent.clock import FLOOR
from agent.contract import jwt
from agent.contract.jwt import BadToken, Expected
from agent.contract.signing import SigningKey, encode

KEY = SigningKey.from_seed(b"k" * 32)
TRUSTED = {KEY.key_id: KEY.public}
EXPECTED = Expected("us", "everyone", FLOOR)
NOW = int(FLOOR.timestamp())
CLAIMS: dict[str, Any] = {"iss": "us", "aud": "everyone", "sub": "robot", "exp": NOW + 600, "scope": "usage:write"}


def test_what_was_issued_is_read() -> None:
    assert jwt.read(jwt.issue(CLAIMS, KEY), TRUSTED, EXPECTED) == CLAIMS


@pytest.mark.parametrize(
    "change",
    [
        {"exp": NOW - jwt.LEEWAY_S},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": True},
        {"aud": "others"},
        {"aud": None},
        {"iss": "them"},
        {"iss": None},
        {"sub": None},
        {"nbf": NOW + 3600},
        {"iat": NOW + 3600},
    ],
    ids=str,
)
def test_a_token_with_a_wrong_or_missing_claim_is_refused(change: dict[str, Any]) -> None:
    claims = {name: value for name, value in (CLAIMS | change).items() if value is not None}
    with pytest.raises(BadToken):
        jwt.read(jwt.issue(claims, KEY), TRUSTED, EXPECTED)


def test_it_expires_by_the_callers_clock() -> None:
    token = jwt.issue(CLAIMS, KEY)
    with pytest.raises(BadToken, match="expired"):
        jwt.read(token, TRUSTED, EXPECTED._replace(now=FLOOR + datetime.timedelta(seconds=600 + jwt.LEEWAY_S)))


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "Ed25519", "ES256", ""])
def test_another_algorithm_is_refused_also_if_the_signature_is_good(algorithm: str) -> None:
    for signature in (b"", None):
        with pytest.raises(BadToken):
            jwt.read(_made({"alg": algorithm, "kid": KEY.key_id}, signature), TRUSTED, EXPECTED)


def test_a_public_key_is_no_secret_of_a_mac() -> None:
    """The classic confusion: HS256 with the public key, which anyone has."""
    import hashlib
    import hmac

    head = encode(orjson.dumps({"alg": "HS256", "kid": KEY.key_id})) + "." + encode(orjson.dumps(CLAIMS))
    with pytest.raises(BadToken):
        jwt.read(f"{head}.{encode(hmac.digest(KEY.public, head.encode(), hashlib.sha256))}", TRUSTED, EXPECTED)


@pytest.mark.parametrize("key_id", ["0" * 32, "", None])
def test_an_unknown_key_id_is_refused(key_id: str | None) -> None:
    with pytest.raises(BadToken, match="known here"):
        jwt.read(_made({"alg": "EdDSA"} | ({} if key_id is None else {"kid": key_id}), None), TRUSTED, EXPECTED)


def test_another_key_under_our_key_id_is_refused() -> None:
    other = SigningKey(b"o" * 32, KEY.public)
    with pytest.raises(BadToken):
        jwt.read(jwt.issue(CLAIMS, other), TRUSTED, EXPECTED)


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "[" * 3000, "é.é.é", "x" * 20_000, encode(b"[" * 300) + ".e30.e30"])
def test_what_is_no_token_is_refused(token: str) -> None:
    for read in (lambda: jwt.read(token, TRUSTED, EXPECTED), lambda: jwt.claimed(token)):
        with pytest.raises(BadToken):
            read()


@given(strategies.integers(0), strategies.integers(1, 255))
def test_no_byte_of_a_token_can_be_changed(place: int, change: int) -> None:
    parts = jwt.issue(CLAIMS, KEY).split(".")
    which = place % 3
    content = bytearray(base64.urlsafe_b64decode(parts[which] + "=="))
    content[place % len(content)] ^= change
    parts[which] = encode(bytes(content))
    with pytest.raises(BadToken):
        jwt.read(".".join(parts), TRUSTED, EXPECTED)


def test_what_a_token_shows_can_be_read_to_find_its_key() -> None:
    assert jwt.claimed(jwt.issue(CLAIMS, KEY)) == (KEY.key_id, CLAIMS)


def _made(header: dict[str, Any], signature: bytes | None) -> str:
    """By hand: with a good signature where none is given."""
    head = encode(orjson.dumps(header)) + "." + encode(orjson.dumps(CLAIMS))
    return f"{head}.{encode(KEY.sign(head.encode()) if signature is None else signature)}"
