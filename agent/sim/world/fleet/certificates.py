"""What must be true of robots' certificates when a scenario has ended."""

from collections import Counter
from collections.abc import Iterable, Mapping

from agent.sim.world.evidence import Certificate, Evidence
from agent.sim.world.fleet.orders import few

STRUCK_OFF = "struck off"
"""What a robot says that was told so."""


def checked(found: Evidence, withheld: Mapping[str, int]) -> tuple[bool, str]:
    """Who was not revoked is let in and has a good one; who was is kept out and knows it; none was ever without voice.

    `withheld`: by revoked device, calls on its own books that were never billed.
    """
    wrong = [f"{name}: {why}" for name, one in sorted(found.certificates.items()) if (why := _amiss(name, one, found, withheld))]
    every = found.certificates.values()
    words = Counter(word for one in every for word in one.words)
    revoked, expired = sum(one.revoked for one in every), sum(one.expired and not one.revoked for one in every)
    told = f"{len(every) - revoked} good, {expired} expired on the way; {revoked} struck off; "
    told += f"brokers said expired to {words['expired']}, revoked to {words['revoked']}"
    shown = bool(revoked and expired)
    return shown and not wrong, few(wrong) if wrong else told if shown else f"nothing was shown: {told}"


def _amiss(name: str, one: Certificate, found: Evidence, withheld: Mapping[str, int]) -> str:
    """What is wrong with it; empty: nothing."""
    if one.mute:
        return f"{one.mute} turns could not be held"
    if not one.revoked:
        good = one.state == "good" and one.left_s > 0 and one.connected
        return "" if good else f"its certificate is {one.state} and ends in {one.left_s:.0f} s; {'in' if one.connected else 'not let in'}"
    if one.connected:
        return "was revoked, and let in"
    if one.state != "revoked" or not any(STRUCK_OFF in line for line in found.says.get(name, ())):
        return f"was revoked, and says {one.state}"
    if not one.words:
        return "was revoked, and no broker refused it"
    return "" if withheld.get(name) else "was revoked, and holds no records of its own"


def figures(found: Evidence, withheld: int) -> dict[str, int]:
    """Of a world in which no certificate ends: none."""
    return {"revoked": len(revoked(found.certificates.items())), "withheld": withheld} if found.certificates else {}


def revoked(given: Iterable[tuple[str, Certificate]]) -> frozenset[str]:
    """Devices."""
    return frozenset(name for name, one in given if one.revoked)
