"""Decides what linked records are billed for: pure, from judged records and from what is billed already.

A usage record counts once. One that was issued again, or belongs to an epoch that another follows, counts only if no other record
of the same attempt does; a correction or a roll-up that another epoch holds as well counts there. Evidence counts nothing.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from agent.billing.ingest.dating import Dated, Receipt
from agent.billing.ingest.judge import ADJUST, GAP, ROLLUP, USAGE, Judged, digest
from agent.billing.ingest.lines import lines
from agent.billing.ledger.tables import State
from agent.contract.batch import OdometerKey
from agent.metering.ratecard import RAW_CLASSES
from agent.metering.record import CACHED, INPUT, OUTPUT, odometer_of_data, quantities_of_data
from agent.metering.rollup import KEYS

BILLABLE: Final = "billable"

Attempt = tuple[str, str, int]
"""(turn, stage, attempt)."""

Place = tuple[str, int]
"""(epoch, sequence)."""

ADJUSTED: Final = frozenset((INPUT, CACHED, OUTPUT, *RAW_CLASSES))
"""Figures whose differences change what is billed; others (what a customer heard, our own count beside a provider's) only tell."""


class Due(NamedTuple):
    """A record that is linked now."""

    judged: Judged
    dated: Dated


class Target(NamedTuple):
    """A record that a correction is about."""

    record: Mapping[str, Any]
    dated: Dated
    state: State


@dataclass(frozen=True, slots=True)
class Known:
    """What is billed already, as far as these records ask."""

    attempts: Collection[Attempt] = ()
    digests: Collection[bytes] = ()
    """Of corrections and roll-ups that are billed in another epoch."""
    folded_twice: Collection[int] = ()
    """Sequences of roll-ups that stand for records which are billed one by one."""
    target: Callable[[Place], Target | None] = lambda _: None
    """The record in a place, or the one that was issued again for it."""
    billed: Callable[[Attempt], Target | None] = lambda _: None
    """The record that an attempt is billed by."""


@dataclass(slots=True)
class Bill:
    """What linked records come to."""

    states: dict[int, State] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    """For the totals."""
    odometer: Counter[OdometerKey] = field(default_factory=Counter)
    """What the robot's own advanced by."""
    unresolved: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)
    """(sequence, why, told)."""
    billed: list[Due] = field(default_factory=list)
    """Usage records, for whoever watches."""
    waiting: dict[int, Place] = field(default_factory=dict)
    """Corrections of what isn't linked, by sequence, and where that belongs: it may come."""


def doubtful(due: Iterable[Due], *, closed: bool) -> list[str]:
    """Turns of which another record may be billed already."""
    usage = (one.judged.data for one in due if not one.judged.problem and one.judged.type == USAGE)
    return [data["turn_id"] for data in usage if closed or "replaces" in data]


def bill(due: Sequence[Due], known: Known, receipt: Receipt, *, closed: bool) -> Bill:
    """`closed`: another epoch follows that of the records."""
    done = Bill()
    taken = set(known.attempts)
    used: list[tuple[dict[str, Any], Dated]] = []
    near = Near() if any(one.judged.type == ADJUST for one in due) else None
    for one in due:
        judged = one.judged
        if judged.problem:
            done.states[judged.sequence] = State.INVALID
            done.unresolved.append((judged.sequence, "invalid", {"type": judged.type, "problem": judged.problem}))
        elif judged.type == USAGE:
            done.states[judged.sequence] = _usage(one, taken, used, done, closed=closed)
            if near is not None:
                near.put(one, done.states[judged.sequence])
        elif judged.type == ROLLUP:
            done.states[judged.sequence] = _rollup(one, known, receipt, done)
        elif judged.type == ADJUST:
            done.states[judged.sequence] = _adjust(one, known, near or Near(), done)
        else:
            done.states[judged.sequence] = State.PLAIN
            if judged.type == GAP and judged.data.get("totals"):
                done.unresolved.append((judged.sequence, "gap", judged.data))
    done.lines += lines(used)
    return done


def _usage(one: Due, taken: set[Attempt], used: list[tuple[dict[str, Any], Dated]], done: Bill, *, closed: bool) -> State:
    data = one.judged.data
    if data["role"] != BILLABLE:
        return State.PLAIN
    for place, quantity in odometer_of_data(data).items():
        done.odometer[place] += quantity
    attempt = attempt_of(data)
    if (closed or "replaces" in data) and attempt in taken:
        return State.AGAIN
    taken.add(attempt)
    used.append((one.judged.record, one.dated))
    if "amount" not in data:
        why = "unknown" if data["origin"] == "unknown" else "unpriced"
        done.unresolved.append((one.judged.sequence, why, {name: data[name] for name in ("turn_id", "stage", "attempt", "origin")}))
    done.billed.append(one)
    return State.BILLED


