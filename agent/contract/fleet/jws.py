"""Signs and reads what steers a robot: a compact JWS (RFC 7515), Ed25519 only, of one kind that can't pass for another.

Nothing is believed before the signature has been checked with a key that is trusted for this kind.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import OKPKey

from agent.contract.jwt import ALGORITHM
from agent.contract.signing import SigningKey, encode
from agent.errors import BadInput


class BadSignature(BadInput):
    """Not signed by anyone who is trusted for this."""

    code = "bad-signature"


class Signed(NamedTuple):
    """What was signed, and by which of the trusted keys."""

    key_id: str
    content: bytes


class _Registry(jws.JWSRegistry):
    """Knows one algorithm, whatever the header asks for."""

    def get_alg(self, name: str) -> Any:
        if name != ALGORITHM:
            raise UnsupportedAlgorithmError(f"the algorithm is {name[:20]!r}, not {ALGORITHM}")
        return self.algorithms[ALGORITHM]


def sign(kind: str, content: bytes, key: SigningKey) -> bytes:
    """`kind` stands in the header as `typ`, so that a text of one kind is none of another."""
    private = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": encode(key.public), "d": encode(key.seed)})
    header = {"alg": ALGORITHM, "kid": key.key_id, "typ": kind}
    return jws.serialize_compact(header, content, private, registry=_Registry()).encode("ascii")


def read(kind: str, text: bytes, trusted: Mapping[str, bytes], *, bytes_max: int, what: str) -> Signed:
    """Raises BadSignature unless a trusted key (key id -> raw public key) signed it as this kind; `what` it is, in the error."""
    if len(text) > bytes_max:
        raise BadSignature(f"{what} has {len(text)} bytes; the most is {bytes_max}")
    found: list[str] = []

    def key_of(given: Any) -> OKPKey:
        key_id = str(given.headers().get("kid", ""))
        public = trusted.get(key_id)
        if public is None:
            raise BadSignature(f"{what} is signed by a key that is not trusted here")
        found.append(key_id)
        return OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": encode(public)})

    try:
        told = jws.deserialize_compact(text, key_of, registry=_Registry())
    except BadSignature:
        raise
    except (JoseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadSignature(f"{what} is not what anybody here signed") from error
    if told.headers().get("typ") != kind:
        raise BadSignature(f"{what} is signed as something else")
    return Signed(found[0], told.payload)
