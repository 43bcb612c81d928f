"""Says by other means than the parsers whether a message is what it says it is: plain looks at JSON, and the chain by hand."""

import base64
import hashlib
import re
from typing import Any

import orjson

INTEGER_MAX = 2**53 - 1

COMMAND_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
HEX = re.compile(r"[0-9a-f]{64}")


def command(text: bytes) -> bool:
    told = _object(text)
    return (
        _matches(told.get("cmd_id"), COMMAND_ID)
        and _name(told.get("aud"))
        and _name(told.get("op"))
        and _count(told.get("seq"), 1)
        and _count(told.get("iat"))
        and _count(told.get("exp"))
        and isinstance(told.get("args", {}), dict)
        and _text(told.get("session_nonce", ""), 0, 64)
    )


def twin(text: bytes) -> bool:
    told = _object(text)
    settings, groups = told.get("settings", {}), told.get("groups")
    return (
        _name(told.get("aud"))
        and _count(told.get("version"), 1)
        and _count(told.get("iat"))
        and isinstance(settings, dict)
        and all(isinstance(table, dict) for table in settings.values())
        and (groups is None or (isinstance(groups, list) and all(_name(one) for one in groups)))
        and isinstance(told.get("trust", {}), dict)
    )


def ack(text: bytes) -> bool:
    told = _object(text)
    held = told.get("cum_ack")
    counts = all(_count(told.get(name)) for name in ("cum_ack", "durable_through", "window_batches", "not_before_ms"))
    if not counts or not _matches(told.get("head_hash"), HEX) or told["durable_through"] > told["cum_ack"]:
        return False
    for part in told.get("ranges", [None]):
        if not isinstance(part, dict) or not _count(part.get("first")) or not _count(part.get("last")):
            return False
        if not held < part["first"] <= part["last"]:
            return False
        held = part["last"]
    return all(isinstance(one, dict) and isinstance(one.get("final"), bool) for one in told.get("rejects", [None]))


def batch(text: bytes) -> bool:
    """Only of batches without holes, whose chain is one line."""
    told = _object(text)
    bodies, head = told.get("bodies"), told.get("h_before")
    if not isinstance(bodies, list) or not bodies or not _matches(head, HEX) or told.get("holes"):
        return bool(told.get("holes"))
    digest = bytes.fromhex(str(head))
    for one in bodies:
        digest = hashlib.sha256(digest + base64.b64decode(str(one))).digest()
    return told.get("h_last") == digest.hex() and told.get("last") == told.get("first", 0) + len(bodies) - 1


def _object(text: bytes) -> dict[str, Any]:
    try:
        told = orjson.loads(text)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _count(value: object, least: int = 0) -> bool:
    return type(value) is int and least <= value <= INTEGER_MAX


def _text(value: object, least: int, most: int) -> bool:
    return isinstance(value, str) and least <= len(value) <= most


def _name(value: object) -> bool:
    return _text(value, 1, 200)


def _matches(value: object, pattern: re.Pattern[str]) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
