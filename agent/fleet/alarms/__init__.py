"""Decides when an alarm is raised and when it is cleared: once at each edge, whatever flaps, and not again after a restart. Pure.

Theory of operation. Something that is looked at is wrong, well, or between the two; what lies between, and what can't be told, leaves
an alarm as it is.

    cleared --wrong for hold_s--> raised --well--> cleared
    raised  --wrong in another way (its key has changed)--> raised once more

An alarm that was raised within REPEAT_S is not raised again for the same thing: what flaps is told once an hour. What happened once
and can't become well, such as a fork, is cleared after `lasts_s`. An edge counts only when `took` has been called: whoever could not
tell it finds it again at the next look. What is `told` outlives a restart.
"""

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from agent.contract.fleet.alarm import Alarm, AlarmName

REPEAT_S: Final = 3600.0
"""An alarm that somebody got within the hour they still know."""


@dataclass(frozen=True, slots=True)
class Look:
    """How one thing stands."""

    name: AlarmName
    wrong: bool
    well: bool
    """Neither: between the two, or nobody can tell."""
    message: str = ""
    """What is wrong, one line."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""
    """In which way it is wrong; another one is another alarm."""
    hold_s: float = 0.0
    """It must be wrong for so long."""
    lasts_s: float = 0.0
    """After so long it is cleared although it is still wrong in the same way; 0: never."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What is remembered of an alarm."""

    raised: bool = False
    since: str = ""
    """RFC 3339, of the last edge."""
    raised_at: str = ""
    """RFC 3339; when it was raised last."""
    key: str = ""
    """Of when it was raised last."""


REMEMBERED = TypeAdapter(dict[str, Standing])


class Alarms:
    """All alarms of one robot."""

    def __init__(self, device: str, remembered: Mapping[str, Any] | None = None) -> None:
        """`device`: `{tenant}/{device}`. `remembered`: what `told` gave before a restart; what can't be read is forgotten."""
        self._device = device
        try:
            self._standing = REMEMBERED.validate_python(dict(remembered or {}))
        except ValidationError:
            self._standing = {}
        self._wrong_since: dict[str, float] = {}

    def told(self) -> dict[str, Any]:
        """Plain values."""
        return {name: asdict(one) for name, one in self._standing.items()}

    def raised(self) -> list[str]:
        return sorted(name for name, one in self._standing.items() if one.raised)

    def edges(self, looks: Iterable[Look], now_s: float, utc: datetime.datetime) -> list[tuple[Alarm, Look]]:
        """What is to be told now. `now_s`: monotonic, for what must hold for a while; `utc`: for what outlives a restart."""
        return [(alarm, look) for look in looks if (alarm := self._edge(look, now_s, utc))]

    def took(self, alarm: Alarm, look: Look) -> None:
        """An edge was told."""
        held = self._standing.get(alarm.name, Standing())
        if alarm.state == "raised":
            self._standing[alarm.name] = Standing(True, alarm.since, alarm.since, look.key)
        else:
            self._standing[alarm.name] = replace(held, raised=False, since=alarm.since)

    def _edge(self, look: Look, now_s: float, utc: datetime.datetime) -> Alarm | None:
        held = self._standing.get(look.name, Standing())
        if not look.wrong:
            self._wrong_since.pop(look.name, None)
            return self._alarm(look, "cleared", utc) if held.raised and look.well else None
        long_enough = now_s - self._wrong_since.setdefault(look.name, now_s) >= look.hold_s
        same, age_s = look.key == held.key, _age_s(held.raised_at, utc)
        if held.raised and same:
            over = 0 < look.lasts_s < age_s
            return self._alarm(look, "cleared", utc) if over else None
        known = same and bool(held.raised_at) and (age_s < REPEAT_S or look.lasts_s > 0)
        return self._alarm(look, "raised", utc) if long_enough and not known else None

    def _alarm(self, look: Look, state: Any, utc: datetime.datetime) -> Alarm:
        message = look.message if state == "raised" else f"over: {look.name}"
        since = utc.isoformat(timespec="milliseconds")
        return Alarm(name=look.name, state=state, device=self._device, since=since, message=message, facts=dict(look.facts))


def _age_s(moment: str, now: datetime.datetime) -> float:
    """A moment that is none, or in the future, was long ago: the clock has been set since, and an alarm too many is the smaller harm."""
    try:
        age_s = (now - datetime.datetime.fromisoformat(moment)).total_seconds()
    except (ValueError, TypeError):
        return float("inf")
    return age_s if age_s >= 0 else float("inf")