def _rollup(one: Due, known: Known, receipt: Receipt, done: Bill) -> State:
    judged = one.judged
    if digest(judged.data) in known.digests:
        return State.AGAIN
    if judged.sequence in known.folded_twice:
        done.unresolved.append((judged.sequence, "folded-twice", judged.data))
        return State.AGAIN
    parts = [part for part in judged.data["totals"] if part["role"] == BILLABLE]
    if any(part.get("unresolved") for part in parts):
        done.unresolved.append((judged.sequence, "rollup", {name: judged.data[name] for name in ("epoch", "first", "last")}))
    done.lines += [part | {"span": part["span"] if receipt.plausible_day(part["span"]) else one.dated.time[:10]} for part in parts]
    return State.BILLED


class Near:
    """Usage records that are billed together with a correction, and so are not in the books yet: by place, by the place of the one they
    were issued again for, and by attempt.
    """

    def __init__(self) -> None:
        self._by_place: dict[Place, Target] = {}
        self._billed: dict[Attempt, Target] = {}

    def put(self, one: Due, state: State) -> None:
        """One whose state is settled."""
        target = Target(one.judged.record, one.dated, state)
        for place in places(one.judged):
            self._by_place[place] = target
        if state == State.BILLED:
            self._billed[attempt_of(one.judged.data)] = target

    def find(self, place: Place, known: Known) -> Target | None:
        """Here or in the books; where its attempt is billed by another record, that one."""
        target = self._by_place.get(place) or known.target(place)
        if target is None or target.state != State.AGAIN or target.record["type"] != USAGE:
            return target
        attempt = attempt_of(target.record["data"])
        return self._billed.get(attempt) or known.billed(attempt) or target


def places(usage: Judged) -> list[Place]:
    """Where a usage record stands, and where the one stood that it was issued again for."""
    again = usage.data.get("replaces")
    own = (usage.record["id"].split(":")[0], usage.sequence)
    return [own, (again["epoch"], again["sequence"])] if again else [own]


def attempt_of(data: Mapping[str, Any]) -> Attempt:
    """Of a usage record."""
    return data["turn_id"], data["stage"], data["attempt"]


def _adjust(one: Due, known: Known, near: Near, done: Bill) -> State:
    """The differences go where the record they are about went; what that changes of the amount, the invoice knows."""
    judged, told = one.judged, one.judged.data["adjusts"]
    target = near.find((told["epoch"], told["sequence"]), known)
    if target is None:
        done.waiting[judged.sequence] = (told["epoch"], told["sequence"])
    if target is None or target.record.get("type") != USAGE or target.state == State.INVALID:
        done.unresolved.append((judged.sequence, "adjusts-nothing", judged.data))
        return State.PLAIN
    data = target.record["data"]
    moved = _moved(judged.data["deltas"]) if data["role"] == BILLABLE else {}
    at = (data["stage"], data["gen_ai.request.model"], data["placement"])
    for class_, quantity in moved.items():
        done.odometer[*at, class_] += quantity
    if digest(judged.data) in known.digests:
        return State.AGAIN
    if moved and target.state == State.BILLED:
        shared = {**data, "subject": target.record["subject"], "span": target.dated.time[:10]}
        names = {name: str(shared[of]) for name, of in KEYS if of in shared}
        done.lines += [names | {"class": class_, "quantity": str(quantity)} for class_, quantity in moved.items()]
    done.unresolved.append((judged.sequence, "adjust", judged.data))
    return State.BILLED


def _moved(deltas: Mapping[str, int]) -> dict[str, int]:
    """By class; input is net of cached."""
    cached = deltas.get(CACHED, 0)
    moved = {"input": deltas.get(INPUT, 0) - cached, "cached_input": cached, "output": deltas.get(OUTPUT, 0)}
    moved |= {name: deltas.get(name, 0) for name in RAW_CLASSES}
    return {class_: quantity for class_, quantity in moved.items() if quantity}


def seen(one: Due) -> dict[str, Any]:
    """What whoever watches is told of a billed usage record."""
    data = one.judged.data
    names = ("turn_id", "stage", "placement", "outcome", "origin", "billed_tokens", "amount", "currency")
    told = {"sequence": one.judged.sequence, "day": one.dated.time[:10], "time": one.dated.time, "model": data["gen_ai.request.model"]}
    return told | {name: data[name] for name in names if name in data} | {"figures": quantities_of_data(data)}
