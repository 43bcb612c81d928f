"""Issues tokens to clients and reads them back; sees to it that no client's assertion is used twice."""

import hashlib
from collections.abc import Mapping
from typing import Any

from agent.billing.access.credentials import Principal
from agent.billing.access.denied import Unauthorized
from agent.clock import Clock
from agent.contract import jwt
from agent.contract.signing import SigningKey
from agent.errors import BadInput

ISSUER = "voxmeter"
AUDIENCE = "voxmeter-billing"
"""Also what a client that signs names as the audience of its assertion."""

TOKEN_SECONDS = 900
"""Short: a token outlives what it was made for by a quarter of an hour; a revoked client's is refused at once all the same."""

ASSERTION_SECONDS_MAX = 3600
"""A client's assertion may not live longer: for so long it has to be remembered."""

ASSERTIONS_MAX = 10_000
"""Assertions remembered, some 2 MB. With more in an hour no further one is taken, rather than one twice."""


class BadScope(BadInput):
    """A client asks for more than it may."""

    code = "invalid_scope"


class Grants:
    """Tokens of one backend."""

    def __init__(self, key: SigningKey, clock: Clock) -> None:
        self._key, self._clock = key, clock
        self._used: dict[bytes, int] = {}

    def token(self, principal: Principal, scope: str) -> dict[str, Any]:
        """`{access_token, token_type, expires_in, scope}`: of all its scopes, or of those asked for. Raises BadScope."""
        scopes = frozenset(scope.split()) or principal.scopes
        if unheld := sorted(scopes - principal.scopes):
            raise BadScope(f"this client has no scope {unheld[0][:100]!r}", "ask for one it has")
        now, told = self._now(), " ".join(sorted(scopes))
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": principal.id, "iat": now, "exp": now + TOKEN_SECONDS, "scope": told}
        return {"access_token": jwt.issue(claims, self._key), "token_type": "Bearer", "expires_in": TOKEN_SECONDS, "scope": told}

    def read(self, token: str) -> tuple[str, frozenset[str]]:
        """(client's id, scopes) of a token of ours. Raises Unauthorized."""
        claims = self._read(token, {self._key.key_id: self._key.public}, ISSUER)
        return str(claims["sub"]), frozenset(str(claims.get("scope", "")).split())

    def check_assertion(self, assertion: str, key_id: str, client: str, public: bytes) -> None:
        """Raises Unauthorized for one that isn't this client's, for us, and new."""
        claims = self._read(assertion, {key_id: public} if public else {}, client)
        if claims["sub"] != client:
            raise Unauthorized("the assertion speaks for another client", "sign it with iss and sub the client's id")
        self._once(client, claims)

    def _read(self, token: str, trusted: Mapping[str, bytes], issuer: str) -> dict[str, Any]:
        try:
            return jwt.read(token, trusted, jwt.Expected(issuer, AUDIENCE, self._clock.utc()))
        except jwt.BadToken as error:
            raise Unauthorized(error.message, error.todo) from error

    def _once(self, client: str, claims: Mapping[str, Any]) -> None:
        now, jti = self._now(), claims.get("jti")
        if not isinstance(jti, str) or not jti or claims["exp"] > now + ASSERTION_SECONDS_MAX:
            raise Unauthorized("the assertion has no jti, or lives too long", f"give it a jti and at most {ASSERTION_SECONDS_MAX} s")
        mark = hashlib.sha256(f"{client} {jti}".encode("utf-8", "replace")).digest()
        for old in [used for used, until in self._used.items() if until < now] if len(self._used) >= ASSERTIONS_MAX else []:
            del self._used[old]
        if mark in self._used or len(self._used) >= ASSERTIONS_MAX:
            raise Unauthorized("the assertion has been used", "sign a new one for each token")
        self._used[mark] = int(claims["exp"]) + jwt.LEEWAY_S

    def _now(self) -> int:
        return int(self._clock.utc().timestamp())
