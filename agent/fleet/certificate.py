"""Decides how a robot's certificate stands and what comes next, from its dates, the clock, and how long the robot has been away.

    good --renewal due--> renew --Renew--> (candidate) --Test--> taken --Promote--> good
    good, renew --not_after--> expired --Renew, over HTTPS, which needs no certificate--> (candidate) …
    revoked: by the backend's own word it is the end; by the broker's the backend is asked, which is a Renew

A broker that refuses without a word may not believe the authority yet, or any more: after a while another certificate is asked for,
and from then on once a day.

A certificate that expires while nobody can be reached is no fault: the next road to the backend brings another. A clock that can't
be trusted never declares one expired; then it counts what the other side says.
"""

import datetime
from dataclasses import dataclass
from typing import Literal, TypeAlias

from agent.clock import ClockQuality

DAY_S = 86_400.0

SPAN_S_MIN = 14 * DAY_S
"""A robot that was never away for longer may be one day: a holiday, a closed season, a technician who doesn't come."""

SPANS = 3
"""Renewed while so many of the longest spans remain: one may begin just now, the next be longer, and something may go wrong."""

TRUSTED: tuple[ClockQuality, ...] = ("ntp", "signed")

State = Literal["none", "good", "renew", "expired", "revoked"]

Word = Literal["", "expired", "revoked", "refused"]
"""What the other side said of the certificate; `refused`: for long it lets nobody in who shows it, and doesn't say why."""

Tried = Literal["untried", "taken", "refused", "spent", "unreachable"]
"""How the candidate fared at the broker; `spent`: it has expired or been revoked before it was ever used, or was refused for long."""

REFUSED_LOOKS = 3
"""So often at least: a broker that is being set up refuses once or twice."""

GIVEN_UP_S = DAY_S
"""A candidate that is refused for so long is given up, so at most one a day is asked for."""

UNWELCOME_S = 6 * 3600.0
"""One in use that is refused for so long is renewed: less than a day, for many robots are switched off at night."""


@dataclass(frozen=True, slots=True)
class Dates:
    """From when to when a certificate is valid."""

    not_before: datetime.datetime
    not_after: datetime.datetime


@dataclass(frozen=True, slots=True)
class Contact:
    """When the backend or its broker was there last, by every clock there is, and the longest time that it was not."""

    boot_id: str
    boottime_ms: int
    time: datetime.datetime | None
    """None where the clock could not be trusted."""
    longest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Refusals:
    """Looks at which the broker refused without a word, with no welcome in between."""

    looks: int
    since_s: float
    """Of the first, in running time."""

    def again(self) -> "Refusals":
        return Refusals(self.looks + 1, self.since_s)

    def enough(self, now_s: float, patience_s: float, known_s: float = 0.0) -> bool:
        """`known_s`: the certificate is so old, as far as that is known; a reboot doesn't begin that anew."""
        return self.looks >= REFUSED_LOOKS and max(now_s - self.since_s, known_s) >= patience_s


@dataclass(frozen=True, slots=True)
class Nothing:
    """Wait and look again."""

    why: str = ""
    """One line for people, where somebody should know."""


@dataclass(frozen=True, slots=True)
class Renew:
    """Ask the backend for another certificate, over HTTPS."""


@dataclass(frozen=True, slots=True)
class Test:
    """Connect to the broker with the candidate."""

    __test__ = False  # no test of pytest's


@dataclass(frozen=True, slots=True)
class Promote:
    """Put the candidate to use."""


Step: TypeAlias = Nothing | Renew | Test | Promote

AFTER: dict[Tried, Step] = {
    "untried": Test(),
    "taken": Promote(),
    "unreachable": Nothing("the new certificate waits for the broker"),
    "refused": Nothing("the broker refuses the new certificate: does it believe the backend's authority?"),
}
"""What follows from how a candidate fared."""


def met(before: Contact | None, now: Contact) -> Contact:
    """The contact of this moment, which ends a span: counted in running time within a boot, else in trusted time, else since the boot."""
    return Contact(now.boot_id, now.boottime_ms, now.time, max(before.longest_s if before else 0.0, away_s(before, now)))


def away_s(before: Contact | None, now: Contact) -> float:
    """Seconds between two contacts, never less than nothing."""
    if before is None:
        return 0.0
    since_boot_s = now.boottime_ms / 1000
    if before.boot_id == now.boot_id:
        return max(0.0, since_boot_s - before.boottime_ms / 1000)
    if before.time is not None and now.time is not None:
        return max(0.0, (now.time - before.time).total_seconds(), since_boot_s)
    return since_boot_s


def renewal_s(dates: Dates, longest_s: float) -> float:
    """Seconds before its end at which a certificate is renewed: SPANS of the longest span, or half its life where that is shorter."""
    lifetime_s = (dates.not_after - dates.not_before).total_seconds()
    wanted_s = SPANS * max(longest_s, SPAN_S_MIN)
    return wanted_s if wanted_s < lifetime_s else lifetime_s / 2


def state_of(dates: Dates | None, now: datetime.datetime, quality: ClockQuality, longest_s: float, told: Word = "") -> State:
    """How the certificate stands; `told`: what the other side said of it last."""
    if dates is None:
        return "none"
    if told == "revoked":
        return "revoked"
    over = now >= dates.not_after
    if told == "expired" or (over and quality in TRUSTED):
        return "expired"
    due = told == "refused" or (dates.not_after - now).total_seconds() < renewal_s(dates, longest_s)
    return "renew" if due else "good"


def next_step(state: State, stage: str, tried: Tried, *, asked: bool, struck_off: bool) -> Step:
    """What to do; `stage`: how far the next certificate is (nothing, key, candidate), `asked`: the backend was, in this look.

    `struck_off`: the backend itself said that this robot is revoked.
    """
    if struck_off:
        return Nothing("this robot was struck off: its operator must enrol it again")
    if stage == "candidate" and tried != "spent":
        return AFTER[tried]
    wanted = state in ("renew", "expired", "revoked") or stage != "nothing"  # a key alone is left by an enrolment that was cut off
    return Renew() if wanted and not asked else Nothing()
