"""Decides what of a robot's condition is wrong, and when it is well again. Pure: each takes plain values and gives a look."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Protocol

from agent.fleet.alarms import Look
from agent.metering.budget import Used

BUDGET_SHARE: Final = Decimal("0.8")
BUDGET_WELL: Final = Decimal("0.75")
"""A limit that was raised a little must not make the alarm flap."""

ENGINE_S: Final = 30.0
"""An engine that crashes is started again at once; one that doesn't come back in so long doesn't come back."""

CERTIFICATE_DAYS: Final = 7.0
"""It is renewed long before; so close to its end something is wrong with the renewal."""

REFUSED_MIN: Final = 10
"""Commands refused in an hour: an operator's mistake makes a few, an attack makes many."""

HAPPENED_S: Final = 24 * 3600.0
"""What can't become well, such as a fork, is shown for a day."""


class Happened(Protocol):
    """Something in the books that can't be undone; see `store.reading.breaks`."""

    @property
    def kind(self) -> str: ...

    @property
    def epoch(self) -> str: ...

    @property
    def sequence(self) -> int: ...

    @property
    def reason(self) -> str: ...


def backlog(age_s: float | None, records: int, limit_s: float) -> Look:
    """`age_s`: how long the oldest record has waited for the backend; None: nothing waits."""
    age = age_s or 0.0
    said = f"{records} records wait for the backend, the oldest for {age / 3600:.1f} hours"
    facts = {"records": records, "oldest_s": round(age), "limit_s": round(limit_s)}
    return Look("backlog", age >= limit_s, age < limit_s / 2, said, facts)


def budget(used: Used | None) -> Look:
    """None: there is no budget, or nobody can say."""
    if used is None:
        return Look("budget", wrong=False, well=True)
    spent, share = f"{used.spent:f}", used.share
    step = "all" if share >= 1 else "most"
    said = f"{share:.0%} of the budget of {used.limit.amount:f} {used.currency} a {used.limit.period} is spent"
    facts = {"spent": spent, "limit": f"{used.limit.amount:f}", "currency": used.currency, "span": used.span, "share": f"{share:.3f}"}
    return Look("budget", share >= BUDGET_SHARE, share < BUDGET_WELL, said, facts, key=f"{used.span}:{step}")


def microphone(health: Mapping[str, Any] | None, silent_s: float) -> Look:
    """`health`: `{hearing, device, why}`; None: this robot has no microphone."""
    if health is None:
        return Look("microphone", wrong=False, well=True)
    hearing, why = bool(health.get("hearing")), str(health.get("why") or "it gives no sound")
    facts = {"device": str(health.get("device") or ""), "why": why, "for_s": round(silent_s)}
    return Look("microphone", not hearing, hearing, f"the robot has not heard for {silent_s:.0f} s: {why}"[:1000], facts, hold_s=silent_s)


def engine(failing: Mapping[str, str]) -> Look:
    """`failing`: part -> why it does not work."""
    said = "; ".join(f"{part}: {why}" for part, why in sorted(failing.items()))
    return Look("engine", bool(failing), not failing, said[:1000], dict(failing), key=",".join(sorted(failing)), hold_s=ENGINE_S)


def certificate(state: str, days_left: float | None) -> Look:
    """`state`: none, good, renew, expired or revoked. `days_left` None: nobody can say."""
    close = days_left is not None and days_left < CERTIFICATE_DAYS and state not in ("none", "good")
    bad = state in ("expired", "revoked")
    said = f"the robot's certificate is {state}" if bad else f"the robot's certificate ends in {days_left or 0:.1f} days and is not renewed"
    facts: dict[str, Any] = {"state": state} | ({} if days_left is None else {"days_left": round(days_left, 1)})
    return Look("certificate", bad or close, state in ("none", "good"), said, facts, key=state if bad else "ending")


def refused(last_hour: int) -> Look:
    """Commands refused in the last hour."""
    said = f"{last_hour} commands were refused within an hour"
    return Look("refused-commands", last_hour >= REFUSED_MIN, last_hour == 0, said, {"count": last_hour})


def twin(state: str, version: int, why: str) -> Look:
    """As the robot reports it; while one is tried nobody can tell."""
    bad = state in ("refused", "failed")
    said = f"version {version} of what is wanted of this robot was {'not taken' if state == 'refused' else 'taken back'}: {why}"
    return Look("twin", bad, state in ("applied", "none"), said[:1000], {"state": state, "version": version}, key=str(version))


def happened(name: Any, breaks: Sequence[Happened]) -> Look:
    """`name`: fork or gap. `breaks`: oldest first."""
    found = [one for one in breaks if one.kind == name]
    if not found:
        return Look(name, wrong=False, well=True)
    last = found[-1]
    said = {
        "fork": f"the books and the backend's told different stories, so a new epoch has begun: {last.reason}",
        "gap": f"records are lost for good: {last.reason}",
    }[name]
    facts = {"epoch": last.epoch, "sequence": last.sequence, "reason": last.reason, "in_all": len(found)}
    return Look(name, wrong=True, well=False, message=said, facts=facts, key=f"{last.epoch}:{last.sequence}", lasts_s=HAPPENED_S)
