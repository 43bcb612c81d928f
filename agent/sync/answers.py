"""Reads what links bring back: which acks are genuine and meant for this robot, and which of many need to be taken.

A forged ack, one of another robot or epoch, or a mark that answers another question counts as no answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.contract.ack import Ack, read
from agent.errors import BadInput
from agent.ports import Acked, Answer
from agent.sync.steps import Mark, Send

FORK = "fork"
"""The code of a record, or of a batch, in whose place the backend holds another one."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of a step; a late ack belongs to none."""

    step: Send | Mark | None
    answer: Answer
    nonce: str = ""
    """That a mark was asked with."""


@dataclass(frozen=True, slots=True)
class Genuine:
    """An ack that may be believed, and the step it answers."""

    ack: Ack
    step: Send | Mark | None


def genuine(answered: Answered, acked: Acked, trusted: Mapping[str, bytes], device: str) -> Genuine:
    """`device`: whose acks are meant; empty where the epoch alone must tell. Raises BadInput in one line."""
    ack = read(acked.content, acked.marks, trusted)
    if device and ack.device != device:
        raise BadInput(f"the ack is for another robot: {ack.device[:80]!r}")
    if answered.step and ack.epoch != answered.step.epoch:
        raise BadInput("the ack is for another epoch than was asked about")
    if (ack.nonce or "") != answered.nonce:
        raise BadInput("the ack answers another question than was asked")
    return Genuine(ack, answered.step)


def needed(found: Sequence[Genuine]) -> list[Genuine]:
    """Which of the acks that came together are taken, in order: marks, those that reject something, and of each epoch the furthest.

    Each take is a durable transaction. An ack with a lower cursor than an earlier one is taken as well: something is wrong there.
    """
    order = sorted(found, key=lambda one: (one.ack.server_time, one.ack.cum_ack))
    newest = {one.ack.epoch: one for one in order}
    furthest = {one.ack.epoch: one for one in sorted(order, key=lambda one: one.ack.cum_ack)}
    chosen = {id(one) for one in (*newest.values(), *furthest.values())}
    return [one for one in order if id(one) in chosen or one.ack.rejects or isinstance(one.step, Mark)]


def forked(one: Genuine) -> bool:
    """Whether the backend holds another record in the place of one that was just sent.

    Below a cursor that both sides agree on it holds ours; whoever sent the other one is not this robot.
    """
    if not isinstance(one.step, Send):
        return False
    batch, cursor = one.step.parcel.batch, one.ack.cum_ack
    return any(no.code == FORK and not no.final and no.sequence > cursor and batch.first <= no.sequence for no in one.ack.rejects)
