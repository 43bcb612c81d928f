"""What a batch of records is: built and signed by the device, read and checked to the last byte by the backend.

A batch stands in the chain: it starts from `h_before` and ends at `h_last`. Where records were folded or lost the chain runs
from a hole's `h_before` to its `h_last`, and the record that accounts for the hole is an ordinary one at its own place. Whether
a record makes sense is not decided here: one bad record is rejected alone, a batch only for its size and form.
"""

import base64
import binascii
import hashlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar

import orjson
from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, WithJsonSchema

from agent.clock import ClockQuality
from agent.contract.canonical import BODY_BYTES_MAX, INTEGER_MAX, link, unlimited
from agent.contract.record import SEQUENCE_DIGITS, BootId, Digits, Epoch, HashHex, OdometerLine, Open, Place, Utc, first_problem
from agent.contract.signing import SigningKey, signed
from agent.errors import BadInput, LedgerDamaged

BATCH_RECORDS_MAX = 500
"""Keeps the backend's transaction short."""

BATCH_BYTES_MAX = 64 * 1024
"""Before compression: what every MQTT broker takes, and seconds on a poor mobile link."""

RAW_BYTES_MAX = 16 * 1024
"""Of a provider's usage object; of a larger one only the hash is kept, in its record."""

HASH_BYTES = 32
RAW_FRAME = len('{"body":"","sequence":},') + len(str(INTEGER_MAX))
"""What a line of `raw` takes besides its bytes, at the most."""

BODY_FRAME = len('"",')
OdometerKey = tuple[str, str, str, str]
"""(stage, model, placement, class)."""


class BatchTooBig(BadInput):
    """More than a batch may hold: answered with 413, and the device sends half of it."""

    code = "batch-too-big"


