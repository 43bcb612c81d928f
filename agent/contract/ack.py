"""What the backend says it holds, and how that stands against what the device holds.

An ack is signed after the backend's database has committed. A cursor moves only where both sides have the same hash, and only a
mark, the answer to the device's own question, may move it back.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import orjson
from pydantic import Field, ValidationError, model_validator

from agent.contract.canonical import genesis
from agent.contract.record import Count, Epoch, HashHex, Name, Open, Place, Utc, first_problem
from agent.contract.signing import SigningKey, check_signed, signed
from agent.errors import BadInput

ACK_BYTES_MAX = 64 * 1024
"""As large as the batch it answers: every record of it may be rejected."""

Standing = Literal["agreed", "behind", "ahead", "different"]
"""The backend has what we believe it has or more of ours; less; more than there is; something else in the same place."""


class HeldRange(Open):
    """Records that are stored beyond a gap: not linked to the beginning, not billed yet, not to be pruned."""

    first: Place
    last: Place


class Reject(Open):
    """A record that was refused."""

    sequence: Place
    code: Name
    final: Annotated[bool, Field(strict=True)]
    """It will never be billed: `cum_ack` passes it, the device keeps it as a dead letter."""


class Ack(Open):
    """The backend's word on one epoch of one device."""

    device: Name
    epoch: Epoch
    cum_ack: Count
    """The highest sequence that is linked to the beginning; 0 before the first."""
    head_hash: HashHex
    """h(cum_ack)."""
    ranges: list[HeldRange]
    rejects: list[Reject]
    durable_through: Count
    """Up to here the backend's backups have it as well."""
    backend_id: Name
    """Another one after every restore."""
    nonce: Name | None = None
    """Of the question it answers, if it is a mark."""
    window_batches: Count
    """How many batches may be on their way at once."""
    not_before_ms: Count
    """How long to wait before the next batch."""
    server_time: Utc

    @model_validator(mode="after")
    def _cursors_are_in_order(self) -> "Ack":
        if self.durable_through > self.cum_ack:
            raise ValueError(f"durable_through ({self.durable_through}) is above cum_ack ({self.cum_ack})")
        held = self.cum_ack
        for part in self.ranges:
            if not held < part.first <= part.last:
                raise ValueError(f"the range {part.first} to {part.last} is not above {held}")
            held = part.last
        return self


def write(ack: Ack, key: SigningKey) -> tuple[bytes, dict[str, str]]:
    """The bytes of an ack, and the `{vx-key, vx-sig}` that travels beside them."""
    content = orjson.dumps(ack.model_dump(exclude_none=True), option=orjson.OPT_SORT_KEYS)
    return content, signed(content, key)


def read(content: bytes, signature: Mapping[str, str], trusted: Mapping[str, bytes]) -> Ack:
    """An ack of a trusted key. `signature` is `{vx-key, vx-sig}`, `trusted` key id -> raw public key.

    Raises BadInput in one line, UnknownKey for a signature of nobody we trust.
    """
    if len(content) > ACK_BYTES_MAX:
        raise BadInput(f"the ack has {len(content)} bytes; the most is {ACK_BYTES_MAX}")
    check_signed(content, signature, trusted, what="the ack")
    return parsed(content)


def parsed(content: bytes) -> Ack:
    """An ack whose signature has been checked. Raises BadInput in one line."""
    try:
        return Ack.model_validate(orjson.loads(content))
    except ValidationError as error:
        raise BadInput(f"the ack is wrong: {first_problem(error)}") from error
    except ValueError as error:
        raise BadInput(f"the ack is not JSON: {error}") from error


def compare(ack: Ack, own_hash_at: Callable[[int], bytes | None], own_last: int, acked: int) -> Standing:
    """How the backend stands against the same epoch here, which ends at `own_last` and is acknowledged up to `acked`.

    `own_hash_at` gives our h(n), for `acked` as well when its record is pruned; None for what is pruned below it, and for what
    was folded and so never left. An ack that was overtaken looks like `behind`: only a mark says that it is so.
    """
    if ack.cum_ack > own_last:
        return "ahead"
    own = own_hash_at(ack.cum_ack) if ack.cum_ack else genesis(ack.epoch)
    if own is None and ack.cum_ack < acked:
        return "behind"
    if own is None or own.hex() != ack.head_hash:
        return "different"
    if ack.ranges and ack.ranges[-1].last > own_last:
        return "ahead"
    return "behind" if ack.cum_ack < acked else "agreed"
