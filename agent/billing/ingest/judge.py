"""Judges single records: whether one makes sense, so that it can be billed, and what of it the books are ordered by.

A record that makes no sense is rejected alone and for good; what a newer robot says that is not known here is kept.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import orjson
from pydantic import ValidationError

from agent.contract.canonical import INTEGER_MAX
from agent.contract.record import RecordReference, check, first_problem, type_name
from agent.metering.ratecard import COUNTED_CLASSES
from agent.metering.record import UNKNOWN

USAGE, ADJUST, EPOCH = type_name("usage"), type_name("adjust"), type_name("epoch")
GAP, ROLLUP, KEY = type_name("gap"), type_name("rollup"), type_name("key")

EXACT_DECIMAL: Final = re.compile(r"-?[0-9]{1,30}(\.[0-9]{1,40})?")
"""What sums of a billion records keep exact in 80 digits; a card's finest product has 33 digits after the point."""

DECIMALS_KEPT: Final = 8_192
"""Verdicts remembered: quantities and amounts of one price repeat."""

COUNT: Final = re.compile(r"[0-9]{1,15}")
"""A count as text, below 2^53."""

MILLISECONDS_DIGITS_MAX: Final = 15
"""Of a boot time: 30,000 years."""

DEPTH_MAX: Final = 64
"""Of a body: ours are 5 deep. What a digest or a finding is written with gives up some way above a hundred."""

FOLDED_MAX: Final = 2**31
"""Records of one line of a roll-up: as many as a robot makes in millennia, and sums of them fit a column of 64 bits."""

DOTTED: Final = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model")
"""Names of usage that the form takes under its own names for them as well; the books are ordered by these."""


@dataclass(slots=True)
class Judged:
    """A record as far as it can be understood."""

    sequence: int
    hash: bytes
    body: bytes
    record: dict[str, Any]
    problem: str = ""
    """Why it makes no sense; empty if it does."""
    type: str = field(init=False)

    def __post_init__(self) -> None:
        self.type = str(self.record.get("type", ""))[:200]

    @property
    def data(self) -> dict[str, Any]:
        """Only of one that makes sense."""
        data: dict[str, Any] = self.record["data"]
        return data


def judged(sequence: int, hash_: bytes, body: bytes) -> Judged:
    """`body` is a JSON object: the batch has been read."""
    record = orjson.loads(body)
    return Judged(sequence, hash_, body, record, problem(record, body))


def problem(record: Mapping[str, Any], body: bytes) -> str:
    """Why a body makes no sense, in one line; empty if it does."""
    try:
        _shallow(record, body)
        check(record)
        _within_limits(record, body)
    except ValidationError as error:
        return first_problem(error)
    except ValueError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  whatever nobody thought of costs this record, not its batch
        return f"can't be judged: {type(error).__name__}: {error}"
    return ""


def _shallow(record: Mapping[str, Any], body: bytes) -> None:
    if body.count(b"{") + body.count(b"[") <= DEPTH_MAX:
        return
    level: list[Any] = [record]
    for _ in range(DEPTH_MAX):
        level = [inner for one in level for inner in (one.values() if type(one) is dict else one) if type(inner) in (dict, list)]
    if level:
        raise ValueError(f"it is deeper than {DEPTH_MAX} levels")


def _within_limits(record: Mapping[str, Any], body: bytes) -> None:
    """What the form allows and sums can't hold. Raises ValueError."""
    if b"null" in body and _holds_null(record):
        raise ValueError("null is no value of a record")
    data = record["data"]
    if len(record["boottimems"]) > MILLISECONDS_DIGITS_MAX:
        raise ValueError("boottimems is longer than any boot")
    if record["type"] == USAGE:
        _usage(data)
    elif record["type"] in (ROLLUP, GAP):
        own, sequence = record["id"].split(":")
        if data["epoch"] == own and data["last"] >= int(sequence):
            raise ValueError("it accounts for itself, or for what comes after it")
        for total in data.get("totals", []):
            _total(total)


def _holds_null(value: Any) -> bool:
    if type(value) is dict:
        return any(inner is None or (type(inner) in (dict, list) and _holds_null(inner)) for inner in value.values())
    return any(inner is None or (type(inner) in (dict, list) and _holds_null(inner)) for inner in value)


def _named(told: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if name not in told:
            raise ValueError(f"{name} is missing")


def _usage(data: Mapping[str, Any]) -> None:
    _named(data, *DOTTED)
    if data["attempt"] > INTEGER_MAX:
        raise ValueError("attempt is beyond 2^53")
    for name in ("amount", "billed_tokens"):
        if name in data:
            _exact(data[name], name)
    for charge in data.get("charges", []):
        _named(charge, "class")
        _exact(charge["quantity"], "charges.quantity")
        _exact(charge["amount"], "charges.amount")
    if "replaces" in data:
        RecordReference.model_validate(data["replaces"])


def _total(total: Mapping[str, Any]) -> None:
    """One line of a roll-up, with the fields that `metering.rollup` adds; or of an odometer, whose quantity is an integer."""
    _named(total, "class")
    if type(total["quantity"]) is int:
        return
    if total["class"] in (*COUNTED_CLASSES, UNKNOWN) and not COUNT.fullmatch(total["quantity"]):
        raise ValueError(f"totals: {total['quantity'][:40]!r} is no count of {total['class']}")
    for name in ("quantity", "billed", "amount"):
        if name in total:
            _exact(total[name], f"totals.{name}")
    for name in ("records", "distinct", "unresolved"):
        if name in total and not (type(total[name]) is int and 0 <= total[name] <= FOLDED_MAX):
            raise ValueError(f"totals.{name} is no count")


def _exact(text: object, where: str) -> None:
    if not isinstance(text, str) or not _is_exact(text):
        raise ValueError(f"{where} is no decimal of at most 30 digits before and 40 after the point")


@lru_cache(maxsize=DECIMALS_KEPT)
def _is_exact(text: str) -> bool:
    return EXACT_DECIMAL.fullmatch(text) is not None


def digest(data: Mapping[str, Any]) -> bytes:
    """Of what an adjust or a roll-up says, whichever record says it."""
    told = {name: value for name, value in data.items() if name != "replaces"}
    return hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).digest()


def digest_of_place(epoch: str, sequence: int) -> bytes:
    """By which a usage record is found that was issued again for the one in this place."""
    return digest({"epoch": epoch, "sequence": sequence})


def digest_of_span(told: Mapping[str, Any]) -> bytes:
    """By which the gaps are found that account for this stretch."""
    return digest({name: told[name] for name in ("epoch", "first", "last")})


def digest_of_key(public: str) -> bytes:
    """By which the record is found that names this key, in base64url, as the next."""
    return digest({"new": public})


def about(one: Judged) -> bytes | None:
    """By what else than its place a record is found."""
    if one.problem:
        return None
    if one.type in (ADJUST, ROLLUP):
        return digest(one.data)
    if one.type == GAP:
        return digest_of_span(one.data)
    if one.type == KEY:
        return digest_of_key(one.data["new"])
    if one.type == USAGE and "replaces" in one.data:
        return digest_of_place(one.data["replaces"]["epoch"], one.data["replaces"]["sequence"])
    return None
