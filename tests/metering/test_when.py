"""When things happened, out of boot times and anchors."""

import datetime
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import FLOOR
from agent.metering.cards import period_of
from agent.metering.when import DRIFT_PPM, Anchor, Moment, When, resolve

HOUR_MS = 3_600_000
NOON = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)
TEN_YEARS = datetime.timedelta(days=3652)
SECOND = datetime.timedelta(seconds=1)


def hours(count: float) -> datetime.timedelta:
    return datetime.timedelta(hours=count)


def anchor(hour: float, utc: datetime.datetime, boot: str = "a", quality: Literal["ntp", "signed"] = "ntp") -> Anchor:
    return Anchor(boot, int(hour * HOUR_MS), utc, quality)


def moment(hour: float, boot: str = "a") -> Moment:
    return Moment(boot, int(hour * HOUR_MS))


def good(*at: float, quality: Literal["ntp", "signed"] = "ntp") -> list[Anchor]:
    """True anchors of boot a, which began at noon."""
    return [anchor(hour, NOON + hours(hour), quality=quality) for hour in at]


def bad(*at: float, by: datetime.timedelta = TEN_YEARS) -> list[Anchor]:
    return [anchor(hour, NOON + hours(hour) + by) for hour in at]


def only(anchors: list[Anchor], hour: float) -> When:
    (when,) = resolve([moment(hour)], anchors)
    return when


def holds(when: When, truth: datetime.datetime) -> bool:
    assert when.earliest is not None
    assert when.latest is not None
    return when.earliest <= truth <= when.latest


def width(when: When) -> datetime.timedelta:
    assert when.earliest is not None
    assert when.latest is not None
    return when.latest - when.earliest


def test_a_moment_is_as_far_from_its_anchor_as_boot_time_says_give_or_take_the_drift() -> None:
    when = only(good(1), 3)
    assert when.exact
    assert holds(when, NOON + hours(3))
    assert hours(4) * DRIFT_PPM / 1e6 <= width(when) <= hours(4) * DRIFT_PPM / 1e6 + SECOND
    assert when.billed == when.latest


def test_two_anchors_bound_a_moment_closer_than_one() -> None:
    assert width(only(good(0, 10), 9)) < width(only(good(0), 9))
    assert width(only(good(0, 10), 9)) <= width(only(good(10), 9))


@pytest.mark.parametrize("wrong", [1, 3])
def test_what_an_anchor_saw_is_as_sharp_as_boot_time(wrong: int) -> None:
    when = only([*good(2), *bad(wrong)], 2)
    assert when.exact
    assert width(when) < SECOND


def test_without_anchors_nothing_is_known() -> None:
    assert only([], 1) == When(None, None)
    assert only([], 1).billed is None
    assert only([anchor(1, NOON, boot="else")], 1) == When(None, None)
    assert resolve([], good(1)) == []


@pytest.mark.parametrize("by", [TEN_YEARS, -TEN_YEARS, datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) - NOON])
@pytest.mark.parametrize("steps", [(4.0,), (4.0, 5.0, 6.0)])
def test_a_step_of_the_wall_clock_blurs_only_what_lies_between(by: datetime.timedelta, steps: tuple[float, ...]) -> None:
    anchors = [*good(1, 2), *bad(*steps, by=by), *good(8, 9)]
    times = [0.5, 1.5, 3.0, 4.5, 5.0, 7.0, 8.5, 20.0]
    whens = resolve([moment(hour) for hour in times], anchors)
    assert all(holds(when, NOON + hours(hour)) for when, hour in zip(whens, times, strict=True))
    outside = [when for when, hour in zip(whens, times, strict=True) if not 2 < hour < 8]
    assert all(when.exact and width(when) < datetime.timedelta(minutes=1) for when in outside)
    if by > hours(0):  # what is before FLOOR is not even doubted
        assert not any(when.exact for when, hour in zip(whens, times, strict=True) if 2 < hour < 8)


def test_a_clock_that_never_comes_back_blurs_the_step_alone() -> None:
    before, between, after = resolve([moment(1), moment(3), moment(6)], [*good(2), *bad(4, 5)])
    assert before.exact
    assert (between.exact, between.billed) == (False, only(bad(4), 3).latest)
    assert holds(between, NOON + hours(3))
    assert after.exact


def test_1970_is_nobodys_time() -> None:
    first = anchor(1, datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC), quality="signed")
    assert only([first], 2) == When(None, None)
    assert only([first, *good(3)], 2) == only(good(3), 2)


def test_nothing_is_earlier_than_the_floor() -> None:
    when = only([anchor(10, FLOOR + hours(1))], 2)
    assert (when.earliest, when.latest, when.exact) == (FLOOR, FLOOR, False)


def test_signed_time_overrules_ntp_that_contradicts_it() -> None:
    assert only([*good(2, quality="signed"), *bad(3)], 4) == only(good(2, quality="signed"), 4)
    assert only([*bad(1), *good(2, quality="signed")], 0) == only(good(2, quality="signed"), 0)
    agreeing = [*good(2, quality="signed"), *good(3)]
    assert width(only(agreeing, 4)) < width(only(agreeing[:1], 4))


def test_anchors_that_differ_by_a_slow_link_still_agree() -> None:
    soon = NOON + hours(2.001)
    first, middle = good(2, quality="signed"), 2.0005
    when = only([*first, anchor(2.001, soon + SECOND, quality="signed")], middle)
    assert when.exact
    assert holds(when, NOON + hours(middle))
    assert holds(when, NOON + hours(middle) + SECOND)
    assert not only([*first, anchor(2.001, soon + 10 * SECOND, quality="signed")], middle).exact


