"""What must be true when a scenario has ended: each check has a name, an answer and the figures it rests on."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple

from agent.contract.canonical import genesis
from agent.contract.wire import INFLIGHT_MAX
from agent.errors import BadInput
from agent.sim.world.books import USAGE, Attempt, Billing, Data, Own, billing, money, own, summed, units
from agent.sim.world.evidence import Evidence
from agent.sim.world.fleet import certificates, orders
from agent.sim.world.robot import shipped_cards
from agent.sim.world.scenario import Scenario
from agent.store.reading import LedgerReader

Place = tuple[str, str, int]
"""(device, epoch, sequence)."""

CHANGED_OVER = frozenset({"different", "ahead", "fork", "restored"})
"""Reasons for a new epoch that say: the backend had something else of mine."""


class Checked(NamedTuple):
    """One check's verdict."""

    name: str
    ok: bool
    says: str


@dataclass(frozen=True, slots=True)
class Report:
    """How a scenario ended."""

    scenario: str
    seed: int
    devices: int
    checks: Sequence[Checked]
    figures: Mapping[str, float] = field(default_factory=dict)
    digest: str = ""
    """Of everything that happened, in a world that repeats itself."""

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    def told(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"ok": self.ok, "checks": [check._asdict() for check in self.checks], "figures": dict(self.figures)}


@dataclass
class Case:
    """The evidence, and both sides' books made of it."""

    found: Evidence
    cloned: AbstractSet[str]
    """Devices."""

    @cached_property
    def own(self) -> Own:
        return own(self.found.bodies)

    @cached_property
    def billing(self) -> Billing:
        return billing(self.found.backend)

    @cached_property
    def missing(self) -> list[Attempt]:
        """Appended and not billed."""
        return sorted(key for key in self.own.attempts if not self.billing.billed.get(key))

    @cached_property
    def declared(self) -> list[Attempt]:
        """Of the missing ones, those all of whose records lie in gaps that the backend was told of."""
        return [key for key in self.missing if (held := self._places.get(key)) and all(map(self._in_gap, held))]

    @cached_property
    def revoked(self) -> AbstractSet[str]:
        """Devices that the operator struck off."""
        return certificates.revoked(self.found.certificates.items())

    @cached_property
    def withheld(self) -> list[Attempt]:
        """Of the missing ones, those of robots whom nobody hears any more."""
        return [key for key in self.missing if key.device in self.revoked]

    @cached_property
    def lost(self) -> list[Attempt]:
        """Missing, and nobody said so."""
        return sorted(set(self.missing) - set(self.declared) - set(self.withheld))

    @cached_property
    def declared_records(self) -> int:
        """Of every type, that lie in gaps and that the backend does not hold."""
        held = self.billing.epochs
        every = {place for places in self._places.values() for place in places if self._in_gap(place)}
        return sum(place[:2] not in held or place[2] not in held[place[:2]].hashes for place in every)

    @cached_property
    def _places(self) -> dict[Attempt | None, set[Place]]:
        """Where each attempt stands in the robots' books, more than once if it was issued again; under None all that is no attempt.
        Nothing where no gap was declared: only then it is read.
        """
        places: defaultdict[Attempt | None, set[Place]] = defaultdict(set)
        for body in self.found.bodies if self.billing.gaps else ():
            reader = LedgerReader(body.state)
            for record in reader.records():
                epoch, sequence = record["id"].split(":")
                told = record["data"]
                usage = record["type"] == USAGE
                attempt = Attempt(body.device, told["turn_id"], told["stage"], told["attempt"]) if usage else None
                places[attempt].add((body.device, epoch, int(sequence)))
            reader.close()
        return places

    def _in_gap(self, place: Place) -> bool:
        return any((who, which) == place[:2] and first <= place[2] <= last for who, which, first, last in self.billing.gaps)

    @cached_property
    def twice(self) -> list[Attempt]:
        return sorted(key for key, lines in self.billing.billed.items() if len(lines) > 1)

    @cached_property
    def altered(self) -> list[Attempt]:
        """Billed, and no robot appended it like this."""
        known = {key: [units(one) for one in versions] for key, versions in self.own.attempts.items()}
        billed = self.billing.billed.items()
        return sorted(key for key, lines in billed if any(units(one) not in known.get(key, ()) for one in lines))

    @cached_property
    def appended(self) -> list[Data]:
        """One version of each attempt that nobody declared lost: where a clone made a second, the one that was billed."""
        chosen, declared = [], {*self.declared, *self.withheld}
        for key, versions in sorted((key, versions) for key, versions in self.own.attempts.items() if key not in declared):
            billed = [units(one) for one in self.billing.billed.get(key, ())]
            chosen.append(next((one for one in versions if units(one) in billed), versions[0]))
        return chosen

    @cached_property
    def billed(self) -> list[Data]:
        return [one for _, lines in sorted(self.billing.billed.items()) for one in lines]


def _units(case: Case) -> tuple[bool, str]:
    """Billed units = appended units, per stage; by the records, and by the backend's running totals."""
    ours, theirs = summed(case.appended), summed(case.billed)
    running, calls = _calls(case.billing.totals), _calls(theirs)
    kept = calls == running
    wrong = {"lost": case.lost, "billed twice": case.twice, "altered": case.altered}
    told = "; ".join(f"{name}: {orders.few(keys)}" for name, keys in wrong.items() if keys)
    figures = ", ".join(f"{stage} {count} calls" for stage, count in calls.items())
    figures += f", {len(case.declared)} declared lost" if case.declared else ""
    ok = ours == theirs and kept and not told
    return ok, told or ("" if kept else f"its running totals say {dict(running)}, ") + figures


