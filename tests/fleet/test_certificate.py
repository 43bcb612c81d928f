"""How a certificate stands and what comes next: every case, and what must hold for any dates and clocks."""

import datetime
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import ClockQuality
from agent.fleet.certificate import (
    DAY_S,
    SPAN_S_MIN,
    TRUSTED,
    Contact,
    Dates,
    Nothing,
    Promote,
    Refusals,
    Renew,
    State,
    Step,
    Test,
    Tried,
    Word,
    met,
    next_step,
    renewal_s,
    state_of,
)

MADE = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)


def dates(days: float = 90) -> Dates:
    return Dates(MADE, MADE + datetime.timedelta(days=days))


def after(days: float) -> datetime.datetime:
    return MADE + datetime.timedelta(days=days)


@pytest.mark.parametrize(
    ("days", "quality", "away_days", "told", "state"),
    [
        (0, "ntp", 0, "", "good"),
        (47.9, "ntp", 0, "", "good"),
        (48.1, "ntp", 0, "", "renew"),
        (29, "signed", 20, "", "good"),
        (31, "signed", 20, "", "renew"),
        (44, "ntp", 60, "", "good"),
        (46, "ntp", 60, "", "renew"),
        (89.9, "ntp", 0, "", "renew"),
        (90, "ntp", 0, "", "expired"),
        (4000, "signed", 0, "", "expired"),
        (4000, "floor", 0, "", "renew"),
        (4000, "none", 0, "", "renew"),
        (-20000, "none", 0, "", "good"),
        (4000, "none", 0, "expired", "expired"),
        (1, "ntp", 0, "expired", "expired"),
        (1, "ntp", 0, "refused", "renew"),
        (1, "none", 0, "refused", "renew"),
        (91, "ntp", 0, "refused", "expired"),
        (1, "ntp", 0, "revoked", "revoked"),
        (4000, "ntp", 0, "revoked", "revoked"),
    ],
)
def test_how_it_stands(days: float, quality: ClockQuality, away_days: float, told: Word, state: State) -> None:
    assert state_of(dates(), after(days), quality, away_days * DAY_S, told) == state


def test_there_may_be_none() -> None:
    assert state_of(None, MADE, "ntp", 0, "revoked") == "none"


@pytest.mark.parametrize(("lifetime_days", "away_days", "before_days"), [(90, 0, 42), (90, 20, 60), (90, 60, 45), (30, 0, 15), (1, 0, 0.5)])
def test_when_it_is_renewed(lifetime_days: float, away_days: float, before_days: float) -> None:
    assert renewal_s(dates(lifetime_days), away_days * DAY_S) == pytest.approx(before_days * DAY_S)


@pytest.mark.parametrize(
    ("looks", "now_s", "known_s", "enough"),
    [(1, 9e9, 9e9, False), (2, 9e9, 9e9, False), (3, 99.0, 0, False), (3, 110.0, 0, True), (3, 20.0, 100.0, True), (3, 20.0, 99.0, False)],
)
def test_what_is_refused_often_and_for_long_is_enough(looks: int, now_s: float, known_s: float, enough: bool) -> None:
    refusals = Refusals(1, 10.0)
    for _ in range(looks - 1):
        refusals = refusals.again()
    assert refusals.enough(now_s, 100.0, known_s) == enough


CASES: list[tuple[State, str, Tried, bool, bool, Step]] = [
    ("none", "nothing", "untried", False, False, Nothing()),
    ("none", "key", "untried", False, False, Renew()),
    ("none", "key", "untried", True, False, Nothing()),
    ("none", "candidate", "spent", False, False, Renew()),
    ("none", "candidate", "untried", False, False, Test()),
    ("good", "nothing", "untried", False, False, Nothing()),
    ("good", "key", "untried", False, False, Renew()),
    ("renew", "nothing", "untried", False, False, Renew()),
    ("renew", "nothing", "untried", True, False, Nothing()),
    ("expired", "key", "untried", False, False, Renew()),
    ("expired", "candidate", "untried", True, False, Test()),
    ("expired", "candidate", "taken", True, False, Promote()),
    ("renew", "candidate", "spent", False, False, Renew()),
    ("renew", "candidate", "spent", True, False, Nothing()),
    ("revoked", "nothing", "untried", False, False, Renew()),
    ("revoked", "nothing", "untried", True, False, Nothing()),
]


@pytest.mark.parametrize(("state", "stage", "tried", "asked", "struck_off", "step"), CASES)
def test_what_comes_next(state: State, stage: str, tried: Tried, asked: bool, struck_off: bool, step: Step) -> None:  # noqa: PLR0917
    assert next_step(state, stage, tried, asked=asked, struck_off=struck_off) == step


@given(st.sampled_from(get_args(State)), st.sampled_from(["nothing", "key", "candidate"]), st.sampled_from(get_args(Tried)), st.booleans())
def test_who_was_struck_off_does_nothing_and_nobody_is_asked_twice(state: State, stage: str, tried: Tried, asked: bool) -> None:
    assert isinstance(next_step(state, stage, tried, asked=asked, struck_off=True), Nothing)
    assert next_step(state, stage, tried, asked=True, struck_off=False) != Renew()


SPANS = st.floats(0, 400 * DAY_S)


@given(st.floats(1, 900), st.floats(-30_000, 30_000), st.sampled_from(get_args(ClockQuality)), SPANS)
def test_only_a_trusted_clock_expires_and_every_certificate_is_renewed_before_its_end(
    lifetime_days: float, days: float, quality: ClockQuality, longest_s: float
) -> None:
    state = state_of(dates(lifetime_days), after(days), quality, longest_s)
    assert (state == "expired") == (days >= lifetime_days and quality in TRUSTED)
    assert 0 < renewal_s(dates(lifetime_days), longest_s) < lifetime_days * DAY_S
    if state == "good":
        assert days < lifetime_days
    assert renewal_s(dates(4000), longest_s) >= 3 * SPAN_S_MIN


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 10**10)), min_size=1, max_size=20))
def test_the_longest_span_never_shrinks(steps: list[tuple[bool, bool, int]]) -> None:
    kept: Contact | None = None
    boot, boottime_ms, time = 0, 0, MADE
    for reboots, trusted, passed_ms in steps:
        boot, boottime_ms = (boot + 1, 0) if reboots else (boot, boottime_ms + passed_ms)
        time += datetime.timedelta(milliseconds=passed_ms)
        before = kept.longest_s if kept else 0.0
        kept = met(kept, Contact(str(boot), boottime_ms, time if trusted else None))
        assert kept.longest_s >= before >= 0
