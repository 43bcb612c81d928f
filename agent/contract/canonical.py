"""The bytes of a record, made once, and the chain over them.

Canonical form is RFC 8785 restricted to what needs no number formatting: objects with ASCII keys, arrays, strings and integers
below 2^53 in size. Chain: h(0) = SHA-256("voxmeter-usage-v1" NUL epoch), h(n) = SHA-256(h(n-1) body(n)).
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

INTEGER_MAX = 2**53 - 1
"""The largest integer every JSON reader keeps exact."""

BODY_BYTES_MAX = 8 * 1024
"""A record is a line on a bill; anything longer is a mistake of its writer."""

WRITTEN = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS

CHAIN_SEED = b"voxmeter-usage-v1\0"


def canonical(value: Mapping[str, Any]) -> bytes:
    """The one byte form of a record. Raises ValueError for what the form excludes, and for more than BODY_BYTES_MAX."""
    body = unlimited(value)
    if len(body) > BODY_BYTES_MAX:
        raise ValueError(f"a record of {len(body)} bytes; the most is {BODY_BYTES_MAX}")
    return body


def unlimited(value: Mapping[str, Any]) -> bytes:
    """The same form of what is not a record and has a limit of its own. Raises ValueError for what the form excludes."""
    try:
        body = orjson.dumps(value, option=WRITTEN)
    except orjson.JSONEncodeError as error:  # a lone surrogate, a number too large, a type that is none of JSON's
        _check(value, "")
        raise ValueError(f"not canonical: {error}") from error
    if not (_plain(value) and body.isascii()):
        _check(value, "")
    return body


def _plain(value: Any) -> bool:
    """The quick look at what nearly every record is; `_check` says precisely what is wrong, ten times slower."""
    for inner in value.values() if type(value) is dict else value:
        kind = type(inner)
        if kind is not str and kind is not int and not ((kind is dict or kind is list) and _plain(inner)):
            return False
    return True


def _check(value: object, where: str) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str) or not key.isascii():
                raise ValueError(f"not canonical: key {key!r} in {where or 'the record'} is not ASCII text")
            _check(inner, f"{where}.{key}" if where else key)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check(inner, f"{where}[{index}]")
    elif type(value) is int:
        if abs(value) > INTEGER_MAX:
            raise ValueError(f"not canonical: {where} is beyond 2^53")
    elif type(value) is not str:
        raise ValueError(f"not canonical: {where} is a {type(value).__name__}; only text, integers, lists and objects are")


def genesis(epoch: str) -> bytes:
    """h(0) of an epoch."""
    return hashlib.sha256(CHAIN_SEED + epoch.encode("ascii")).digest()


def link(previous: bytes, body: bytes) -> bytes:
    """h(n) from h(n-1) and the body of record n."""
    return hashlib.sha256(previous + body).digest()