def _base64(value: object) -> bytes:
    text = value if isinstance(value, str) else "?"
    try:
        content = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise ValueError("not base64") from error
    # The strict decoder takes stray bits in the last digit; there is one way to write what we hash.
    if _text(content[len(content) // 3 * 3 :]) != text[len(content) // 3 * 4 :]:
        raise ValueError("not base64")
    return content


Base64 = Annotated[bytes, BeforeValidator(_base64), WithJsonSchema({"type": "string", "contentEncoding": "base64"})]


@dataclass(frozen=True, slots=True)
class Row:
    """A record as the ledger holds it."""

    sequence: int
    hash: bytes
    """h(sequence), 32 bytes."""
    body: bytes
    raw: bytes | None = None
    """The provider's usage object as received, where it is held."""


@dataclass(frozen=True, slots=True)
class Hole:
    """Records that a batch passes over, as the record that accounts for them names them. A `gap` without hashes ends a batch."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="ignore")

    first: Place
    last: Place
    h_before: HashHex
    h_last: HashHex


class Anchor(Open):
    """A moment whose wall time and boot time are both known."""

    bootid: BootId
    boottimems: Digits
    time: Utc
    quality: ClockQuality


class RawLine(Open):
    """A provider's usage object beside its record."""

    sequence: Place
    body: Annotated[Base64, Field(max_length=RAW_BYTES_MAX)]


class BatchContent(Open):
    """A batch as received, its bodies decoded."""

    device: Annotated[str, StringConstraints(pattern=r"^[^:]+$", max_length=200)]
    epoch: Epoch
    first: Place
    last: Place
    h_before: HashHex
    h_last: HashHex
    odometer: list[OdometerLine]
    """Totals at `last`."""
    anchors: list[Anchor]
    bodies: Annotated[list[Base64], Field(min_length=1, max_length=BATCH_RECORDS_MAX)]
    raw: list[RawLine]
    holes: list[Hole] = Field(default_factory=list)

    @cached_property
    def records(self) -> list[tuple[int, bytes, bytes]]:
        """(sequence, hash, body) of each record. Raises BadInput for a hole that doesn't fit; after `read` all do."""
        walked = list(_walk(self.first, bytes.fromhex(self.h_before), self.bodies, self.holes))
        return [(sequence, digest, body) for (sequence, digest), body in zip(walked, self.bodies, strict=True)]

    @cached_property
    def decoded(self) -> list[Any]:
        """The bodies as JSON values. Raises BadInput for one that is none; after `read` all are objects."""
        return [_decoded(sequence, body) for sequence, _, body in self.records]


@dataclass(frozen=True, slots=True)
class Batch:
    """Built once, sent and sent again as these bytes."""

    content: bytes
    first: int
    last: int
    h_last: bytes

    @property
    def batch_id(self) -> str:
        return batch_id_of(self.content)


def batch_id_of(content: bytes) -> str:
    """SHA-256 of a batch before compression, in hex."""
    return hashlib.sha256(content).hexdigest()


def build(
    *,
    device: str,
    epoch: str,
    h_before: bytes,
    rows: Sequence[Row],
    odometer: Mapping[OdometerKey, int],
    anchors: Sequence[Mapping[str, str]],
    holes: Sequence[Hole] = (),
) -> Batch:
    """The batch of these rows, the same bytes every time.

    Raises LedgerDamaged if the rows are not what was chained, ValueError for rows that make no batch: none, more than `fitting`
    allows, or not one after the other.
    """
    if not 0 < len(rows) <= BATCH_RECORDS_MAX:
        raise ValueError(f"a batch of {len(rows)} records; it holds 1 to {BATCH_RECORDS_MAX}")
    for row, (sequence, digest) in zip(rows, _walk(rows[0].sequence, h_before, [row.body for row in rows], holes), strict=True):
        if row.sequence != sequence:
            raise ValueError(f"record {row.sequence} stands where {sequence} belongs")
        if row.hash != digest:
            raise LedgerDamaged(f"record {sequence} is not what was chained", "run: voxmeter usage verify")
    first, last = rows[0], rows[-1]
    told = {"device": device, "epoch": epoch, "first": first.sequence, "last": last.sequence}
    frame = told | _frame(odometer, anchors, holes) | {"h_before": h_before.hex(), "h_last": last.hash.hex()}
    bodies = [_text(row.body) for row in rows]
    raw = [{"sequence": row.sequence, "body": _text(row.raw)} for row in rows if row.raw]
    content = unlimited(frame | {"bodies": bodies, "raw": raw})
    if len(content) > BATCH_BYTES_MAX and len(rows) > 1:
        raise ValueError(f"a batch of {len(content)} bytes; the most is {BATCH_BYTES_MAX}")
    return Batch(content, first.sequence, last.sequence, last.hash)


def fitting(
    sizes: Sequence[tuple[int, int]],
    *,
    device: str,
    odometer: Mapping[OdometerKey, int],
    anchors: Sequence[Mapping[str, str]],
    holes: Sequence[Hole] = (),
) -> int:
    """How many of the waiting rows, given as (bytes of the body, bytes of the raw or 0), make one batch: at least 1.

    `odometer` needs the lines of the batch's own or more, the quantities don't matter; `holes` those it may cross or more.
    """
    widest = _frame(dict.fromkeys(odometer, -INTEGER_MAX), anchors, holes)
    told = {"device": device, "epoch": "0" * 32, "first": INTEGER_MAX, "last": INTEGER_MAX}
    frame = told | widest | dict.fromkeys(("h_before", "h_last"), bytes(HASH_BYTES).hex())
    room = BATCH_BYTES_MAX - len(unlimited(frame | {"bodies": [], "raw": []}))
    for count, (body, raw) in enumerate(sizes[:BATCH_RECORDS_MAX]):
        room -= BODY_FRAME + _text_bytes(body) + (RAW_FRAME + _text_bytes(raw) if raw else 0)
        if room < 0:
            return max(count, 1)
    return min(len(sizes), BATCH_RECORDS_MAX)


def sign(batch: Batch, key: SigningKey) -> dict[str, str]:
    """What travels beside the batch: `{vx-key, vx-sig}`, over its bytes before compression."""
    return signed(batch.content, key)


def read(content: bytes) -> BatchContent:
    """A batch that holds together: places, identities and chain. Raises BadInput in one line, BatchTooBig for its size."""
    if len(content) > BATCH_BYTES_MAX:
        raise BatchTooBig(f"the batch has {len(content)} bytes; the most is {BATCH_BYTES_MAX}", "send half of it")
    batch = _shaped(content)
    for (sequence, _, _), record in zip(batch.records, batch.decoded, strict=True):
        _check_place(batch, sequence, record)
    last, head, _ = batch.records[-1]
    if last != batch.last:
        raise BadInput(f"the batch says {batch.first} to {batch.last}, its bodies are {batch.first} to {last}")
    if head.hex() != batch.h_last:
        raise BadInput(f"h_last of the batch is not the chain over its bodies from h_before, which is {head.hex()}")
    held = [line.sequence for line in batch.raw]
    if strange := set(held).difference(sequence for sequence, _, _ in batch.records):
        raise BadInput(f"the batch has raw usage for record {min(strange)}, which it does not hold")
    if len(set(held)) < len(held):
        raise BadInput("the batch has raw usage twice for one record")
    return batch


def _shaped(content: bytes) -> BatchContent:
    try:
        value = orjson.loads(content)
    except ValueError as error:
        raise BadInput(f"the batch is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadInput("the batch is not a JSON object")
    try:
        return BatchContent.model_validate(value)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        if (wrong["type"], wrong["loc"]) == ("too_long", ("bodies",)):
            raise BatchTooBig(f"the batch has more than {BATCH_RECORDS_MAX} records", "send half of it") from error
        raise BadInput(f"the batch is wrong: {first_problem(error)}") from error


def _decoded(sequence: int, body: bytes) -> Any:
    if len(body) > BODY_BYTES_MAX:
        raise BatchTooBig(f"record {sequence} has {len(body)} bytes; the most is {BODY_BYTES_MAX}")
    try:
        return orjson.loads(body)
    except ValueError as error:
        raise BadInput(f"the body of record {sequence} is not a record") from error


def _check_place(batch: BatchContent, sequence: int, record: Any) -> None:
    """A body says itself whose it is and where it stands."""
    try:
        source, *told = (record["source"], record["id"], record["sequence"])
        owner = source.split(":")[-2:]
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"the body of record {sequence} is not a record") from error
    number = f"{sequence:0{SEQUENCE_DIGITS}d}"
    if told != [f"{batch.epoch}:{number}", number] or owner != [batch.device, batch.epoch]:
        raise BadInput(f"the body in the place of record {sequence} is of another robot, epoch or sequence: {str(record['id'])[:80]!r}")


def _walk(first: int, head: bytes, bodies: Sequence[bytes], holes: Sequence[Hole]) -> Iterator[tuple[int, bytes]]:
    """(sequence, hash) of each body, across the holes. Raises BadInput for a hole that is in no place of its own."""
    ahead = deque(sorted(holes, key=lambda hole: hole.first))
    sequence = first
    for index, body in enumerate(bodies):
        while index and ahead and ahead[0].first == sequence:
            hole = ahead.popleft()
            if hole.h_before != head.hex() or hole.last < hole.first:
                raise BadInput(f"the hole {hole.first} to {hole.last} does not follow from the record before it")
            sequence, head = hole.last + 1, bytes.fromhex(hole.h_last)
        head = link(head, body)
        yield sequence, head
        sequence += 1
    if ahead:
        raise BadInput(f"the hole {ahead[0].first} to {ahead[0].last} lies between no two records of the batch")


def _frame(odometer: Mapping[OdometerKey, int], anchors: Sequence[Mapping[str, str]], holes: Sequence[Hole]) -> dict[str, Any]:
    """What stands around the records and isn't their place."""
    names = ("stage", "model", "placement", "class")
    lines = [dict(zip(names, key, strict=True)) | {"quantity": quantity} for key, quantity in sorted(odometer.items())]
    frame: dict[str, Any] = {"odometer": lines, "anchors": [dict(anchor) for anchor in anchors]}
    return frame | {"holes": [asdict(hole) for hole in holes]} if holes else frame


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _text_bytes(size: int) -> int:
    return (size + 2) // 3 * 4
