"""Since when the book of commands is whole: a ledger that is gone may have taken what was issued before, so nothing of that is run.

Written into `meta` as an epoch begins, for whatever ends one (a loss, damage, an older copy) may have taken commands along:

    a moment            seconds since 1970, where the clock could be trusted then, or has told it since
    boot id : ms        none could be trusted; the first that can makes it a moment. Of a boot that is over only its end is known,
                        which was before this one began

Until there is a moment, only the nonce of a connection shows that a command is new. Moments are late rather than early.
"""

import math
import re
import sqlite3
from typing import Final

from agent.clock import Clock
from agent.store.db import meta, put_meta
from agent.store.ledger.chain import TIMED_QUALITIES

FLOOR: Final = "commands_from"
"""In `meta`. A ledger of an older version has none: its book is whole."""

APART_S = 120
"""Half a minute that two clocks may differ by, and a minute that a signed time may be late by; the rest is room."""

MOMENT, BOOTED = re.compile(r"([0-9]{1,16})"), re.compile(r"([0-9a-f]{32}):([0-9]{1,16})")


def begun(clock: Clock, reason: str) -> str:
    """As it is written when an epoch begins. Before the first no book took anything, so its own beginning will do."""
    apart_s = 0 if reason == "first" else APART_S
    if clock.quality() in TIMED_QUALITIES:
        return str(math.floor(clock.utc().timestamp()) + apart_s)
    return f"{clock.boot_id()}:{clock.boottime_ms() + 1000 * apart_s}"


def told(connection: sqlite3.Connection, clock: Clock) -> float:
    """Seconds since 1970; 0: from ever, inf: no clock can tell yet. In the transaction that is open: the first that can is noted."""
    held = meta(connection).get(FLOOR, "")
    if not held or MOMENT.fullmatch(held):
        return float(held or 0)
    if clock.quality() not in TIMED_QUALITIES:
        return math.inf
    moment = _moment(held, clock)
    put_meta(connection, **{FLOOR: str(moment)})
    return float(moment)


def _moment(held: str, clock: Clock) -> int:
    """What was written in this boot was so long ago; what can't be read, as if it were written now."""
    found, now_s, booted_ms = BOOTED.fullmatch(held), clock.utc().timestamp(), clock.boottime_ms()
    if found is None:
        return math.ceil(now_s) + APART_S
    if found[1] == clock.boot_id():
        return math.floor(now_s - (booted_ms - int(found[2])) / 1000)
    return math.ceil(now_s - booted_ms / 1000) + APART_S