def _calls(rows: Iterable[Mapping[str, Any]]) -> Counter[str]:
    calls: Counter[str] = Counter()
    for row in rows:
        calls[row["stage"]] += row["records"]
    return calls


def _money(case: Case) -> tuple[bool, str]:
    """Both sides' raw units priced by the shipped card, and the robots' estimates added up, to the last digit."""
    card = shipped_cards().versions[-1]
    ours, theirs = money(case.appended, card), money(case.billed, card)
    estimated = sum((Decimal(row["amount"] or 0) for row in case.billing.totals), Decimal(0))
    return ours == theirs == estimated, f"{ours} {card.currency} appended, {theirs} re-rated, {estimated} in its running totals"


def _gaps(case: Case) -> tuple[bool, str]:
    """Every epoch is linked to its highest stored record, and to the robots' last where none was cloned, or a gap says why not."""
    held = case.billing.epochs
    short = []
    for (device, epoch), one in sorted(held.items()):
        declared = {number for who, which, first, last in case.billing.gaps if (who, which) == (device, epoch) for number in (first, last)}
        if one.cum < max(one.hashes, default=0) and one.cum + 1 not in declared:
            short.append(f"{device} {epoch[:8]} is linked to {one.cum} of {max(one.hashes)}")
    missing = [
        f"{device} {epoch[:8]}"
        for device, epoch in sorted(case.own.last)
        if (device, epoch) not in held and device not in case.cloned | case.revoked
    ]
    wrong = [*short, *(f"{one} is not there" for one in missing)]
    told = f"{len(held)} epochs, {len(case.billing.gaps)} gaps declared, {case.declared_records} records in them"
    return not wrong, orders.few(wrong) or told


def _acks(case: Case) -> tuple[bool, str]:
    """What an ack told a robot is in the backend's books, unless a later mark took it back."""
    withdrawn, gone = 0, []
    lowest: dict[tuple[str, str], int] = {}
    devices = {body.robot: body.device for body in case.found.bodies}
    for heard in reversed(case.found.heard):
        key = (heard.robot, heard.epoch)
        if heard.standing in ("agreed", "behind") and not _in_books(case.billing, devices[heard.robot], heard.epoch, heard):
            if lowest.get(key, heard.cum_ack) < heard.cum_ack:
                withdrawn += 1
            else:
                gone.append(f"{heard.robot} {heard.epoch[:8]} up to {heard.cum_ack}")
        if heard.mark:
            lowest[key] = min(lowest.get(key, heard.cum_ack), heard.cum_ack)
    return not gone, orders.few(gone) if gone else f"{len(case.found.heard)} acks, {withdrawn} withdrawn by a mark"


def _in_books(held: Billing, device: str, epoch: str, heard: Any) -> bool:
    one = held.epochs.get((device, epoch))
    if heard.cum_ack == 0:
        return bool(heard.head_hash == genesis(epoch).hex())
    return one is not None and one.cum >= heard.cum_ack and one.hashes.get(heard.cum_ack) == heard.head_hash


def _drained(case: Case) -> tuple[bool, str]:
    left = {robot: count for robot, count in case.found.backlog.items() if count}
    return not left, orders.few([f"{robot} has {count} records left" for robot, count in left.items()]) if left else "nothing left to send"


def _forks(case: Case) -> tuple[bool, str]:
    """By the backend's findings, or by a robot that was told that the backend had something else."""
    changed = {device for device, reasons in case.own.reasons.items() if reasons & CHANGED_OVER}
    found, planted = case.billing.forks | changed, set(case.cloned)
    told = [f"{device}: planted, not found" for device in sorted(planted - found)]
    told += [f"{device}: found, not planted" for device in sorted(found - planted)]
    return not told, orders.few(told) if told else f"{len(found)} found, as planted"


def _window(case: Case) -> tuple[bool, str]:
    most = max(case.found.in_flight_max.values(), default=0)
    over = [f"{robot}: {count} batches beyond the window" for robot, count in case.found.over_window.items() if count]
    return most <= INFLIGHT_MAX and not over, orders.few(over) or f"at most {most} batches of one robot were on their way at once"


CHECKS: dict[str, Callable[[Case], tuple[bool, str]]] = {
    "units": _units,
    "money": _money,
    "gaps": _gaps,
    "acks": _acks,
    "drained": _drained,
    "forks": _forks,
    "window": _window,
    "commands": lambda case: orders.commands(case.found),
    "attacks": lambda case: orders.attacks(case.found, case.billing.audit),
    "certificates": lambda case: certificates.checked(case.found, Counter(key.device for key in case.withheld)),
}


def judged(scenario: Scenario, found: Evidence, cloned: AbstractSet[str], seed: int) -> Report:
    """All checks that the scenario names, in its order. `cloned`: robots whose cards were copied, by any of their bodies' names.

    Raises BadInput for a check that does not exist.
    """
    check_names(scenario)
    case = Case(found, {body.device for body in found.bodies if body.robot in cloned})
    checks = [Checked(name, *CHECKS[name](case)) for name in scenario.checks]
    figures = {
        "records": case.own.records,
        "calls": len(case.own.attempts),
        "epochs": len(case.own.last),
        "acks": len(found.heard),
        "lost": len(case.lost),
        "declared": case.declared_records,
        "billed_twice": len(case.twice),
        **orders.figures(found),
        **certificates.figures(found, len(case.withheld)),
        **found.figures,
    }
    return Report(scenario.name, seed, len({body.device for body in found.bodies}), checks, figures)


def check_names(scenario: Scenario) -> None:
    """Raises BadInput for a check that does not exist."""
    if unknown := [name for name in scenario.checks if name not in CHECKS]:
        raise BadInput(f"scenario {scenario.name}: no check is called {unknown[0]!r}", f"there are: {', '.join(CHECKS)}")
