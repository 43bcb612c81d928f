"""Signs, checks and seals: Ed25519 for what leaves a machine, AES-256-GCM for what must not be read.

A key's id is made from the key, so that whoever holds the key can name it and nobody can give two keys one name.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import ValidationError

from agent.contract.record import KeyData
from agent.errors import BadInput

SEED_BYTES = 32
"""All of an Ed25519 key."""

KEY_ID_DIGITS = 32
"""128 bits: nobody finds a second key with the same id."""

SEAL_KEY_BYTES = 32
OWN_KEYS_KEPT, KEYS_KEPT = 8, 4_096
"""Keys kept ready for use: making one ready takes as long as a third of signing with it."""

NONCE_BYTES = 12
"""What AES-GCM takes without hashing. Random ones are safe for some billion texts under one key."""

KEY_RECORD = b"voxmeter-key-v1\0"
"""Begins what the signatures of a `key` record are over. No batch and no ack begins like this, so neither can pass for the other."""

KEY_MARK, SIGNATURE_MARK = "vx-key", "vx-sig"
"""MQTT user properties that carry a signature; over HTTP they are the headers VX-Key and VX-Signature."""


class UnknownKey(BadInput):
    """Signed by a key that isn't known here, yet: not final, the key may be on its way."""

    code = "unknown-key"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key that can sign. Made by `from_seed`."""

    seed: bytes = field(repr=False)
    public: bytes
    """Raw, 32 bytes."""

    @classmethod
    def from_seed(cls, seed: bytes) -> "SigningKey":
        """Raises ValueError unless the seed is SEED_BYTES long."""
        return cls(seed, _private(seed).public_key().public_bytes_raw())

    @property
    def key_id(self) -> str:
        return key_id_of(self.public)

    def sign(self, message: bytes) -> bytes:
        """64 bytes, the same ones for the same message."""
        return _private(self.seed).sign(message)


@lru_cache(maxsize=OWN_KEYS_KEPT)
def _private(seed: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed)


@lru_cache(maxsize=KEYS_KEPT)
def _public(public: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public)


def key_id_of(public: bytes) -> str:
    """32 lowercase hex digits."""
    return hashlib.sha256(public).hexdigest()[:KEY_ID_DIGITS]


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature is that key's over that message; False for anything that is no key or no signature."""
    try:
        _public(public).verify(signature, message)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def encode(content: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Raises BadInput for anything that `encode` does not write: padding, white space, stray bits."""
    try:
        content = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        content = b""
    if encode(content) != text:
        raise BadInput("not base64url without padding")
    return content


def signed(content: bytes, key: SigningKey) -> dict[str, str]:
    """What travels beside content to say who signed it: `{vx-key, vx-sig}`."""
    return {KEY_MARK: key.key_id, SIGNATURE_MARK: encode(key.sign(content))}


def check_signed(content: bytes, marks: Mapping[str, str], trusted: Mapping[str, bytes], *, what: str) -> str:
    """The id of the trusted key (key id -> raw public key) that signed. Raises UnknownKey, or BadInput naming `what`."""
    key_id, signature = marks.get(KEY_MARK), marks.get(SIGNATURE_MARK)
    if not isinstance(key_id, str) or not isinstance(signature, str):
        raise BadInput(f"{what} isn't signed", f"send {KEY_MARK} and {SIGNATURE_MARK} with it")
    if key_id not in trusted:
        raise UnknownKey(f"{what} is signed by a key that isn't known here: {key_id[:KEY_ID_DIGITS]!r}", "register the key first")
    if not verify(trusted[key_id], content, _signature(signature)):
        raise BadInput(f"the signature of {what} is wrong", "it was altered on its way, or signed by another key")
    return key_id


def _signature(text: str) -> bytes:
    try:
        return decode(text)
    except BadInput:
        return b""


def seal(key: bytes, nonce: bytes, plain: bytes, bound: bytes) -> bytes:
    """Nonce, then what only the key opens, and only together with `bound`. A nonce is used once under a key."""
    return nonce + AESGCM(key).encrypt(nonce, plain, bound)


def unseal(key: bytes, sealed: bytes, bound: bytes) -> bytes:
    """Raises BadInput if key or `bound` is another one, or if what was sealed has been altered."""
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)
    except (InvalidTag, ValueError, TypeError) as error:
        raise BadInput("a sealed text can't be opened: it was altered or its key is another") from error


def key_record_data(epoch: str, old: SigningKey, new: SigningKey) -> dict[str, str]:
    """The data of a `key` record: the old key says which one follows, the new one that it is held."""
    message = _key_message(epoch, old.public, new.public)
    keys = {"old": encode(old.public), "new": encode(new.public)}
    return keys | {"sig_old": encode(old.sign(message)), "sig_new": encode(new.sign(message))}


def check_key_record(epoch: str, told: Mapping[str, Any]) -> bool:
    """Whether both keys signed this change in this epoch."""
    try:
        record = KeyData.model_validate(told)
    except ValidationError:
        return False
    old, new = decode(record.old), decode(record.new)
    message = _key_message(epoch, old, new)
    return old != new and verify(old, message, decode(record.sig_old)) and verify(new, message, decode(record.sig_new))


def _key_message(epoch: str, old: bytes, new: bytes) -> bytes:
    return KEY_RECORD + epoch.encode("ascii", "replace") + old + new