def test_a_boot_without_an_anchor_lies_between_its_neighbours() -> None:
    """What may be of November or of December is billed in December, and flagged."""
    eve = datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.UTC)
    anchors = [anchor(0, eve), anchor(0, eve + hours(14), boot="c")]
    moments = [moment(1), moment(2, "b"), moment(5, "b"), moment(1, "c")]
    _, first, second, _ = resolve(moments, anchors)
    for when, low, high in ((first, 3, 11), (second, 6, 14)):
        assert not when.exact
        assert when.earliest is not None
        assert abs(when.earliest - eve - hours(low)) < 20 * SECOND
        assert when.billed is not None
        assert abs(when.billed - eve - hours(high)) < 20 * SECOND
    assert first.billed is not None
    assert second.billed is not None
    assert [period_of(when, "UTC") for when in (first.billed, second.billed)] == ["2026-11", "2026-12"]
    assert second.earliest is not None
    assert period_of(second.earliest, "UTC") == "2026-11"


def test_boots_without_anchors_hand_their_bounds_on() -> None:
    moments = [moment(1), moment(2, "b"), moment(3, "c"), moment(1, "d")]
    _, second, third, last = resolve(moments, good(1))
    assert (second.latest, third.latest, last.latest) == (None, None, None)
    assert last.earliest is not None
    assert abs(last.earliest - NOON - hours(1 + 2 + 3 + 1)) < 20 * SECOND
    whens = resolve(moments, [anchor(1, NOON, boot="d")])
    assert [when.earliest for when in whens[:3]] == [None, None, None]
    assert whens[0].latest is not None
    assert abs(whens[0].latest - NOON + hours(1 + 3 + 2)) < 20 * SECOND


def test_a_boot_lasted_until_its_last_anchor() -> None:
    _, when = resolve([moment(1), moment(2, "b")], good(0, 10))
    assert when.earliest is not None
    assert abs(when.earliest - NOON - hours(10 + 2)) < 20 * SECOND


def test_neighbours_that_contradict_leave_bounds_in_order() -> None:
    anchors = [anchor(1, NOON + TEN_YEARS), anchor(1, NOON, boot="c")]
    _, when, _ = resolve([moment(1), moment(1, "b"), moment(1, "c")], anchors)
    assert when.earliest is not None
    assert when.latest is not None
    assert when.earliest < when.latest
    assert not when.exact


def test_absurd_boot_times_are_bounded_not_an_error() -> None:
    huge = Moment("a", 2**63)
    (when,) = resolve([huge], good(1))
    assert when.billed is not None
    assert period_of(when.billed, "Asia/Shanghai") == "9000-01"
    resolve([huge, Moment("b", 2**63), moment(1, "c")], [*good(1), anchor(1, NOON, boot="c")])


@dataclass
class Robot:
    """True moments and anchors of a robot whose boot clock is off by less than the drift, differently all the time."""

    truth: list[datetime.datetime] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    anchors: list[Anchor] = field(default_factory=list)


@st.composite
def robots(draw: st.DrawFn) -> Robot:
    robot, now = Robot(), FLOOR + datetime.timedelta(microseconds=draw(st.integers(0, 10**12)))
    for boot in "abcde"[: draw(st.integers(1, 5))]:
        now += datetime.timedelta(microseconds=draw(st.integers(0, 10**13)))
        boottime_us = Fraction(0)
        for _ in range(draw(st.integers(0, 6))):
            passed_us = draw(st.integers(0, 10**12))
            boottime_us += passed_us * (1 + Fraction(draw(st.integers(-500, 500)), 1_000_000))
            now += datetime.timedelta(microseconds=passed_us)
            boottime_ms = int(boottime_us // 1000)
            match draw(st.sampled_from(["moment", "moment", "moment", "ntp", "signed"])):
                case "moment":
                    robot.truth.append(now)
                    robot.moments.append(Moment(boot, boottime_ms))
                case quality:
                    robot.anchors.append(Anchor(boot, boottime_ms, now, "ntp" if quality == "ntp" else "signed"))
    return robot


@given(robots())
def test_the_truth_lies_within_the_bounds_when_anchors_are_true(robot: Robot) -> None:
    anchors = robot.anchors[::-1]
    for truth, when in zip(robot.truth, resolve(robot.moments, anchors), strict=True):
        assert when.earliest is None or when.earliest <= truth
        assert when.latest is None or truth <= when.latest
    anchored = {one.boot_id for one in anchors}
    assert [when.exact for when in resolve(robot.moments, anchors)] == [one.boot_id in anchored for one in robot.moments]


@given(
    st.lists(st.integers(1, 99), min_size=1, max_size=8),
    st.lists(st.integers(1, 99), max_size=8),
    st.lists(st.integers(0, 1000), min_size=1, max_size=8),
    st.integers(1, 3652 * 24).map(hours),
)
def test_the_truth_lies_within_the_bounds_around_any_step_that_is_undone(
    trues: list[int], falses: list[int], at: list[int], by: datetime.timedelta
) -> None:
    """However often the clock is stepped to the same wrong time, as long as it was right at first and at last."""
    anchors = [*good(0, 100, *trues), *bad(*(hour + 0.5 for hour in falses), by=by)]
    times = sorted(hour / 10 for hour in at)
    for hour, when in zip(times, resolve([moment(hour) for hour in times], anchors), strict=True):
        assert holds(when, NOON + hours(int(hour * HOUR_MS) / HOUR_MS))
