"""Issues and reads JSON Web Tokens: Ed25519 only, every claim that limits a token demanded, times from the caller's clock.

A token is for whoever is named in `aud`, from whoever is named in `iss`, until `exp`. One that lacks any of it is refused like a
forged one.
"""

import datetime
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from joserfc import jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import OKPKey
from joserfc.jws import JWSRegistry, extract_compact

from agent.contract.signing import SigningKey, encode
from agent.errors import BadInput

ALGORITHM = "EdDSA"
"""The name other libraries know. RFC 9864 would say Ed25519; our keys have no other curve, so nothing is left open by it."""

TOKEN_CHARACTERS_MAX = 8 * 1024
"""What servers take as a header. Ours have some 500."""

LEEWAY_S = 30
"""The other machine's clock may be off by so much."""

UNREADABLE = ("the token can't be read", "send a signed JWT")


class BadToken(BadInput):
    """A token that is not taken; the message says why, for the log of whoever sent it."""

    code = "bad-token"


class Expected(NamedTuple):
    """What a token must say to be taken."""

    issuer: str
    audience: str
    now: datetime.datetime


class _Registry(JWSRegistry):
    """Knows one algorithm, whatever the token asks for."""

    def get_alg(self, name: str) -> Any:
        if name != ALGORITHM:
            raise UnsupportedAlgorithmError(f"the algorithm is {name[:20]!r}, not {ALGORITHM}")
        return self.algorithms[ALGORITHM]


def issue(claims: Mapping[str, Any], key: SigningKey) -> str:
    """A signed token with these claims; times are seconds since 1970."""
    private = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": encode(key.public), "d": encode(key.seed)})
    return jwt.encode({"alg": ALGORITHM, "kid": key.key_id}, dict(claims), private, registry=_Registry())


def read(token: str, trusted: Mapping[str, bytes], expected: Expected) -> dict[str, Any]:
    """The claims of a token of a trusted key (key id -> raw public key).

    Raises BadToken for one that is forged, expired, not yet valid, for somebody else, from somebody else, or that doesn't say so.
    """
    try:
        claims = _decoded(token, trusted)
        _registry(expected).validate(claims)
    except JoseError as error:
        raise BadToken(f"the token is refused: {error.description or error.error}", "ask for a new one") from error
    return claims


def claimed(token: str) -> tuple[str, dict[str, Any]]:
    """The key id and the claims a token shows, believed by nobody: only to find the key to check it with. Raises BadToken."""
    try:
        shown = extract_compact(_sized(token))
        claims = orjson.loads(shown.payload or b"")
    except (JoseError, ValueError, RecursionError) as error:
        raise BadToken(*UNREADABLE) from error
    if not isinstance(claims, dict):
        raise BadToken(*UNREADABLE)
    return str(shown.headers().get("kid", "")), claims


def _decoded(token: str, trusted: Mapping[str, bytes]) -> dict[str, Any]:
    def key_of(given: Any) -> OKPKey:
        public = trusted.get(str(given.headers().get("kid", "")))
        if public is None:
            raise BadToken("the token is signed by a key that isn't known here", "ask for a new one")
        return OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": encode(public)})

    try:
        return dict(jwt.decode(_sized(token), key_of, registry=_Registry()).claims)
    except (ValueError, RecursionError) as error:
        raise BadToken(*UNREADABLE) from error


def _sized(token: str) -> bytes:
    if len(token) > TOKEN_CHARACTERS_MAX or not token.isascii():
        raise BadToken(*UNREADABLE)
    return token.encode("ascii")


def _registry(expected: Expected) -> jwt.JWTClaimsRegistry:
    return jwt.JWTClaimsRegistry(
        now=int(expected.now.timestamp()),
        leeway=LEEWAY_S,
        iss={"essential": True, "value": expected.issuer},
        aud={"essential": True, "value": expected.audience},
        exp={"essential": True},
        sub={"essential": True},
    )
