"""What must be true of commands and of attacks when a scenario has ended: (whether it is, what is told of it)."""

from collections import Counter
from collections.abc import Mapping, Sequence

from agent.sim.world.evidence import REFUSED, Attack, Evidence
from agent.sim.world.fleet.operator import ONCE, Ordered

TOLD_MAX = 3
"""Of what is wrong, so many are named."""

OFF_S_MAX = 60.0
"""A clock may be wrong by so much: what a slow connection does to a signed time."""

DOES = {"say": "speak", "privacy.forget": "forget"}
"""Op -> what a robot does; of the others nobody keeps count."""


def commands(found: Evidence) -> tuple[bool, str]:
    """Each is answered, always the same; what was done was done as often as the answer says, and never twice what must not be."""
    wrong = [f"{one.command.op} {one.command.cmd_id}: {why}" for one in found.orders if (why := _amiss(one, _times(one, found)))]
    states = Counter(one.states[0] for one in found.orders if one.states)
    told = f"{len(found.orders)} commands: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    return bool(found.orders) and not wrong, few(wrong) if wrong else told


def attacks(found: Evidence, audit: Mapping[tuple[str, str], int]) -> tuple[bool, str]:
    """None did any harm, and each is on record. `audit`: (device, code or action) -> how often the backend's log tells of it."""
    wrong = [f"{one.kind} against {one.device}: {why}" for one in found.attacks if (why := _harm(one, found))]
    wrong += _unrecorded(found, audit)
    kinds = Counter(one.kind for one in found.attacks)
    told = f"{len(found.attacks)} refused and on record: " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return bool(found.attacks) and not wrong, few(wrong) if wrong else told


def _unrecorded(found: Evidence, audit: Mapping[tuple[str, str], int]) -> list[str]:
    """By device and code: the log must tell of as many as there were."""
    made = Counter((one.device, one.proof.removeprefix("audit ")) for one in found.attacks if one.proof.startswith("audit "))
    wrong = []
    for (device, codes), count in sorted(made.items()):
        told = sum(audit.get((device, code), 0) for code in codes.split(","))
        if told < count:
            wrong.append(f"{count} attacks on {device} that are {codes}, and the log tells of {told}")
    return wrong or _counted_twice(made, audit)


def _counted_twice(made: Mapping[tuple[str, str], int], audit: Mapping[tuple[str, str], int]) -> list[str]:
    """Where two kinds may have the same code, no line of the log stands for both."""
    wrong = []
    for device in sorted({device for device, _ in made}):
        count = sum(number for (owner, _), number in made.items() if owner == device)
        named = {code for owner, codes in made if owner == device for code in codes.split(",")}
        if (told := sum(audit.get((device, code), 0) for code in named)) < count:
            wrong.append(f"{count} attacks on {device} in all, and the log tells of {told}")
    return wrong


def _harm(one: Attack, found: Evidence) -> str:
    """What is wrong after an attack, as far as it concerns it alone; empty: nothing."""
    order = next((order for order in found.orders if order.command.cmd_id == one.cmd_id), None)
    done = found.did.get(one.device, {}).get(("speak", one.cmd_id), 0)
    if done > (order is not None and order.command.op == ONCE):
        return f"it was done, {done} times in all"
    where, _, what = one.proof.partition(" ")
    if where == "answered":
        noted = order is not None and order.told > 1
    elif where == "broker":
        return "" if what == REFUSED else f"the broker lets it through ({what})"
    elif where == "clock":
        off_s = abs(found.clocks.get(one.device, 0.0))
        return "" if off_s < OFF_S_MAX else f"its clock is wrong by {off_s:.0f} s"
    elif where == "said":
        noted = any(what in line for line in found.says.get(one.device, ()))
    else:
        noted = True  # counted together
    return "" if noted else f"nobody has it on record ({one.proof})"


def figures(found: Evidence) -> dict[str, int]:
    """Of a world without an operator: none."""
    if not found.orders:
        return {}
    lost = sum(not one.answered for one in found.orders)
    twice = sum(one.command.op == ONCE and _times(one, found) > 1 for one in found.orders)
    return {"commands": len(found.orders), "commands_lost": lost, "commands_twice": twice}


def few(wrong: Sequence[object]) -> str:
    """The first of them."""
    shown = ", ".join(" ".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in wrong[:TOLD_MAX])
    return shown + (f" and {len(wrong) - TOLD_MAX} more" if len(wrong) > TOLD_MAX else "")


def _times(one: Ordered, found: Evidence) -> int:
    """How often it was done, over all lives of its robot."""
    did: Mapping[tuple[str, str], int] = found.did.get(one.device, {})
    return did.get((DOES.get(one.command.op, ""), one.command.cmd_id), 0)


def _amiss(one: Ordered, times: int) -> str:
    """Why a command is not as it must be; empty: it is."""
    if not one.states:
        return "lost: nobody answered it"
    if len(set(one.states)) > 1:
        return f"answered as {' and '.join(sorted(set(one.states)))}"
    if one.command.op == ONCE and times > 1:
        return f"done {times} times"
    if one.command.op in DOES and one.states[0] == "succeeded" and not times:
        return "never done, and told as done"
    return f"done, and told as {one.states[0]}" if times and one.states[0] in ("rejected", "expired") else ""
