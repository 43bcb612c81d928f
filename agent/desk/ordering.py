"""Decides which robots a sending is for, and makes its orders: ids, numbers, the time in which they may be run."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.clock import Clock
from agent.desk import keys
from agent.desk.roster import Roster
from agent.desk.sending import Order, Sending, What, group_orders, orders
from agent.errors import BadInput

VALID_MINUTES_MAX = 14 * 24 * 60
"""As long as a broker keeps what is meant for a robot that is away; robots take none that is longer."""

DEVICES_MAX = 50_000
"""In one sending: as many results are held in memory, and no fleet of one tenant is larger yet."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What an operator wants done, and by whom; exactly one of `devices`, `group` and `everyone`."""

    op: str
    args: Mapping[str, Any]
    valid_s: int
    devices: Sequence[str] = field(default=())
    group: str = ""
    everyone: bool = False

    def __post_init__(self) -> None:
        if (bool(self.devices) + bool(self.group) + self.everyone) != 1:
            raise BadInput("for which robots?", "give --device (as often as needed), --group or --all, one of the three")


def ordered(wish: Wish, tenant: str, roster: Roster, key_file: Path, clock: Clock) -> Sending:
    """A sending that is to be carried. Its numbers are durably taken. Raises BadInput where there is no key, or no such robot."""
    key, devices = keys.load(key_file), _devices(wish, roster)
    now = int(clock.utc().timestamp())
    what = What(wish.op, wish.args, now, now + wish.valid_s)
    made: list[Order]
    if wish.group:
        (number,) = keys.take_numbers(key_file, 1, clock)
        made = group_orders(what, tenant, wish.group, devices, number=number, cmd_id=clock.new_id())
    else:
        numbers = keys.take_numbers(key_file, len(devices), clock)
        made = orders(what, tenant, devices, numbers=numbers, ids=(clock.new_id() for _ in devices))
    return Sending(tenant, made, key, roster, lambda: (keys.take_numbers(key_file, 1, clock)[0], clock.new_id()))


def _devices(wish: Wish, roster: Roster) -> list[str]:
    if wish.group:
        found = [robot.device for robot in roster.members(wish.group)]
        if not found:
            raise BadInput(f"no robot says that it belongs to {wish.group!r}", "see: voxmeter fleet list")
    elif wish.everyone:
        found = [robot.device for robot in roster.known]
        if not found:
            raise BadInput("no robot of this tenant has ever been at this broker", "check --tenant and --broker")
    else:
        found = list(dict.fromkeys(wish.devices))
        _check_known(found, roster)
    if len(found) > DEVICES_MAX:
        raise BadInput(f"{len(found)} robots; the most at once is {DEVICES_MAX}", "send it to one group after the other")
    return found


def _check_known(devices: Sequence[str], roster: Roster) -> None:
    known = [robot.device for robot in roster.known]
    for device in devices:
        if device not in known:
            close = difflib.get_close_matches(device, known, 1)
            todo = f"did you mean {close[0]!r}?" if close else "see: voxmeter fleet list"
            raise BadInput(f"no robot {device!r} has ever been at this broker", todo)
